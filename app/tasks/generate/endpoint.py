"""POST /v1/generate: new pictures, of latents or of noise, drawn by label, from a picture, or on the way between two.

What can be asked for depends on the model: `plans` makes a plan of a request, or says what the model has instead.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from app.codecs.images import grids
from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import Unprocessable, UnsupportedMedia
from app.core.manifest import Tensors
from app.engine.model import Model
from app.tasks.generate import openapi as documents
from app.tasks.generate import plans
from app.tasks.generate.plans import Images, Made, Plan, Runs
from app.tasks.generate.schema import GenerateAnswer, GenerateRequest
from app.web.context import Context, Limits, Trace
from app.web.disconnect import CancelOnDisconnect
from app.web.endpoint import Find, Short
from app.web.openapi.operation import Documented
from app.web.request import rows
from app.web.request.accept import choose
from app.web.request.body import header, media_type, read_body
from app.web.request.deadline import deadline_and_priority
from app.web.request.json_body import read_json
from app.web.request.json_size import MAX_FIELDS, check_json
from app.web.request.model_choice import check_within, choose_model
from app.web.request.options import Known, Option, from_query, merged
from app.web.request.payload import JSON, NPY, SMALL_BYTES
from app.web.response import images as painted
from app.web.response.encoded import EncodedResponse
from app.web.response.event_stream import MEDIA_TYPE, EventStream, OnStep

PATH: Final = "/v1/generate"
ANSWERS: Final = (JSON, painted.PNG, NPY, MEDIA_TYPE)
OPTIONS: Final[Known] = (
    dict.fromkeys(("model", "version", "label", "sampler"), str)
    | dict.fromkeys(("n", "seed", "steps", "visits", "forward", "columns"), int)
    | dict.fromkeys(("guidance", "strength"), float)
)
"""That may also stand in the query."""


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(PATH, response_model=GenerateAnswer, operation_id="generate", summary="Make new pictures")
    async def generate(request: Request) -> Response:
        return await answer(request, context)

    return routes


def short_way(context: Context) -> Find:
    """POST /v1/generate, without the router."""
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
    deadline, priority = deadline_and_priority(request, context.limits)
    body = await read_body(request, context.limits)

    began = perf_counter()
    asked = await _asked(request, body, query, context)
    columns = _columns(asked, form, context.limits)
    way = plans.way(asked)
    model = choose_model(asked, context, "generate", "image")
    plan = plans.plan(way, asked, model, context.limits)
    for graph in plan.graphs:
        model.check_room(graph)
    runs = Runs(model, context, deadline, priority)
    runs.took.decode_s = perf_counter() - began
    trace = Trace.of(request.scope)
    trace.model, trace.rows = model.name, plan.n
    if form == MEDIA_TYPE:
        return _streamed(plan, runs, trace)
    with model.lease(), CancelOnDisconnect(request):
        made = await plan.make(runs)

    def write() -> bytes:
        if form == JSON:
            content: bytes = pydantic_core.to_json(_told(model, plan, made))
            return content
        if form == NPY:
            return encode_npy(made.images)
        return encode_png(_page(made.images, columns or plan.columns))

    content = await _written(write, made, runs, trace, plan, bare=form == NPY)
    headers = runs.took.headers(form, model)
    if "seed" in plan.told:
        headers.append((b"x-seed", b"%d" % plan.told["seed"]))
    return EncodedResponse(content, headers)


def _streamed(plan: Plan, runs: Runs, trace: Trace) -> Response:
    """Each step as it is made, then what JSON would have been."""

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        runs.on_step = on_step
        made = await plan.make(runs)
        told: dict[str, Any] = {}

        def write() -> bytes:
            told.update(_told(runs.model, plan, made))
            return b""

        await _written(write, made, runs, trace, plan)
        return told

    async def preview(outputs: Tensors) -> str:
        def write() -> bytes:
            return base64.b64encode(encode_png(_page(plan.preview(outputs), plan.columns)))

        return (await painted.written(write, painted.size(outputs), runs.context)).decode("ascii")

    return EventStream(work, steps=max(1, plan.evaluations), preview=preview, held=runs.model.lease())


async def _written(
    write: Callable[[], bytes], made: Made, runs: Runs, trace: Trace, plan: Plan, *, bare: bool = False
) -> bytes:
    """What `write` makes, and the time of it all written down."""
    began = perf_counter()
    content = await painted.written(write, made.images.size, runs.context, bare=bare)
    runs.took.encode_s = perf_counter() - began
    runs.took.observe(runs.context, trace, runs.model, plan.graphs[-1])
    return content


def _page(images: Images, columns: int | None) -> NDArray[np.uint8]:
    return grids.grid(painted.in_8_bits(images), columns or grids.near_square(*images.shape[:3]))


def _told(model: Model, plan: Plan, made: Made) -> dict[str, Any]:
    """GenerateAnswer, as JSON values."""
    texts = painted.as_base64(painted.in_8_bits(made.images))
    results = [{"image": text, **said} for text, said in zip(texts, made.each, strict=True)]
    return {"model": model.name, "version": model.version, "device": model.device, **plan.told, "results": results}


async def _asked(request: Request, body: bytes, query: dict[str, Option], context: Context) -> dict[str, Any]:
    """What query and body ask for together, by name; null counts as not given."""
    if not body:
        return dict(query)
    kind, _ = media_type(request, (JSON,))
    if not kind:
        raise UnsupportedMedia(
            f"the request has no content type, send {JSON}", subject="header.content-type", expected=JSON, got="none"
        )
    sizes = [m.manifest.latent.size for m in context.registry.catalog.models if m.manifest.latent]
    codes = context.limits.max_rows * max(sizes, default=1)  # or as many labels
    check_json(body, values=codes + 2 * rows.most_pixels(context) + 1000, fields=MAX_FIELDS)

    def parse() -> GenerateRequest:
        return read_json(body, GenerateRequest)

    small = len(body) <= SMALL_BYTES
    read = parse() if small else await asyncio.get_running_loop().run_in_executor(context.pool, parse)
    return merged(query, {name: value for name, value in read if value is not None}, where="body")


def _columns(asked: Mapping[str, Any], form: str, limits: Limits) -> int | None:
    columns: int | None = asked.get("columns")
    if columns is None:
        return None
    if form != painted.PNG:
        raise Unprocessable(
            f"columns arranges the pictures of one {painted.PNG}, here the answer is {form}",
            subject="columns",
            expected=f"no columns, or accept: {painted.PNG}",
            got=str(columns),
        )
    check_within("columns", columns, 1, limits.max_rows)
    return columns
