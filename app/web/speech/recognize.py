"""Recordings through a model to transcripts: whole ones in one run, of a streaming model piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio import Clip
from app.core.decoding.pauses import cut
from app.core.decoding.streaming import Beam, outputs_of, stream
from app.core.decoding.tokens import REACH, Hypothesis
from app.core.errors import InferenceFailed
from app.core.manifest import Manifest, numpy_dtype
from app.engine.model import Model
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.request.model_choice import AS_JSON, no_stream, streaming_twin
from app.web.request.sounds import as_row
from app.web.speech.transcript import KEPT, Piece, Transcript, transcript
from app.web.work_pool import SEARCHED

WHOLE: Final = "recognizer"
STREAMER: Final = "streamer"
OUTPUT: Final = "log_probabilities"
SEARCHING: Final = "words were being searched"
SETTLE_S: Final = 1.0
"""Of a streaming model: a word that ended so long ago no longer changes."""


def graph_of(model: Model) -> str:
    """Which of its graphs transcribes."""
    return WHOLE if WHOLE in model.manifest.graphs else STREAMER


def check_streams(call: Call, model: Model, *, instead: str = AS_JSON) -> None:
    """Raises Conflict, which names the twin that streams, where the model needs the whole recording.

    Args:
        instead: what the client can do with such a model.
    """
    if graph_of(model) == STREAMER:
        return
    declared = model.manifest.transcription
    assert declared is not None
    catalog = call.context.registry.catalog
    raise no_stream(catalog, model, declared.twin, whole="the whole recording", instead=instead)


def streaming_model(call: Call, model: Model, *, instead: str = AS_JSON) -> Model:
    """The model that was chosen, where it streams; its twin, where it does not and the request named none.

    Raises:
        Conflict: as `check_streams`.
    """
    declared = model.manifest.transcription
    assert declared is not None
    model = streaming_twin(call.options, call.context.registry.catalog, model, declared.twin, "transcribe")
    check_streams(call, model, instead=instead)
    return model


async def transcribe(call: Call, clip: Clip, n: int, on_step: OnStep | None = None) -> Transcript:
    """What the leased model hears in one recording.

    Args:
        n: readings in the transcript.
        on_step: of a streaming model, called with each piece's number, from 1, and its outputs.

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.run` and `Call.sample`.
    """
    manifest = call.model.manifest
    if graph_of(call.model) == STREAMER:
        sampler = stream(clip.samples, chunk=chunk_of(manifest), states=first_states(manifest), flush=late(manifest))
        outputs = await call.sample(STREAMER, sampler, on_step)
        heard = [checked(call.model, outputs[OUTPUT][0])]
        bounds = [(0, len(clip.samples))]
    else:
        assert manifest.sound is not None
        most = manifest.sound.max_s
        look = partial(cut, clip.samples, rate=clip.rate, max_s=most)
        bounds = await call.offload(
            look, size=len(clip.samples), inline=clip.duration_s <= most, doing="pauses were being looked for"
        )
        found = await call.run_each(WHOLE, [as_row(clip.samples[a:b], clip.rate) for a, b in bounds])
        heard = [checked(call.model, one[OUTPUT][0, : int(one["steps"][0])]) for one in found]

    def decode() -> Transcript:
        several = max(n, KEPT) if len(bounds) > 1 else n
        parts = [
            Piece(search(log_probabilities, manifest, several), a / clip.rate, b / clip.rate)
            for log_probabilities, (a, b) in zip(heard, bounds, strict=True)
        ]
        return transcript(parts, manifest, duration_s=clip.duration_s, n=n)

    steps = sum(map(len, heard))
    return await call.offload(decode, size=SEARCHED * steps, doing=SEARCHING, owed=True)


def chunk_of(manifest: Manifest) -> int:
    """Samples of one piece of a streaming model."""
    chunk = manifest.graphs[STREAMER].inputs[0].shape[1]
    assert isinstance(chunk, int)
    return chunk


def first_states(manifest: Manifest) -> dict[str, NDArray[Any]]:
    """What a streaming model remembers before the first piece: zeros, of one row."""
    _, *states = manifest.graphs[STREAMER].inputs
    return {spec.name: np.zeros((1, *map(int, spec.shape[1:])), numpy_dtype(spec.dtype)) for spec in states}


def late(manifest: Manifest) -> int:
    """How many outputs later than the sound a streaming model's outputs are."""
    declared = manifest.transcription
    assert declared is not None
    return max(0, ceil(declared.delay_s / declared.step_s))


def steps_of(manifest: Manifest, samples: int) -> int:
    """Outputs of a streaming model that belong to a recording."""
    steps = manifest.graphs[STREAMER].outputs[0].shape[1]
    assert isinstance(steps, int)
    return outputs_of(samples, chunk_of(manifest), steps, late(manifest))


def beam(manifest: Manifest, n: int) -> Beam:
    """A new search. That of a streaming model settles what it has heard, however the sound came."""
    declared = manifest.transcription
    assert declared is not None
    settle = max(REACH, round(SETTLE_S / declared.step_s)) if STREAMER in manifest.graphs else None
    return Beam(n=max(n, 1), settle=settle)


def search(log_probabilities: NDArray[Any], manifest: Manifest, n: int) -> Sequence[Hypothesis]:
    """Hypotheses of (steps, labels + 1), best first, one at least."""
    searching = beam(manifest, n)
    searching.feed(log_probabilities)
    return searching.finish()


def checked(model: Model, log_probabilities: NDArray[Any]) -> NDArray[Any]:
    """Raises InferenceFailed where there are values that are not numbers; minus infinity is one."""
    if np.isnan(log_probabilities).any():
        raise InferenceFailed(f"model '{model.name}' gave values of '{OUTPUT}' that are not numbers")
    return log_probabilities
