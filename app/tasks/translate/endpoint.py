"""POST /v1/translate: pictures of one domain in, the same as pictures of another out.

The answer is translated back as well: what does not come back as it was is not to be trusted (Zhu et al. 2017,
arXiv:1703.10593, on cycle consistency).
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from fastapi import APIRouter, Request, Response

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import Unprocessable
from app.tasks.translate import directions as ways
from app.tasks.translate import openapi as documents
from app.tasks.translate.outcome import Made, page, to_json
from app.tasks.translate.schema import LAYOUTS, TranslateAnswer, TranslateRequest
from app.web.context import Context, Trace
from app.web.disconnect import CancelOnDisconnect, until
from app.web.endpoint import Find, Short
from app.web.openapi.operation import Documented
from app.web.request import rows
from app.web.request.accept import choose
from app.web.request.body import header, media_type, read_body
from app.web.request.deadline import deadline_and_priority
from app.web.request.layout import arranged
from app.web.request.model_choice import check_made
from app.web.request.options import Known, from_query
from app.web.request.payload import JSON, NPY, taken
from app.web.response import images as painted
from app.web.response.encoded import EncodedResponse
from app.web.timing import Took

PATH: Final = "/v1/translate"
INPUT, OUTPUT = "image", "translated"
TAKEN: Final = taken(TranslateRequest)
ANSWERS: Final = (JSON, painted.PNG, NPY)
OPTIONS: Final[Known] = {
    "model": str,
    "version": str,
    "from": str,
    "to": str,
    "cycle": bool,
    "layout": str,
    "columns": int,
}


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(
        PATH, response_model=TranslateAnswer, operation_id="translate", summary="Show pictures as something else"
    )
    async def translate(request: Request) -> Response:
        return await answer(request, context)

    return routes


def short_way(context: Context) -> Find:
    """POST /v1/translate, without the router."""
    short = Short(PATH, lambda request: answer(request, context))
    return lambda path: short if path == PATH else None


def documented(context: Context) -> Documented:
    """What the OpenAPI document says of it."""
    return documents.documented(context, PATH)


async def answer(request: Request, context: Context) -> Response:
    """One request from its first byte to its answer.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed: made a problem by the handlers.
    """
    form = choose(header(request, b"accept"), ANSWERS)
    query = from_query(request.scope["query_string"], OPTIONS)
    kind, parameters = media_type(request, TAKEN)
    deadline, priority = deadline_and_priority(request, context.limits)
    body = await read_body(request, context.limits)

    began = perf_counter()
    payload = await rows.parse(
        kind, parameters, body, query=query, known=OPTIONS, schema=TranslateRequest, context=context
    )
    options = payload.options
    layout, columns = arranged(options, form, LAYOUTS, context.limits)
    cycle = bool(options.get("cycle", True))
    if layout == "cycle" and not cycle:
        raise Unprocessable(
            "layout is 'cycle', which shows what came back, and cycle is false",
            subject="layout",
            expected="cycle: true, or another layout",
            got="'cycle' with cycle: false",
        )
    model, way = ways.choose(options, context)
    model.check_room(way.there)
    with model.lease(), CancelOnDisconnect(request):
        async with until(deadline, "pictures were being read"):
            inputs = await rows.decode(payload, model, way.there, context, way.source.picture)
        check_made(len(inputs), model, context.limits, subject="images", picture=way.target.picture)
        took, trace = Took(decode_s=perf_counter() - began), Trace.of(request.scope)
        trace.model, trace.rows = model.name, len(inputs)
        decoded = took.add(await model.run(way.there, {INPUT: inputs}, deadline=deadline, priority=priority))
        images = painted.images(model, decoded, way.target.picture, name=OUTPUT)
        returned = None
        if cycle:
            again = painted.as_rows(painted.in_8_bits(images), way.target.picture)  # as a client would send it back
            back = took.add(await model.run(way.back, {INPUT: again}, deadline=deadline, priority=priority))
            returned = painted.images(model, back, way.source.picture, name=OUTPUT)

    began = perf_counter()
    made = Made(model, way, painted.pixels(model, inputs, way.source.picture), images, returned)

    def write() -> bytes:
        if form == JSON:
            return to_json(made)
        return encode_npy(made.images) if form == NPY else encode_png(page(made, layout, columns))

    content = await painted.written(write, painted.size(decoded), context, bare=form == NPY)
    took.encode_s = perf_counter() - began
    took.observe(context, trace, model, way.there)
    return EncodedResponse(content, took.headers(form, model) + (made.headers() if form != JSON else []))
