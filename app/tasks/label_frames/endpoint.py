"""POST /v1/label-frames: one clip in, a label for each of its frames out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from app.codecs.video import Clip
from app.core.manifest import Tensors
from app.engine.queue import OnStep
from app.tasks.label_frames.clips import clip_of
from app.tasks.label_frames.labels import OUTPUT, checked, graph_of, label, streaming_model
from app.tasks.label_frames.openapi import describe
from app.tasks.label_frames.outcome import frame_values, to_values, written
from app.tasks.label_frames.schema import LabelFramesAnswer, LabelFramesRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.form import RequestForm
from app.web.request.media_types import EVENT_STREAM, FORM, JSON, NPY, VIDEOS, VTT
from app.web.response.event_stream import Events, EventStream
from app.web.work_pool import SEARCHED


async def label_frames(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    model = call.choose_model("label-frames", "video")
    if call.media_type == EVENT_STREAM:
        model = streaming_model(call, model)
    graph, video = graph_of(model), model.manifest.video
    assert video is not None
    with call.lease(model, graph):
        size = payload.came_bytes + await call.size_of(*(file for _, file in payload.items))
        work = partial(clip_of, payload, video, call.limits)
        clip = await call.offload(work, size=size, doing="frames were being read")
        call.decoded(1)
        if call.media_type == EVENT_STREAM:
            return _stream(call, clip)
        probabilities = await label(call, clip)
    form = call.media_type
    if form == VTT:
        call.media_type = f"{VTT}; charset=utf-8"
    # The search through a grammar takes some milliseconds.
    inline = form == NPY or not (model.manifest.frame_labels and model.manifest.frame_labels.grammar)
    size = SEARCHED * len(clip.frames)
    return await call.respond(lambda: written(form, model, clip, probabilities), graph, size=size, inline=inline)


def _stream(call: Call, clip: Clip) -> Response:
    """An event for each frame, as soon as it is labelled, then the JSON answer."""
    model, frames = call.model, len(clip.frames)
    waiting: list[dict[str, Any]] = []
    labelled = 0

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        def add(step: int, outputs: Tensors) -> None:
            nonlocal labelled
            piece = checked(model, outputs[OUTPUT][0, : frames - labelled])
            waiting.extend(frame_values(model.manifest, piece, labelled))
            labelled += len(piece)
            on_step(step, outputs)

        probabilities = await label(call, clip, add)
        write, size = partial(to_values, model, clip, probabilities), SEARCHED * len(clip.frames)
        return await call.encode(write, graph_of(model), size=size, inline=False)

    def news() -> Events:
        events = [("frame", frame) for frame in waiting]
        waiting.clear()
        return events

    async def describe(step: int, outputs: Tensors) -> Events:
        return news()

    def ending(result: Mapping[str, Any]) -> Events:
        return [*news(), ("final", result)]

    return EventStream(work, describe=describe, ending=ending, held=model.lease())


ENDPOINT: Final = Endpoint(
    path="/v1/label-frames",
    name="label-frames",
    summary="Label each frame of a clip",
    handler=label_frames,
    request=RequestForm(
        schema=LabelFramesRequest,
        options={"model": str, "version": str},
        takes=(*VIDEOS, FORM, JSON, NPY),
        offers=(JSON, NPY, VTT, EVENT_STREAM),
    ),
    response=LabelFramesAnswer,
    describe=describe,
)
