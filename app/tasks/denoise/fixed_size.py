"""Pictures of the model's own size without their noise, and restorations drawn of each."""

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
from app.tasks.denoise.runs import Rows, Runs
from app.web.request.pixels import Pixels, floats
from app.web.response import images as painted

Images = NDArray[np.float32]
"""(N, H, W, C), from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What is to be drawn of each picture, beside what is to be expected."""

    samples: int
    steps: int
    seed: int


async def restored(
    runs: Runs, pictures: Sequence[Pixels], sigmas: Sigmas | None, draw: Draw | None, on_step: OnStep | None = None
) -> tuple[Images, Sigmas, NDArray[np.float32] | None]:
    """The posterior means, the noise that was told or estimated, and what was drawn: (N, samples, H, W, C).

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: of the runs.
    """
    model = runs.model
    picture, declared = model.manifest.picture, model.manifest.sampling
    assert picture is not None
    x = _as_rows(pictures, picture)
    if sigmas is None:
        sigmas = np.clip(await runs.estimate(x), *span_of(model.manifest))
    images = painted.images(model, {"image": await runs.denoise(x, sigmas)})
    if draw is None:
        return images, sigmas, None
    assert declared is not None
    label = runs.label(draw.samples)
    begin = partial(chains, x, sigmas, label, declared, samples=draw.samples, steps=draw.steps, seed=draw.seed)
    sampler = await runs.aside(begin, draw.samples * x.size + len(x) * draw.steps)
    drawn = painted.images(model, await runs.sample(sampler, on_step), name=IMAGE)
    return images, sigmas, drawn.reshape(len(x), draw.samples, *drawn.shape[1:])


def _as_rows(pictures: Sequence[Pixels], picture: Picture) -> Rows:
    x = np.stack([floats(pixels) for pixels in pictures])
    return x if picture.layout == "hwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
