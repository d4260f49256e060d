"""POST /v1/transcribe: recordings in, words with their times out.

One shape of response for one recording and for many: `results`, one entry for each, in their order. As `text/plain`
each recording is a line; subtitles and events are of one recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any, Final

from starlette.responses import Response

from app.codecs.audio import Clip
from app.core.errors import ClientError, invalid
from app.core.manifest import Tensors
from app.engine.queue import OnStep
from app.tasks.transcribe.openapi import describe
from app.tasks.transcribe.outcome import to_values, written
from app.tasks.transcribe.readings import readings
from app.tasks.transcribe.schema import TranscribeAnswer, TranscribeRequest
from app.tasks.transcribe.socket import listen
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.prediction import choose_model
from app.web.request.form import RequestForm
from app.web.request.media_types import EVENT_STREAM, JSON, SRT, TEXT, VTT
from app.web.request.payload import taken
from app.web.response.event_stream import Events, EventStream
from app.web.speech.live import Live
from app.web.speech.recognize import STREAMER, graph_of, streaming_model, transcribe
from app.web.speech.transcript import Transcript
from app.web.waiting import together


async def answer(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    began = perf_counter()
    n = readings(call.options, call.media_type)
    model = choose_model(call, payload, "transcribe")
    if call.media_type == EVENT_STREAM:
        model = streaming_model(call, model)
    graph, sound = graph_of(model), model.manifest.sound
    assert sound is not None
    with call.lease(model, graph):
        clips = await call.decode_recordings(payload, sound)
        if len(clips) > 1 and call.media_type not in (JSON, TEXT):
            raise _one_at_a_time(call.media_type, len(clips))
        call.decoded(len(clips))
        if call.media_type == EVENT_STREAM:
            return _stream(call, clips[0], n, began)
        factors = [0.0] * len(clips)

        async def timed(i: int, clip: Clip) -> Transcript:
            found = await transcribe(call, clip, n)
            factors[i] = (perf_counter() - began) / clip.duration_s
            return found

        transcripts = await together([timed(i, clip) for i, clip in enumerate(clips)])
    form = call.media_type
    if form != JSON:
        call.media_type = f"{form}; charset=utf-8"
    return await call.respond(lambda: written(form, model, transcripts, factors), graph, inline=True)


def _stream(call: Call, clip: Clip, n: int, began: float) -> Response:
    """An event for what is heard anew, then the JSON answer."""
    model, live = call.model, Live(call, n)

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        transcript = await live.transcribe(clip, on_step)
        factor = (perf_counter() - began) / clip.duration_s
        return await call.encode(partial(to_values, model, [transcript], [factor]), STREAMER, inline=True)

    async def describe(step: int, outputs: Tensors) -> Events:
        heard = await live.news()
        return [] if heard is None else [("partial", {"text": heard.text, "stable": heard.stable})]

    return EventStream(work, describe=describe, ending=lambda result: [("final", result)], held=model.lease())


def _one_at_a_time(form: str, got: int) -> ClientError:
    return invalid(
        "sounds",
        expected=f"one recording, or accept: {JSON} or {TEXT}",
        got=f"{got} recordings with accept: {form}",
        detail=f"the request has {got} recordings, {form} is given of one",
    )


ENDPOINT: Final = Endpoint(
    path="/v1/transcribe",
    name="transcribe",
    summary="Write down what is said in recordings",
    handler=answer,
    request=RequestForm(
        schema=TranscribeRequest,
        options={"model": str, "version": str, "alternatives": int},
        takes=taken(TranscribeRequest),
        offers=(JSON, TEXT, SRT, VTT, EVENT_STREAM),
    ),
    response=TranscribeAnswer,
    describe=describe,
    socket=listen,
)
