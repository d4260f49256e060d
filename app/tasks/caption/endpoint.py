"""POST /v1/caption: pictures in, a sentence for each out, with where the model looked for each word."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from starlette.responses import Response

from app.codecs.images.files import encode_png
from app.core.decoding.writing import rescore
from app.core.errors import ClientError, invalid
from app.core.manifest import Tensors
from app.engine.model import STEP
from app.engine.queue import OnStep
from app.tasks.caption.openapi import describe
from app.tasks.caption.outcome import Outcome, page, text_of, to_values
from app.tasks.caption.schema import CaptionAnswer, CaptionRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.form import RequestForm
from app.web.request.media_types import EVENT_STREAM, JSON, PNG, TEXT
from app.web.request.model_choice import check_within
from app.web.request.payload import taken
from app.web.response.event_stream import Events, EventStream
from app.web.response.images import pixels_of
from app.web.waiting import together
from app.web.work_pool import DRAWN
from app.web.writing import ENCODER, Memory, Plan, Progress, encode, news, plan, search, writer_of, writing_of

_BLANK: Final = "memory of a blank picture"
MOST_PAGES: Final = 16
"""Pictures whose words are drawn in one answer."""


async def caption(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    model = call.choose_model("caption", "image")
    writing, max_words = writing_of(model), call.options.get("max_words")
    words = None if max_words is None else int(max_words)
    if words is not None:
        check_within("max_words", words, 1, writing.max_tokens, f" for model '{model.name}'")
    with call.lease(model, ENCODER, STEP):
        images = await call.decode_rows(payload, ENCODER)
        searched = plan(call, model, len(images), subject="images")
        if (most := {EVENT_STREAM: 1, PNG: MOST_PAGES}.get(call.media_type, len(images))) < len(images):
            raise _too_many(call.media_type, len(images), most)
        call.decoded(len(images))
        pixels = pixels_of(model, images)
        if call.media_type == EVENT_STREAM:
            return _stream(call, images, pixels, searched, words)
        outcomes = await together(
            [_describe(call, images[i : i + 1], pixels[i], searched, words) for i in range(len(images))]
        )

    def write() -> bytes:
        if form == JSON:
            answer: bytes = pydantic_core.to_json(to_values(model, outcomes))
            return answer
        if form == PNG:
            return encode_png(page(model, outcomes))
        return "".join(f"{text_of(model, one.hypotheses[0])}\n" for one in outcomes).encode()

    form = call.media_type
    if form == TEXT:
        call.media_type = f"{form}; charset=utf-8"
    inline = form == TEXT or (form == JSON and len(outcomes) == 1)
    return await call.respond(write, STEP, size=DRAWN * len(outcomes), inline=inline)


async def _describe(
    call: Call,
    image: NDArray[Any],
    pixels: NDArray[np.uint8],
    searched: Plan,
    max_words: int | None,
    progress: Progress | None = None,
    on_step: OnStep | None = None,
) -> Outcome:
    memory = await encode(call, {_input(call): image})
    found = await search(call, memory, searched.beam, max_words=max_words, progress=progress, on_step=on_step)
    best, writing = found[0], writing_of(call.model)
    tokens = (*best.tokens, *((writing.end,) if best.finished else ()))
    blank = await _blank(call)
    other = await call.sample(STEP, rescore(blank.memory, blank.states, tokens, length=None, start=writing.start))
    evidence = best.log_probability - float(other["log_probabilities"].sum())
    return Outcome(pixels, found[: searched.n_best], evidence)


async def _blank(call: Call) -> Memory:
    """What the encoder makes of a picture that shows nothing; once for each model."""
    model = call.model
    memory = model.prepared.get(_BLANK)
    if not isinstance(memory, Memory):
        picture = model.manifest.picture
        assert picture is not None
        grey = np.full((1, *picture.shape), writing_of(model).blank, np.uint8)
        memory = model.prepared[_BLANK] = await encode(call, {_input(call): grey})
    return memory


def _input(call: Call) -> str:
    return call.model.manifest.graphs[ENCODER].inputs[0].name


def _stream(
    call: Call, image: NDArray[Any], pixels: NDArray[np.uint8], searched: Plan, max_words: int | None
) -> Response:
    """An event for each token, then the JSON answer."""
    if searched.beam > 1:
        detail = f"beam is {searched.beam}: words are sent as they are written, and a beam rewrites them"
        raise invalid("beam", expected=f"1 with accept: {EVENT_STREAM}", got=str(searched.beam), detail=detail)
    model, progress = call.model, Progress()

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        outcome = await _describe(call, image, pixels[0], searched, max_words, progress, on_step)
        return await call.encode(partial(to_values, model, [outcome]), STEP, inline=True)

    async def written(step: int, outputs: Tensors) -> Events:
        return news(progress, writer_of(model), "token")

    def ending(result: Mapping[str, Any]) -> Events:
        return [*news(progress, writer_of(model), "token"), ("final", result)]

    return EventStream(work, describe=written, ending=ending, held=model.lease())


def _too_many(form: str, got: int, most: int) -> ClientError:
    return invalid(
        "images",
        expected=f"at most {most} pictures, or accept: {JSON}",
        got=f"{got} pictures with accept: {form}",
        detail=f"the request has {got} pictures, {form} is given of at most {most}",
    )


ENDPOINT: Final = Endpoint(
    path="/v1/caption",
    name="caption",
    summary="Say in a sentence what pictures show",
    handler=caption,
    request=RequestForm(
        schema=CaptionRequest,
        options={"model": str, "version": str, "beam": int, "n_best": int, "max_words": int},
        takes=taken(CaptionRequest),
        offers=(JSON, TEXT, PNG, EVENT_STREAM),
    ),
    response=CaptionAnswer,
    describe=describe,
)
