"""POST /v1/denoise: noisy pictures in, what is to be expected under the noise out; or what else may be there, drawn.

Models of two kinds answer: one for pictures of its own size, one for photos of any size, cut into tiles. Which of them
a model is, and what it can do, its manifest says.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import pydantic_core
from fastapi import APIRouter, Request, Response

from app.codecs.images import grids
from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.manifest import Tensors
from app.tasks.denoise import fixed_size as whole
from app.tasks.denoise import openapi as documents
from app.tasks.denoise import options as asked
from app.tasks.denoise import outcome as made
from app.tasks.denoise import photos
from app.tasks.denoise.fixed_size import Draw
from app.tasks.denoise.noise_level import Sigmas, told
from app.tasks.denoise.outcome import Made
from app.tasks.denoise.runs import DENOISER, Runs
from app.tasks.denoise.schema import LAYOUTS, DenoiseAnswer, DenoiseRequest
from app.web.context import Context, Trace
from app.web.disconnect import CancelOnDisconnect
from app.web.endpoint import Find, Short
from app.web.openapi.operation import Documented
from app.web.request import rows
from app.web.request.accept import choose
from app.web.request.body import header, media_type, read_body
from app.web.request.deadline import deadline_and_priority
from app.web.request.layout import arranged
from app.web.request.model_choice import choose_model
from app.web.request.options import Known, from_query
from app.web.request.payload import JSON, NPY, taken
from app.web.request.pixels import Pixels
from app.web.response import images as painted
from app.web.response.encoded import EncodedResponse
from app.web.response.event_stream import MEDIA_TYPE, EventStream, OnStep

PATH: Final = "/v1/denoise"
TAKEN: Final = taken(DenoiseRequest)
ANSWERS: Final = (JSON, painted.PNG, NPY, MEDIA_TYPE)
OPTIONS: Final[Known] = dict.fromkeys(("model", "version", "sigma_255", "layout"), str) | dict.fromkeys(
    ("samples", "steps", "seed", "columns"), int
)


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(PATH, response_model=DenoiseAnswer, operation_id="denoise", summary="Take noise from pictures")
    async def denoise(request: Request) -> Response:
        return await answer(request, context)

    return routes


def short_way(context: Context) -> Find:
    """POST /v1/denoise, without the router."""
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
        kind, parameters, body, query=query, known=OPTIONS, schema=DenoiseRequest, context=context
    )
    options = payload.options
    drawing = "samples" if "samples" in options else ""
    layout, columns = arranged(
        options, form, LAYOUTS, context.limits, unless=drawing, because="samples make a row of each picture"
    )
    model = choose_model(options, context, "denoise", "image")
    draw = asked.draw(options, model, form, context)
    model.check_room(DENOISER)
    runs = Runs(model, context, deadline, priority)
    trace = Trace.of(request.scope)
    trace.model = model.name
    with model.lease(), CancelOnDisconnect(request):
        inputs = await asked.inputs(payload, model, context, form, draw, deadline)
        sigmas = told(options.get("sigma_255"), len(inputs), model.manifest)
        runs.took.decode_s = perf_counter() - began
        trace.rows = len(inputs)
        if form == MEDIA_TYPE:
            assert draw is not None
            return _streamed(runs, trace, inputs, sigmas, draw)
        if model.manifest.plane is None:
            images, used, drawn = await whole.restored(runs, inputs, sigmas, draw)
            result = Made(model, inputs, list(images), used, sigmas is None, draw, drawn)
        else:
            with photos.room(model, inputs):
                restored, used = await photos.restored(runs, inputs, sigmas, as_floats=form == NPY)
            result = Made(model, inputs, restored, used, sigmas is None)

    def write() -> bytes:
        if form == JSON:
            content: bytes = pydantic_core.to_json(made.as_json(result))
            return content
        return encode_npy(made.rows(result)) if form == NPY else encode_png(made.page(result, layout, columns))

    began = perf_counter()
    content = await painted.written(write, result.size, context, bare=form == NPY)
    runs.took.encode_s = perf_counter() - began
    runs.took.observe(context, trace, model, DENOISER)
    headers = runs.took.headers(form, model)
    headers.append((b"x-sigma-255", ", ".join(f"{sigma:.6g}" for sigma in result.sigmas_255).encode("ascii")))
    if draw is not None:
        headers.append((b"x-seed", b"%d" % draw.seed))
    return EncodedResponse(content, headers)


def _streamed(runs: Runs, trace: Trace, inputs: list[Pixels], sigmas: Sigmas | None, draw: Draw) -> Response:
    """Each step of what is drawn, with what it looks like, then what JSON would have been."""

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        images, used, drawn = await whole.restored(runs, inputs, sigmas, draw, on_step)
        result = Made(runs.model, inputs, list(images), used, sigmas is None, draw, drawn)
        began = perf_counter()
        content = await runs.aside(lambda: made.as_json(result), result.size)
        runs.took.encode_s = perf_counter() - began
        runs.took.observe(runs.context, trace, runs.model, DENOISER)
        return content

    async def preview(outputs: Tensors) -> str:
        seen = painted.in_8_bits(painted.images(runs.model, outputs, name="denoised"))
        page = await runs.aside(lambda: encode_png(grids.grid(seen, draw.samples)), seen.size)
        return base64.b64encode(page).decode("ascii")

    return EventStream(work, steps=draw.steps, preview=preview, held=runs.model.lease())
