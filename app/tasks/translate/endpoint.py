"""POST /v1/translate: texts of one language in, the same in another out (`texts.py`); or pictures of one domain in, the
same as pictures of another out.

Each picture is translated back as well: what does not come back as it was is not to be trusted (Zhu et al. 2017,
arXiv:1703.10593, on cycle consistency).
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import ClientError, NotAcceptable, invalid
from app.tasks.translate.directions import choose_direction
from app.tasks.translate.openapi import describe
from app.tasks.translate.outcome import Outcome, page, to_json
from app.tasks.translate.schema import LAYOUTS, TranslateAnswer, TranslateRequest
from app.tasks.translate.texts import refuse_options, translate_texts
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.form import RequestForm
from app.web.request.layout import arranged
from app.web.request.media_types import CSV, EVENT_STREAM, JSON, NPY, PNG, TEXT
from app.web.request.model_choice import check_output_size
from app.web.request.payload import taken
from app.web.response import images

INPUT, OUTPUT = "image", "translated"
FORMS: Final = (JSON, PNG, NPY)
OF_TEXTS: Final = ("beam", "n_best")


async def translate(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    if payload.modality == "text":
        return await translate_texts(call, payload)
    refuse_options(call, OF_TEXTS, "pictures")
    if call.media_type not in FORMS:
        raise _not_of_pictures(call.media_type)
    layout, columns = arranged(call.options, call.media_type, LAYOUTS, call.limits)
    cycle = bool(call.options.get("cycle", True))
    if layout == "cycle" and not cycle:
        raise invalid(
            "layout",
            expected="cycle: true, or another layout",
            got="'cycle' with cycle: false",
            detail="layout is 'cycle', which shows what came back, and cycle is false",
        )
    model, direction = choose_direction(call, payload)
    source, target = direction.source.picture, direction.target.picture
    with call.lease(model, direction.there):
        inputs = await call.decode_rows(payload, direction.there, source)
        check_output_size(len(inputs), model, call.limits, subject="images", picture=target)
        call.decoded(len(inputs))
        decoded = await call.run(direction.there, {INPUT: inputs})
        translated = images.images_of(model, decoded, target, name=OUTPUT)
        returned = None
        if cycle:
            again = images.as_rows(images.in_8_bits(translated), target)  # as a client would send it back
            back = await call.run(direction.back, {INPUT: again})
            returned = images.images_of(model, back, source, name=OUTPUT)
    outcome = Outcome(model, direction, images.pixels_of(model, inputs, source), translated, returned)

    def write() -> bytes:
        if call.media_type == JSON:
            return to_json(outcome)
        return encode_npy(outcome.images) if call.media_type == NPY else encode_png(page(outcome, layout, columns))

    size = images.size(decoded)
    inline = images.is_quick(size, numbers=call.media_type == NPY)
    headers = () if call.media_type == JSON else outcome.headers()
    return await call.respond(write, direction.there, size=size, inline=inline, headers=headers)


def _not_of_pictures(form: str) -> ClientError:
    detail = f"{form} is given of texts, translated pictures are given as {', '.join(FORMS)}"
    return invalid("header.accept", expected=", ".join(FORMS), got=form, detail=detail, error=NotAcceptable)


ENDPOINT: Final = Endpoint(
    path="/v1/translate",
    name="translate",
    summary="Translate texts, or show pictures as something else",
    handler=translate,
    request=RequestForm(
        schema=TranslateRequest,
        options=dict.fromkeys(("model", "version", "from", "to", "layout"), str)
        | {"cycle": bool, "columns": int, "beam": int, "n_best": int},
        takes=taken(TranslateRequest),
        offers=(*FORMS, TEXT, CSV, EVENT_STREAM),
    ),
    response=TranslateAnswer,
    describe=describe,
)
