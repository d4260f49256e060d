"""One transcription: from the form's first byte to the answer's last."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import pydantic_core
from starlette.responses import Response

from app.codecs.audio import Clip
from app.core.errors import UnsupportedMedia, invalid
from app.core.manifest import Tensors
from app.engine.queue import OnStep
from app.protocols.openai_audio import errors
from app.protocols.openai_audio.documents import DELTA, DONE, MEDIA_TYPES, OpenAITranscription, values
from app.protocols.openai_audio.form import Wanted, read
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.head import deadline_and_priority, media_type
from app.web.request.media_types import FORM, JSON
from app.web.request.payload import SMALL_BODY, Payload
from app.web.response.event_stream import Events, EventStream
from app.web.speech.live import Live
from app.web.speech.recognize import STREAMER, check_streams, graph_of, transcribe
from app.web.speech.subtitles import subtitles
from app.web.speech.transcript import Transcript

PATH: Final = "/v1/audio/transcriptions"


async def create(call: Call) -> Response:
    """One transcription.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed.
    """
    call.deadline, call.priority = deadline_and_priority(call.trace, call.limits)
    kind, parameters = media_type(call.trace, (FORM,))
    if not kind:
        detail = f"the request has no content type, send {FORM}"
        raise invalid("header.content-type", expected=FORM, got="none", detail=detail, error=UnsupportedMedia)
    body = await call.read_body()
    wanted = await call.offload(partial(read, body, parameters), size=len(body), inline=len(body) <= SMALL_BODY)
    call.options = {"model": wanted.model}
    model = call.choose_model("transcribe", "audio")
    if wanted.stream:
        check_streams(call, model, instead="ask it without stream")
    graph, sound = graph_of(model), model.manifest.sound
    assert sound is not None
    with call.lease(model, graph):
        payload = Payload({}, [("file", wanted.file)], of="audio")
        (clip,) = await call.decode_recordings(payload, sound)
        call.decoded(1)
        if wanted.stream:
            return _stream(call, clip)
        transcript = await transcribe(call, clip, 1)
    form = MEDIA_TYPES[wanted.response_format]
    call.media_type = form if form == JSON else f"{form}; charset=utf-8"
    return await call.respond(lambda: _written(transcript, call, wanted), graph, inline=True)


def _written(transcript: Transcript, call: Call, wanted: Wanted) -> bytes:
    match wanted.response_format:
        case "json" | "verbose_json":
            content: bytes = pydantic_core.to_json(values(transcript, call.model.manifest, wanted))
            return content
        case "text":
            return f"{transcript.text}\n".encode()
        case form:
            return subtitles(MEDIA_TYPES[form], transcript, by_word=wanted.times == {"word"})


def _stream(call: Call, clip: Clip) -> Response:
    """An event for words that no longer change, then one with all of them."""
    live, told = Live(call, 1), ""

    def delta(text: str) -> Events:
        nonlocal told
        more, told = text[len(told) :], text
        return [(DELTA, {"type": DELTA, "delta": more})] if more else []

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        transcript = await live.transcribe(clip, on_step)
        done = {"type": DONE, "text": transcript.text}
        return await call.encode(lambda: done, STREAMER, inline=True)

    async def describe(step: int, outputs: Tensors) -> Events:
        heard = await live.news()
        return [] if heard is None else delta(heard.stable)

    def ending(done: Mapping[str, Any]) -> Events:
        return [*delta(done["text"]), (DONE, done)]

    return EventStream(work, describe=describe, ending=ending, failure=errors.event, held=call.model.lease())


ENDPOINT: Final = Endpoint(
    path=PATH,
    name="openai_transcribe",
    summary="Write down what is said in a recording",
    handler=create,
    response=OpenAITranscription,
)
