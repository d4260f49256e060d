"""Pictures of the model's own size without their noise, and samples of the posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Picture
from app.engine.queue import OnStep
from app.tasks.denoise.noise_level import Sigmas, span_of
from app.tasks.denoise.posterior import IMAGE, chains
from app.tasks.denoise.runs import DENOISER, Rows, denoise_rows, estimate, no_label, work_on
from app.web.call import Call
from app.web.request.pixels import Pixels, floats
from app.web.response import images

Images = NDArray[np.float32]
"""(N, H, W, C), from 0 to 1."""


@dataclass(frozen=True, slots=True)
class PosteriorSamples:
    """What is sampled for each picture, beside the posterior mean."""

    number: int
    steps: int
    seed: int


async def restored(
    call: Call,
    pictures: Sequence[Pixels],
    sigmas: Sigmas | None,
    samples: PosteriorSamples | None,
    on_step: OnStep | None = None,
) -> tuple[Images, Sigmas, NDArray[np.float32] | None]:
    """The posterior means, the noise that was given or estimated, and the samples: (N, samples, H, W, C).

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: of the call.
    """
    model = call.model
    picture, declared = model.manifest.picture, model.manifest.sampling
    assert picture is not None
    x = _as_rows(pictures, picture)
    if sigmas is None:
        sigmas = np.clip(await estimate(call, x), *span_of(model.manifest))
    means = images.images_of(model, {"image": await denoise_rows(call, x, sigmas)})
    if samples is None:
        return means, sigmas, None
    assert declared is not None
    label = no_label(call, samples.number)
    make = partial(chains, x, sigmas, label, declared, samples=samples.number, steps=samples.steps, seed=samples.seed)
    sampler = await work_on(call, make, samples.number * x.size + len(x) * samples.steps)
    sampled = images.images_of(model, await call.sample(DENOISER, sampler, on_step), name=IMAGE)
    return means, sigmas, sampled.reshape(len(x), samples.number, *sampled.shape[1:])


def _as_rows(pictures: Sequence[Pixels], picture: Picture) -> Rows:
    x = np.stack([floats(pixels) for pixels in pictures])
    return x if picture.layout == "hwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
