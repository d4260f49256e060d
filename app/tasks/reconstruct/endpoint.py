"""POST /v1/reconstruct: pictures in, what is left of them after a narrow code out.

Encoder, then decoder; how far the picture is from itself, and how unusual that is among held-out pictures.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final, cast

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.manifest import Tensors
from app.core.sampling.latents import Latents, moved, spread
from app.engine.model import Model
from app.tasks.reconstruct import openapi as documents
from app.tasks.reconstruct.outcome import Made, page, to_json
from app.tasks.reconstruct.schema import LAYOUTS, Perturb, ReconstructAnswer, ReconstructRequest
from app.web.context import Context, Limits, Trace
from app.web.disconnect import CancelOnDisconnect
from app.web.endpoint import Find, Short
from app.web.openapi.operation import Documented
from app.web.request import rows
from app.web.request.accept import choose
from app.web.request.body import header, media_type, read_body
from app.web.request.deadline import deadline_and_priority
from app.web.request.json_body import read_value
from app.web.request.layout import arranged
from app.web.request.model_choice import check_dimension, check_made, choose_model, latent_of
from app.web.request.options import Known, Option, from_query
from app.web.request.payload import JSON, NPY, taken
from app.web.response import images as painted
from app.web.response.encoded import EncodedResponse
from app.web.timing import Took

PATH: Final = "/v1/reconstruct"
ENCODER, DECODER = "encoder", "decoder"
TAKEN: Final = taken(ReconstructRequest)
ANSWERS: Final = (JSON, painted.PNG, NPY)
OPTIONS: Final[Known] = {"model": str, "version": str, "layout": str, "columns": int}
IN_JSON: Final[Known] = {**OPTIONS, "perturb": str}  # an object, in truth: its own schema reads it
PERTURB: Final = TypeAdapter(Perturb)


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(
        PATH, response_model=ReconstructAnswer, operation_id="reconstruct", summary="Code pictures and decode them"
    )
    async def reconstruct(request: Request) -> Response:
        return await answer(request, context)

    return routes


def short_way(context: Context) -> Find:
    """POST /v1/reconstruct, without the router."""
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
    known = IN_JSON if kind == JSON else OPTIONS
    payload = await rows.parse(
        kind, parameters, body, query=query, known=known, schema=ReconstructRequest, context=context
    )
    perturb = _perturb(payload.options)
    layout, columns = arranged(
        payload.options,
        form,
        LAYOUTS,
        context.limits,
        unless="" if perturb is None else "perturb",
        because="perturb makes a row of each picture",
    )
    model = choose_model(payload.options, context, "reconstruct", "image")
    if perturb is not None:
        check_dimension("perturb.dimension", perturb.dimension, model)
    for graph in (ENCODER, DECODER):
        model.check_room(graph)
    with model.lease(), CancelOnDisconnect(request):
        inputs = await rows.decode(payload, model, ENCODER, context)
        _check_decodings(perturb, len(inputs), model, context.limits)
        took = Took(decode_s=perf_counter() - began)
        trace = Trace.of(request.scope)
        trace.model, trace.rows = model.name, len(inputs)
        tensors = {model.manifest.graphs[ENCODER].inputs[0].name: inputs}
        coded = took.add(await model.run(ENCODER, tensors, deadline=deadline, priority=priority))
        latents = _latents(model, coded, perturb)
        decoded = took.add(await model.run(DECODER, {"latent": latents}, deadline=deadline, priority=priority))

    began = perf_counter()

    def write() -> bytes:
        made = Made(model, painted.pixels(model, inputs), painted.images(model, decoded), coded, latents, perturb)
        if form == JSON:
            return to_json(made)
        return encode_npy(made.wanted) if form == NPY else encode_png(page(made, layout, columns))

    content = await painted.written(write, painted.size(decoded), context, bare=form == NPY)
    took.encode_s = perf_counter() - began
    took.observe(context, trace, model, DECODER)
    return EncodedResponse(content, took.headers(form, model))


def _perturb(options: dict[str, Option]) -> Perturb | None:
    given = cast("object", options.get("perturb"))
    return None if given is None else read_value(given, PERTURB, "body.perturb", Perturb)


def _check_decodings(perturb: Perturb | None, n: int, model: Model, limits: Limits) -> None:
    if perturb is None:
        check_made(n, model, limits, subject="images")
    else:
        steps = 1 + len(perturb.by)
        check_made(n * steps, model, limits, subject="perturb", of=f"{n} x (1 + {steps - 1})")


def _latents(model: Model, coded: Tensors, perturb: Perturb | None) -> Latents:
    """What to decode: a code for each picture, then all those that are moved. (N, Z) or (N + N * K, Z)"""
    codes = painted.codes(model, coded)
    if perturb is None:
        return codes
    unit = spread(latent_of(model), perturb.dimension)
    others = moved(codes, perturb.dimension, [unit * by for by in perturb.by])
    return np.concatenate([codes, others.reshape(-1, codes.shape[1])])
