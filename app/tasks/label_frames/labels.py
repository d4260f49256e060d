"""A clip through a model: probabilities of each frame's labels, from the whole clip or frame by frame."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.video import Clip
from app.core.decoding.streaming import stream
from app.core.errors import InferenceFailed
from app.engine.model import Model
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.request.model_choice import AS_JSON, no_stream, streaming_twin
from app.web.speech.recognize import STREAMER, chunk_of, first_states

WHOLE: Final = "labeller"
OUTPUT: Final = "probabilities"


def graph_of(model: Model) -> str:
    """Which of its graphs labels frames."""
    return WHOLE if WHOLE in model.manifest.graphs else STREAMER


def streaming_model(call: Call, model: Model) -> Model:
    """The model that was chosen, where it streams; its twin, where it does not and the request named none.

    Raises:
        Conflict: the one that was named needs the whole clip; the twin that streams is named.
    """
    declared, catalog = model.manifest.frame_labels, call.context.registry.catalog
    assert declared is not None
    model = streaming_twin(call.options, catalog, model, declared.twin, "label-frames")
    if graph_of(model) == STREAMER:
        return model
    raise no_stream(catalog, model, declared.twin, whole="the whole clip", instead=AS_JSON)


async def label(call: Call, clip: Clip, on_step: OnStep | None = None) -> NDArray[np.float32]:
    """Probabilities (T, labels) of the leased model.

    Args:
        on_step: of a streaming model, called with each piece's number, from 1, and its outputs.

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.run` and `Call.sample`; or what comes is no number.
    """
    if graph_of(call.model) == STREAMER:
        manifest = call.model.manifest
        states, chunk = first_states(manifest), chunk_of(manifest)
        sampler = stream(clip.frames, chunk=chunk, states=states, into="video", out=OUTPUT)
        outputs = await call.sample(STREAMER, sampler, on_step)
    else:
        length = np.array([len(clip.frames)], np.int64)
        outputs = await call.run(WHOLE, {"video": clip.frames[None], "length": length})
    return checked(call.model, outputs[OUTPUT][0, : len(clip.frames)])


def checked(model: Model, probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Raises InferenceFailed where there are values that are not numbers."""
    if not np.isfinite(probabilities).all():
        raise InferenceFailed(f"model '{model.name}' gave values of '{OUTPUT}' that are not numbers")
    return np.asarray(probabilities, np.float32)
