"""Texts translated by a model that writes a token a step, each step in one run with those of other requests."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import pydantic_core
from starlette.responses import Response

from app.codecs.text.reading import Reading
from app.core.errors import NotAcceptable, invalid
from app.core.manifest import Tensors
from app.core.text import described
from app.engine.model import STEP, Model
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.request.media_types import CSV, EVENT_STREAM, JSON, TEXT
from app.web.request.payload import Payload
from app.web.response.event_stream import Events, EventStream
from app.web.text import read_texts
from app.web.translation import Translation, choose_translator, languages_of, translate
from app.web.waiting import together
from app.web.writing import (
    ENCODER,
    Plan,
    Progress,
    alternative,
    as_lists,
    finish,
    news,
    plan,
    probability,
    writer_of,
)

FORMS: Final = (JSON, TEXT, CSV, EVENT_STREAM)
OF_PICTURES: Final = ("cycle", "layout", "columns")


async def translate_texts(call: Call, payload: Payload) -> Response:
    """A request that brought texts, from there to its response."""
    if call.media_type not in FORMS:
        detail = f"{call.media_type} is given of pictures, translated texts are given as {', '.join(FORMS)}"
        raise invalid(
            "header.accept", expected=", ".join(FORMS), got=call.media_type, detail=detail, error=NotAcceptable
        )
    refuse_options(call, OF_PICTURES, "texts")
    model = choose_translator(call, payload)
    with call.lease(model, ENCODER, STEP):
        texts = await read_texts(call, payload, truncate=False)
        rows = sum(len(text.parts) for text in texts)
        searched = plan(call, model, rows, subject="text")
        call.decoded(rows)
        if call.media_type == EVENT_STREAM:
            return _stream(call, texts, searched)
        found = await together([translate(call, text, searched) for text in texts])

    def write() -> bytes:
        if call.media_type == JSON:
            answer: bytes = pydantic_core.to_json(to_values(model, texts, found))
            return answer
        written = [translations[0].text for translations in found]
        return "".join(f"{text}\n" for text in written).encode() if form == TEXT else _as_csv(texts, written, found)

    form = call.media_type
    if form != JSON:
        call.media_type = f"{form}; charset=utf-8"
    # Attention is most of the answer: tokens times tokens.
    size = sum(len(text.encoded.ids) ** 2 for text in texts)
    return await call.respond(write, STEP, size=size, inline=size <= 10_000 or form != JSON)


def refuse_options(call: Call, names: Sequence[str], inputs: str) -> None:
    """Raises Unprocessable where one of the options is there; `inputs` are what it does not go with."""
    for name in names:
        if name in call.options:
            expected, got = f"no such option with {inputs}", described(call.options[name])
            raise invalid(name, expected=expected, got=got, detail=f"{name} is {got}, there is {expected}")


def _stream(call: Call, texts: Sequence[Reading], searched: Plan) -> Response:
    """An event for each token, then the JSON answer."""
    if len(texts) > 1:
        got = f"{len(texts)} texts with accept: {EVENT_STREAM}"
        detail = f"the request has {len(texts)} texts, {EVENT_STREAM} is given of one"
        raise invalid("text", expected=f"one text, or accept: {JSON}", got=got, detail=detail)
    if searched.beam > 1:
        detail = f"beam is {searched.beam}: tokens are sent as they are written, and a beam rewrites them"
        raise invalid("beam", expected=f"1 with accept: {EVENT_STREAM}", got=str(searched.beam), detail=detail)
    model, progress = call.model, Progress()

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        found = await translate(call, texts[0], searched, progress, on_step)
        return await call.encode(partial(to_values, model, texts, [found]), STEP, inline=True)

    async def describe(step: int, outputs: Tensors) -> Events:
        return news(progress, writer_of(model), "token")

    def ending(result: Mapping[str, Any]) -> Events:
        return [*news(progress, writer_of(model), "token"), ("final", result)]

    return EventStream(work, describe=describe, ending=ending, held=model.lease())


# The answer.


def to_values(model: Model, texts: Sequence[Reading], found: Sequence[Sequence[Translation]]) -> dict[str, Any]:
    """TranslateAnswer as JSON values."""
    languages = languages_of(model)
    results = [_result(model, text, translations) for text, translations in zip(texts, found, strict=True)]
    head = {"model": model.name, "version": model.version, "device": model.device}
    return {**head, "from": languages.source, "to": languages.target, "results": results}


def _result(model: Model, text: Reading, translations: Sequence[Translation]) -> dict[str, Any]:
    first, *others = translations
    best = first.tokens
    pieces = writer_of(model).pieces(best.tokens)
    return {
        "text": first.text,
        "log_probability": round(best.log_probability, 4),
        "finish": finish(best),
        "tokens": [
            {"text": piece, "probability": probability(log_probability)}
            for piece, log_probability in zip(pieces, best.log_probabilities, strict=False)
        ],
        "source_tokens": [text.text[a:b] for a, b in text.encoded.offsets],
        "alignment": as_lists(best.attention),
        "alternatives": [alternative(one.tokens, one.text) for one in others],
        "unknown": text.unknown_words,
    }


def _as_csv(texts: Sequence[Reading], written: Sequence[str], found: Sequence[Sequence[Translation]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["text", "translation", "log_probability", "unknown"])
    for text, translation, (best, *_) in zip(texts, written, found, strict=True):
        unknown = "; ".join(text.unknown_words)
        writer.writerow([text.text, translation, round(best.tokens.log_probability, 4), unknown])
    return out.getvalue().encode()
