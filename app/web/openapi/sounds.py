"""Sound in the OpenAPI document: its schemas in JSON, the bodies that bring it, and examples."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio import encode_wav
from app.engine.model import Model
from app.web.openapi.forms import files_schema, form_schema
from app.web.openapi.golden import golden_rows
from app.web.openapi.operation import Schema, file_schema
from app.web.request.media_types import FORM, NPY, SOUNDS

# As a picture in JSON: the codec checks it, which knows the model.
SOUND_SCHEMA: Final[Schema] = {
    "description": "A sound file as base64 (a `data:` URL is taken too): WAV, FLAC, Ogg or MP3.",
    "type": "string",
    "contentEncoding": "base64",
}
NPY_SAMPLES: Final = "float32 samples from -1 to 1, (samples,) or (rows, samples), at the model's own rate"
SOUND_FILES: Final = "sound files"
SHOWN_S: Final = 1.0  # of a longer recording only the beginning: the document holds it as base64
TONE_S, TONE_HZ = 0.5, 440.0


def sound_inputs(max_rows: int) -> dict[str, Schema]:
    """Schemas of `sound` and `sounds` in a JSON body."""
    return {
        "sound": SOUND_SCHEMA,
        "sounds": {"type": "array", "minItems": 1, "maxItems": max_rows, "items": SOUND_SCHEMA},
    }


def sound_bodies(options: Mapping[str, Schema], *, max_rows: int) -> dict[str, Schema]:
    """Schemas of the bodies other than JSON that sound comes in, by media type."""
    return {
        FORM: form_schema({"sound": files_schema(SOUND_FILES, max_rows)}, options),
        **{kind: file_schema(kind) for kind in SOUNDS},
        NPY: file_schema(NPY, NPY_SAMPLES),
    }


def example_sounds(model: Model) -> list[str]:
    """The model's shortest golden recordings as JSON has them, at most two; a tone where it has none."""
    sound = model.manifest.sound
    if sound is None:
        return []
    arrays = golden_rows(model)
    rows = arrays.get("sound", np.zeros((0, 0), np.float32))
    lengths = np.asarray(arrays.get("length", np.full(len(rows), rows.shape[-1])))
    shortest = [rows[i, : int(lengths[i])] for i in np.argsort(lengths, kind="stable")[:2]]
    return [as_base64(samples[: round(SHOWN_S * sound.rate)], sound.rate) for samples in shortest] or [tone(sound.rate)]


def tone(rate: int = 16_000) -> str:
    """Half a second of 440 Hz as JSON has it."""
    times = np.arange(round(TONE_S * rate)) / rate
    return as_base64(0.5 * np.sin(2 * np.pi * TONE_HZ * times), rate)


def as_base64(samples: NDArray[np.floating], rate: int) -> str:
    """Samples from -1 to 1 as base64 of a WAV file of 16 bits."""
    return base64.b64encode(encode_wav(samples, rate)).decode("ascii")
