"""POST /v1/denoise: noisy pictures in, the posterior mean out; or samples of the posterior.

Models of two kinds answer: one for pictures of its own size, one for photos of any size, cut into tiles. Which of them
a model is, and what it can do, its manifest says.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import pydantic_core
from starlette.responses import Response

from app.codecs.images import grids
from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.manifest import Tensors
from app.tasks.denoise import fixed_size, options, outcome, photos
from app.tasks.denoise.fixed_size import PosteriorSamples
from app.tasks.denoise.noise_level import Sigmas, given_sigmas
from app.tasks.denoise.openapi import describe
from app.tasks.denoise.outcome import Outcome
from app.tasks.denoise.runs import DENOISER, work_on
from app.tasks.denoise.schema import DenoiseAnswer, DenoiseRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.openapi.schemas import LAYOUTS
from app.web.request.form import RequestForm
from app.web.request.layout import arranged
from app.web.request.media_types import EVENT_STREAM, JSON, NPY, PNG
from app.web.request.payload import taken
from app.web.request.pixels import Pixels
from app.web.response import images
from app.web.response.event_stream import EventStream, OnStep


async def denoise(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    layout, columns = arranged(
        call.options,
        call.media_type,
        LAYOUTS,
        call.limits,
        unless="samples" if "samples" in call.options else "",
        because="samples make a row of each picture",
    )
    model = call.choose_model("denoise", "image")
    samples = options.posterior_samples(call, model)
    with call.lease(model, DENOISER):
        inputs, profiles = await options.inputs(call, payload, model, samples)
        sigmas = given_sigmas(call.options.get("sigma_255"), len(inputs), model.manifest)
        call.decoded(len(inputs))
        if call.media_type == EVENT_STREAM:
            assert samples is not None
            return _stream(call, inputs, profiles, sigmas, samples)
        if model.manifest.plane is None:
            means, used, sampled = await fixed_size.restored(call, inputs, sigmas, samples)
            result = Outcome(model, inputs, profiles, list(means), used, sigmas is None, samples, sampled)
        else:
            with photos.room(model, inputs):
                restored, used = await photos.restored(call, inputs, sigmas, as_floats=call.media_type == NPY)
            result = Outcome(model, inputs, profiles, restored, used, sigmas is None)

    def write() -> bytes:
        if call.media_type == JSON:
            content: bytes = pydantic_core.to_json(outcome.as_json(result))
            return content
        if call.media_type == NPY:
            return encode_npy(outcome.rows(result))
        return encode_png(outcome.page(result, layout, columns), profile=outcome.profile(result))

    headers = [(b"x-sigma-255", ", ".join(f"{sigma:.6g}" for sigma in result.sigmas_255).encode("ascii"))]
    if samples is not None:
        headers.append((b"x-seed", b"%d" % samples.seed))
    inline = images.is_quick(result.size, numbers=call.media_type == NPY)
    return await call.respond(write, DENOISER, size=result.size, inline=inline, headers=tuple(headers))


def _stream(
    call: Call, inputs: list[Pixels], profiles: list[bytes], sigmas: Sigmas | None, samples: PosteriorSamples
) -> Response:
    """Each step of the sampling, with what it looks like, then what JSON would have been."""

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        means, used, sampled = await fixed_size.restored(call, inputs, sigmas, samples, on_step)
        result = Outcome(call.model, inputs, profiles, list(means), used, sigmas is None, samples, sampled)
        size = result.size
        return await call.encode(lambda: outcome.as_json(result), DENOISER, size=size, inline=images.is_quick(size))

    async def preview(outputs: Tensors) -> str:
        seen = images.in_8_bits(images.images_of(call.model, outputs, name="denoised"))
        page = await work_on(call, lambda: encode_png(grids.grid(seen, samples.number)), seen.size)
        return base64.b64encode(page).decode("ascii")

    return EventStream(work, steps=samples.steps, preview=preview, held=call.model.lease())


ENDPOINT: Final = Endpoint(
    path="/v1/denoise",
    name="denoise",
    summary="Take noise from pictures",
    handler=denoise,
    request=RequestForm(
        schema=DenoiseRequest,
        options=dict.fromkeys(("model", "version", "sigma_255", "layout"), str)
        | dict.fromkeys(("samples", "steps", "seed", "columns"), int),
        takes=taken(DenoiseRequest),
        offers=(JSON, PNG, NPY, EVENT_STREAM),
    ),
    response=DenoiseAnswer,
    describe=describe,
)
