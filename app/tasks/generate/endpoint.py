"""POST /v1/generate: new pictures, from latents or from noise, by label, from a picture, or between two.

The options depend on the model: `plans` makes a plan of a request, or says what the model takes instead.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from starlette.responses import Response

from app.codecs.images import grids
from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import UnsupportedMedia, invalid
from app.core.manifest import Tensors
from app.engine.model import Model
from app.tasks.generate import plans
from app.tasks.generate.openapi import describe
from app.tasks.generate.plan import Generated, Images, Plan
from app.tasks.generate.schema import GenerateAnswer, GenerateRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.form import RequestForm
from app.web.request.head import media_type
from app.web.request.json_body import read_json
from app.web.request.json_size import MAX_FIELDS, check_json, most_pixels
from app.web.request.media_types import EVENT_STREAM, JSON, NPY, PNG
from app.web.request.model_choice import check_within
from app.web.request.options import merged
from app.web.request.payload import SMALL_BODY
from app.web.response import images
from app.web.response.event_stream import EventStream, OnStep


async def generate(call: Call) -> Response:
    """One request from its first byte to its response."""
    call.read_head()
    options = await _options(call, await call.read_body())
    columns = _columns(call, options)
    mode = plans.mode(options)
    call.options = options
    model = call.choose_model("generate", "image")
    plan = plans.plan(mode, options, model, call.limits)
    lease = call.lease(model, *plan.graphs)
    call.decoded(plan.n)
    if call.media_type == EVENT_STREAM:
        return _stream(call, plan)
    with lease:
        generated = await plan.make(call)

    def write() -> bytes:
        if call.media_type == JSON:
            content: bytes = pydantic_core.to_json(_answer(model, plan, generated))
            return content
        if call.media_type == NPY:
            return encode_npy(generated.images)
        return encode_png(_page(generated.images, columns or plan.columns))

    size = generated.images.size
    inline = images.is_quick(size, numbers=call.media_type == NPY)
    headers = ((b"x-seed", b"%d" % plan.details["seed"]),) if "seed" in plan.details else ()
    return await call.respond(write, plan.graphs[-1], size=size, inline=inline, headers=headers)


def _stream(call: Call, plan: Plan) -> Response:
    """An event for each step, then the JSON answer."""
    model = call.model

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        generated = await plan.make(call, on_step)
        write = partial(_answer, model, plan, generated)
        size = generated.images.size
        return await call.encode(write, plan.graphs[-1], size=size, inline=images.is_quick(size))

    async def preview(outputs: Tensors) -> str:
        def write() -> bytes:
            return base64.b64encode(encode_png(_page(plan.preview(outputs), plan.columns)))

        size = images.size(outputs)
        return (await call.offload(write, size=size, inline=images.is_quick(size), owed=True)).decode("ascii")

    return EventStream(work, steps=max(1, plan.evaluations), preview=preview, held=model.lease())


def _page(pictures: Images, columns: int | None) -> NDArray[np.uint8]:
    return grids.grid(images.in_8_bits(pictures), columns or grids.near_square(*pictures.shape[:3]))


def _answer(model: Model, plan: Plan, generated: Generated) -> dict[str, Any]:
    """GenerateAnswer, as JSON values."""
    texts = images.as_base64(images.in_8_bits(generated.images))
    results = [{"image": text, **details} for text, details in zip(texts, generated.each, strict=True)]
    return {"model": model.name, "version": model.version, "device": model.device, **plan.details, "results": results}


async def _options(call: Call, body: bytes) -> dict[str, Any]:
    """The options of query and body together, by name; null counts as not given."""
    if not body:
        return dict(call.options)
    kind, _ = media_type(call.trace, (JSON,))
    if not kind:
        raise invalid(
            "header.content-type",
            expected=JSON,
            got="none",
            detail=f"the request has no content type, send {JSON}",
            error=UnsupportedMedia,
        )
    models, max_rows = call.context.registry.catalog.models, call.limits.max_rows
    codes = max_rows * max((m.manifest.latent.size for m in models if m.manifest.latent), default=1)  # or labels
    body = check_json(body, values=codes + 2 * most_pixels(models) + 1000, fields=MAX_FIELDS)
    work = partial(read_json, body, GenerateRequest)
    read = await call.offload(work, size=len(body), inline=len(body) <= SMALL_BODY, doing="the body was being read")
    return merged(call.options, {name: value for name, value in read if value is not None}, where="body")


def _columns(call: Call, options: Mapping[str, Any]) -> int | None:
    columns: int | None = options.get("columns")
    if columns is None:
        return None
    if call.media_type != PNG:
        raise invalid(
            "columns",
            expected=f"no columns, or accept: {PNG}",
            got=str(columns),
            detail=f"columns arranges the pictures of one {PNG}, here the answer is {call.media_type}",
        )
    check_within("columns", columns, 1, call.limits.max_rows)
    return columns


ENDPOINT: Final = Endpoint(
    path="/v1/generate",
    name="generate",
    summary="Make new pictures",
    handler=generate,
    request=RequestForm(
        schema=GenerateRequest,
        options=dict.fromkeys(("model", "version", "label", "sampler"), str)
        | dict.fromkeys(("n", "seed", "steps", "visits", "forward", "columns"), int)
        | dict.fromkeys(("guidance", "strength"), float),
        takes=(),  # JSON, or no body: looked at once the body is there
        offers=(JSON, PNG, NPY, EVENT_STREAM),
    ),
    response=GenerateAnswer,
    describe=describe,
)
