"""POST /v1/reconstruct: pictures in, what is left of them after a narrow code out.

Encoder, then decoder; how far the picture is from itself, and how unusual that is among held-out pictures.
"""

from __future__ import annotations

from typing import Final, cast

import numpy as np
from pydantic import TypeAdapter
from starlette.responses import Response

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.manifest import Tensors
from app.core.sampling.latents import Latents, moved, spread
from app.engine.model import Model
from app.tasks.reconstruct.openapi import describe
from app.tasks.reconstruct.outcome import Outcome, page, to_json
from app.tasks.reconstruct.schema import Perturb, ReconstructAnswer, ReconstructRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.openapi.schemas import LAYOUTS
from app.web.request.form import RequestForm
from app.web.request.json_body import read_value
from app.web.request.layout import arranged
from app.web.request.limits import Limits
from app.web.request.media_types import JSON, NPY, PNG
from app.web.request.model_choice import check_dimension, check_output_size, latent_of
from app.web.request.options import Option
from app.web.request.payload import taken
from app.web.response import images

ENCODER, DECODER = "encoder", "decoder"
PERTURB: Final = TypeAdapter(Perturb)


async def reconstruct(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    perturb = _perturb(call.options)
    layout, columns = arranged(
        call.options,
        call.media_type,
        LAYOUTS,
        call.limits,
        unless="" if perturb is None else "perturb",
        because="perturb makes a row of each picture",
    )
    model = call.choose_model("reconstruct", "image")
    if perturb is not None:
        check_dimension("perturb.dimension", perturb.dimension, model)
    with call.lease(model, ENCODER, DECODER):
        inputs = await call.decode_rows(payload, ENCODER)
        _check_decodings(perturb, len(inputs), model, call.limits)
        call.decoded(len(inputs))
        coded = await call.run(ENCODER, {model.manifest.graphs[ENCODER].inputs[0].name: inputs})
        latents = _latents(model, coded, perturb)
        decoded = await call.run(DECODER, {"latent": latents})

    def write() -> bytes:
        pixels = images.pixels_of(model, inputs)
        outcome = Outcome(model, pixels, images.images_of(model, decoded), coded, latents, perturb)
        if call.media_type == JSON:
            return to_json(outcome)
        return encode_npy(outcome.rows) if call.media_type == NPY else encode_png(page(outcome, layout, columns))

    size = images.size(decoded)
    inline = images.is_quick(size, numbers=call.media_type == NPY)
    return await call.respond(write, DECODER, size=size, inline=inline)


def _perturb(options: dict[str, Option]) -> Perturb | None:
    value = cast("object", options.get("perturb"))
    return None if value is None else read_value(value, PERTURB, "body.perturb", Perturb)


def _check_decodings(perturb: Perturb | None, n: int, model: Model, limits: Limits) -> None:
    if perturb is None:
        check_output_size(n, model, limits, subject="images")
    else:
        steps = 1 + len(perturb.by)
        check_output_size(n * steps, model, limits, subject="perturb", of=f"{n} x (1 + {steps - 1})")


def _latents(model: Model, coded: Tensors, perturb: Perturb | None) -> Latents:
    """What to decode: a code for each picture, then all those that are moved. (N, Z) or (N + N * K, Z)"""
    codes = images.codes_of(model, coded)
    if perturb is None:
        return codes
    unit = spread(latent_of(model), perturb.dimension)
    others = moved(codes, perturb.dimension, [unit * by for by in perturb.by])
    return np.concatenate([codes, others.reshape(-1, codes.shape[1])])


ENDPOINT: Final = Endpoint(
    path="/v1/reconstruct",
    name="reconstruct",
    summary="Code pictures and decode them",
    handler=reconstruct,
    request=RequestForm(
        schema=ReconstructRequest,
        options={"model": str, "version": str, "layout": str, "columns": int},
        json_options={"perturb": str},  # an object, in truth: its own schema reads it
        takes=taken(ReconstructRequest),
        offers=(JSON, PNG, NPY),
    ),
    response=ReconstructAnswer,
    describe=describe,
)
