"""A clip through a model: probabilities of each frame's labels, from the whole clip or frame by frame."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.video import Clip
from app.core.decoding.streaming import stream
from app.core.errors import Conflict, InferenceFailed, invalid
from app.engine.model import Model
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.request.model_choice import instead_of_streaming
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
    if not {"model", "version"} & set(call.options) and declared.twin in {one.name for one in catalog.models}:
        twin = catalog.get(declared.twin, None)
        model = twin if "label-frames" in twin.tasks else model
    if graph_of(model) == STREAMER:
        return model
    instead = instead_of_streaming(catalog, declared.twin)
    raise invalid(
        "model",
        expected=f"'{declared.twin}'" if declared.twin else "a model that streams",
        got=f"'{model.name}'",
        detail=f"model '{model.name}' needs the whole clip and cannot stream: {instead}",
        error=Conflict,
    )


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
