"""One translation: from the request's first byte to the answer's last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import pydantic_core
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.core.errors import UnsupportedMedia, invalid
from app.engine.model import STEP
from app.protocols.libre_translate.form import AUTO, Wanted, read
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.head import deadline_and_priority, media_type
from app.web.request.media_types import FORM, JSON, URL_ENCODED
from app.web.request.model_choice import check_within
from app.web.request.payload import SMALL_BODY, Payload
from app.web.text import read_texts
from app.web.translation import Translation, choose_translator, is_language, languages_of, translate, translators
from app.web.waiting import together
from app.web.writing import ENCODER, MOST_BEAM, plan, writing_of

PATH: Final = "/translate"
TAKES: Final = (JSON, URL_ENCODED, FORM)


class LibreTranslation(BaseModel):
    """The translation of a text; of a list of texts, lists in their order."""

    translated_text: Annotated[str | list[str], Field(alias="translatedText")]
    alternatives: list[str] | list[list[str]] | None = None


async def create(call: Call) -> Response:
    """One request: a text or several.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed.
    """
    call.deadline, call.priority = deadline_and_priority(call.trace, call.limits)
    kind, parameters = media_type(call.trace, TAKES)
    if not kind:
        expected = ", ".join(TAKES)
        detail = f"the request has no content type, send one of {expected}"
        raise invalid("header.content-type", expected=expected, got="none", detail=detail, error=UnsupportedMedia)
    body = await call.read_body()
    work = partial(read, kind, body, parameters, call.limits.max_rows)
    wanted = await call.offload(work, size=len(body), inline=len(body) <= SMALL_BODY)
    source = _only_source(call, wanted.target) if wanted.source == AUTO else wanted.source
    call.options = {"from": source, "to": wanted.target} if source else {"to": wanted.target}
    payload = Payload(
        {}, [(f"q[{i}]" if wanted.several else "q", text) for i, text in enumerate(wanted.texts)], of="text"
    )
    model = choose_translator(call, payload)
    most = min(MOST_BEAM, writing_of(model).best) - 1
    check_within("alternatives", wanted.alternatives, 0, most, f" for model '{model.name}'")
    call.options = {"n_best": 1 + wanted.alternatives}
    with call.lease(model, ENCODER, STEP):
        call.media_type = JSON
        texts = await read_texts(call, payload, truncate=False)
        rows = sum(len(text.parts) for text in texts)
        searched = plan(call, model, rows, subject="q")
        call.decoded(rows)
        found = await together([translate(call, text, searched) for text in texts])

    def write() -> bytes:
        content: bytes = pydantic_core.to_json(_values(call, wanted, found))
        return content

    return await call.respond(write, STEP, inline=True)


def _only_source(call: Call, target: str) -> str:
    """The one language that is translated to another; empty where there is none. No model here tells languages apart.

    Raises:
        Unprocessable: there are several.
    """
    sources = sorted({pair.source for pair in map(languages_of, translators(call)) if is_language(target, pair.target)})
    if len(sources) > 1:
        there = ", ".join(sources)
        detail = f"source is '{AUTO}': no language is detected, and to '{target}' is translated from {there}; name one"
        raise invalid("source", expected=there, got=AUTO, detail=detail)
    return sources[0] if sources else ""


def _values(call: Call, wanted: Wanted, found: Sequence[Sequence[Translation]]) -> dict[str, Any]:
    """LibreTranslation as JSON values."""
    written = [[one.text for one in translations] for translations in found]
    best, others = [texts[0] for texts in written], [texts[1:] for texts in written]
    values: dict[str, Any] = {"translatedText": best if wanted.several else best[0]}
    if wanted.alternatives:
        values["alternatives"] = others if wanted.several else others[0]
    return values


ENDPOINT: Final = Endpoint(
    path=PATH,
    name="libre_translate",
    summary="Translate a text, or several",
    handler=create,
    response=LibreTranslation,
)
