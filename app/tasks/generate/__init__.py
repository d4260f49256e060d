"""POST /v1/generate: new pictures, decoded from codes that are given, drawn, on the way between two, or in a plane.

What can be asked for depends on the model: `plans` makes a plan of a request, or says what the model has instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from app.codecs import grids
from app.codecs.decimals import decimals
from app.codecs.images import encode_png
from app.codecs.tensors import encode_npy
from app.core.errors import Unprocessable, UnsupportedMedia
from app.core.latents import Latents
from app.engine.model import Model
from app.tasks.generate import documents, plans
from app.tasks.generate.schema import GenerateAnswer, GenerateRequest
from app.wire import painted, rows
from app.wire.accept import choose
from app.wire.answered import Answered
from app.wire.body import header, media_type, read_body
from app.wire.choice import check_within, choose_model
from app.wire.context import Context, Limits, Trace
from app.wire.documented import Documented
from app.wire.json_body import read_json
from app.wire.json_size import MAX_FIELDS, check_json
from app.wire.options import Known, Option, from_query, merged
from app.wire.payload import JSON, NPY, SMALL_BYTES, Payload
from app.wire.runs import Took
from app.wire.short import Find, Short
from app.wire.urgency import urgency
from app.wire.waiting import WhileConnected

PATH: Final = "/v1/generate"
ENCODER, DECODER = "encoder", "decoder"
ANSWERS: Final = (JSON, painted.PNG, NPY)
OPTIONS: Final[Known] = {"model": str, "version": str, "columns": int, "n": int, "seed": int}
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
    deadline, priority = urgency(request, context.limits)
    body = await read_body(request, context.limits)

    began = perf_counter()
    asked = await _asked(request, body, query, context)
    columns = _columns(asked, form, context.limits)
    way = plans.way(asked)
    model = choose_model(asked, context, "generate", "image")
    plan = plans.plan(way, asked, model, context.limits)
    for graph in [ENCODER, DECODER] if plan.ends else [DECODER]:
        model.check_room(graph)
    with model.hold(), WhileConnected(request):
        took, trace = Took(), Trace.of(request.scope)
        trace.model, trace.rows = model.name, plan.n
        if plan.ends:
            payload = Payload({}, [*plan.ends], json_bytes=len(body))
            inputs = await rows.decode(payload, model, ENCODER, context)
            took.decode_s = perf_counter() - began
            tensors = {model.manifest.graphs[ENCODER].inputs[0].name: inputs}
            coded = took.add(await model.run(ENCODER, tensors, deadline=deadline, priority=priority))
            codes = plans.on_the_way(model, painted.codes(model, coded), plan.n)
        else:
            took.decode_s = perf_counter() - began
            codes = plan.codes
        decoded = took.add(await model.run(DECODER, {"latent": codes}, deadline=deadline, priority=priority))

    began = perf_counter()

    def write() -> bytes:
        images = painted.images(model, decoded)
        if form == JSON:
            return to_json(model, images, codes, plan.told)
        if form == NPY:
            return encode_npy(images)
        across = columns or plan.columns or grids.near_square(*images.shape[:3])
        return encode_png(grids.grid(painted.in_8_bits(images), across))

    content = await painted.written(write, painted.size(decoded), context, bare=form == NPY)
    took.encode_s = perf_counter() - began
    took.observe(context, trace, model, DECODER)
    headers = took.headers(form, model)
    if "seed" in plan.told:
        headers.append((b"x-seed", b"%d" % plan.told["seed"]))
    return Answered(content, headers)


async def _asked(request: Request, body: bytes, query: dict[str, Option], context: Context) -> dict[str, Any]:
    """What query and body ask for together, by name; null counts as not given."""
    if not body:
        return dict(query)
    kind, _ = media_type(request, (JSON,))
    if not kind:
        raise UnsupportedMedia(
            f"the request has no content type, send {JSON}", subject="header.content-type", expected=JSON, got="none"
        )
    sizes = (m.manifest.latent.size for m in context.registry.models if m.manifest.latent)
    check_json(body, values=context.limits.max_rows * max(sizes, default=0) + 1000, fields=MAX_FIELDS)

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


def to_json(model: Model, images: NDArray[np.float32], codes: Latents, told: Mapping[str, Any]) -> bytes:
    """GenerateAnswer as bytes.

    Args:
        images: (N, H, W, C), from 0 to 1.
        codes: (N, Z)
        told: what else there is to say.
    """
    texts = painted.as_base64(painted.in_8_bits(images))
    results = [{"image": text, "latent": decimals(code)} for text, code in zip(texts, codes, strict=True)]
    answer: bytes = pydantic_core.to_json(
        {"model": model.name, "version": model.version, "device": model.device, **told, "results": results}
    )
    return answer
