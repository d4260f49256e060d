"""The options of a request beside its model: pictures to read, and what to sample of each."""

from __future__ import annotations

import secrets
from typing import Final

from app.core.errors import invalid
from app.core.manifest.sampling import SamplerSpec
from app.engine.model import Model
from app.tasks.denoise import outcome
from app.tasks.denoise.fixed_size import PosteriorSamples
from app.tasks.denoise.noise_level import span_of
from app.tasks.denoise.schema import MAX_SAMPLES, MAX_SEED
from app.web.call import Call
from app.web.openapi.operation import models_for
from app.web.request import pixels
from app.web.request.media_types import EVENT_STREAM, JSON, NPY, PNG
from app.web.request.model_choice import check_output_size, check_within
from app.web.request.payload import Payload
from app.web.request.pixels import Pixels

Inputs = tuple[list[Pixels], list[bytes]]
CHAIN: Final = "ancestral"
MOST_PIXELS: Final = 16 << 20  # of all photos in a request
NOISE: Final = 8  # standard deviations that noise stays within


def posterior_samples(call: Call, model: Model) -> PosteriorSamples | None:
    """What to sample, by the request.

    Raises:
        Unprocessable: options that belong to `samples` without it; a model that cannot sample; out of bounds.
    """
    options, form = call.options, call.media_type
    samples = options.get("samples")
    if samples is None:
        for name in ("steps", "seed"):
            if name in options:
                raise invalid(
                    name,
                    expected=f"samples beside it, or no {name}",
                    got="no samples",
                    detail=f"{name} belongs to samples, the request asks for none",
                )
        if form == EVENT_STREAM:
            raise invalid(
                "samples",
                expected=f"samples, or accept: {JSON}",
                got="none",
                detail="what is streamed are the steps of samples, the request asks for none",
            )
        return None
    spec = _chain(model)
    if spec is None:
        others = sorted({other.name for other in models_for(call.context.registry, "denoise") if _chain(other)})
        raise invalid(
            "samples",
            expected=f"no samples, or a model that draws: {', '.join(others) or 'none is loaded'}",
            got=str(samples),
            detail=f"model '{model.name}' tells what is to be expected under the noise and cannot draw samples of it",
        )
    check_within("samples", int(samples), 1, MAX_SAMPLES)
    steps = int(options.get("steps", spec.steps))
    check_within("steps", steps, 1, spec.max_steps, f" for model '{model.name}'")
    seed = int(options.get("seed", secrets.randbelow(2**32)))
    check_within("seed", seed, 0, MAX_SEED)
    return PosteriorSamples(int(samples), steps, seed)


def _chain(model: Model) -> SamplerSpec | None:
    declared = model.manifest.sampling
    return None if declared is None else declared.sampler(CHAIN)


async def inputs(call: Call, payload: Payload, model: Model, samples: PosteriorSamples | None) -> Inputs:
    """The noisy pictures, (H, W, C) each, and their ICC profiles.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs; or more than one response may hold.
        TooLate: they were not read by the deadline.
    """
    limits, picture, form = call.limits, model.manifest.picture, call.media_type
    span = NOISE * span_of(model.manifest)[1]
    size = None if picture is None else (picture.height, picture.width)
    channels = None if picture is None else picture.channels
    most = limits.max_pixels if picture is not None else min(limits.max_pixels, MOST_PIXELS)

    there = 0  # pixels, of the parts before

    def work(part: Payload, max_pixels: int) -> Inputs:
        nonlocal there
        read = pixels.pictures(
            part, size=size, channels=channels, max_rows=limits.max_rows, max_pixels=max_pixels, span=span, there=there
        )
        there += sum(one.shape[0] * one.shape[1] for one in read[0])
        return read

    parts = await call.decode(payload, work, max_pixels=most)
    found, profiles = [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]
    if picture is None:
        if form == NPY:
            outcome.check_rows(found)
        elif form == PNG:
            outcome.check_page(found)
        return found, profiles
    n, each = len(found), samples.number if samples else 1
    subject, of = ("samples", f"{n} x {each}") if samples else ("images", "")
    check_output_size(n * each, model, limits, subject=subject, of=of)
    return found, profiles
