"""What a request asks for beside its model: pictures to read, and what to draw of each."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from app.core.errors import Unprocessable
from app.core.manifest.sampling import SamplerSpec
from app.engine.model import Model
from app.tasks.denoise import outcome as made
from app.tasks.denoise.fixed_size import Draw
from app.tasks.denoise.noise_level import span_of
from app.tasks.denoise.schema import MAX_SAMPLES, MAX_SEED
from app.web.context import Context
from app.web.openapi.operation import models_for
from app.web.request import pixels as raw
from app.web.request.model_choice import check_made, check_within
from app.web.request.options import Option
from app.web.request.payload import JSON, NPY, Payload
from app.web.request.pixels import Pixels
from app.web.response import images as painted
from app.web.response.event_stream import MEDIA_TYPE

CHAIN: Final = "ancestral"
MOST_PIXELS: Final = 16 << 20  # of all photos in a request
NOISE: Final = 8  # standard deviations that noise stays within


def draw(options: Mapping[str, Option], model: Model, form: str, context: Context) -> Draw | None:
    """What is to be drawn.

    Raises:
        Unprocessable: options that belong to `samples` without it; a model that cannot draw; out of bounds.
    """
    samples = options.get("samples")
    if samples is None:
        for name in ("steps", "seed"):
            if name in options:
                raise Unprocessable(
                    f"{name} belongs to samples, the request asks for none",
                    subject=name,
                    expected=f"samples beside it, or no {name}",
                    got="no samples",
                )
        if form == MEDIA_TYPE:
            raise Unprocessable(
                "what is streamed are the steps of samples, the request asks for none",
                subject="samples",
                expected=f"samples, or accept: {JSON}",
                got="none",
            )
        return None
    spec = _chain(model)
    if spec is None:
        others = sorted({other.name for other in models_for(context, "denoise") if _chain(other)})
        raise Unprocessable(
            f"model '{model.name}' tells what is to be expected under the noise and cannot draw samples of it",
            subject="samples",
            expected=f"no samples, or a model that draws: {', '.join(others) or 'none is loaded'}",
            got=str(samples),
        )
    check_within("samples", int(samples), 1, MAX_SAMPLES)
    steps = int(options.get("steps", spec.steps))
    check_within("steps", steps, 1, spec.max_steps, f" for model '{model.name}'")
    seed = int(options.get("seed", secrets.randbelow(2**32)))
    check_within("seed", seed, 0, MAX_SEED)
    return Draw(int(samples), steps, seed)


def _chain(model: Model) -> SamplerSpec | None:
    declared = model.manifest.sampling
    return None if declared is None else declared.sampler(CHAIN)


async def inputs(
    payload: Payload, model: Model, context: Context, form: str, draw: Draw | None, deadline: float
) -> list[Pixels]:
    """The noisy pictures, (H, W, C) each.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs; or more than is made for one request.
        TooLate: they were not read by the deadline.
    """
    limits, picture = context.limits, model.manifest.picture
    span = NOISE * span_of(model.manifest)[1]
    if picture is None:
        most = min(limits.max_pixels, MOST_PIXELS)
        found = await raw.read(
            payload, context, size=None, channels=None, max_pixels=most, deadline=deadline, span=span
        )
        if form == NPY:
            made.check_rows(found)
        elif form == painted.PNG:
            made.check_page(found)
        return found
    size = (picture.height, picture.width)
    found = await raw.read(
        payload,
        context,
        size=size,
        channels=picture.channels,
        max_pixels=limits.max_pixels,
        deadline=deadline,
        span=span,
    )
    n, each = len(found), draw.samples if draw else 1
    subject, of = ("samples", f"{n} x {each}") if draw else ("images", "")
    check_made(n * each, model, limits, subject=subject, of=of)
    return found
