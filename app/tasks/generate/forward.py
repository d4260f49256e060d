"""A picture under more and more noise: the forward process, which sampling reverses. No graph is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from app.core.errors import invalid
from app.core.manifest import Tensors
from app.core.sampling import factory as samplers
from app.core.sampling.schedules import levels
from app.engine.model import Model
from app.engine.queue import OnStep
from app.tasks.generate.init_image import read
from app.tasks.generate.plan import Generated, Images, Plan, seed_of
from app.tasks.generate.schema import MOST_LEVELS
from app.web.call import Call
from app.web.request.limits import Limits
from app.web.request.model_choice import check_output_size, check_within
from app.web.response.images import images_of


@dataclass(frozen=True, slots=True)
class ForwardPlan:
    """A plan that adds noise, for which no graph is run.

    Attributes:
        sigmas: noise in each picture, rising from 0: (n,).
        image: as the request has it.
    """

    model: Model
    n: int
    seed: int
    sigmas: list[float]
    image: object
    graphs: tuple[str, ...] = ("denoiser",)
    evaluations: int = 0

    @property
    def columns(self) -> int:
        return self.n

    @property
    def details(self) -> dict[str, Any]:
        return {"seed": self.seed, "steps": self.n - 1, "evaluations": 0}

    async def make(self, call: Call, on_step: OnStep | None = None) -> Generated:
        picture = self.model.manifest.picture
        assert picture is not None
        most = call.limits.max_pixels

        def work() -> Images:
            x = read(self.image, None, picture, most).image
            chain = samplers.forward(x[None], self.sigmas, samplers.noises(1, picture.shape, self.seed))
            frames = [displayed(x, sigma) for x, sigma in zip(chain, self.sigmas, strict=True)]
            return images_of(self.model, {"image": np.concatenate(frames)})

        size = await call.size_of(self.image) + len(self.sigmas) * prod(picture.shape)
        return Generated(await call.prepare(work, size), [{"sigma": float(f"{sigma:.6g}")} for sigma in self.sigmas])

    def preview(self, outputs: Tensors) -> Images:
        return images_of(self.model, outputs)


def plan(options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    """As many levels as the option says, from the least to the most noise that the model knows.

    Raises:
        Unprocessable: no picture.
        TooLarge: more pictures than the limits.
    """
    declared, steps = model.manifest.sampling, options["forward"]
    assert declared is not None
    check_within("forward", steps, 1, MOST_LEVELS)
    check_output_size(steps + 1, model, limits, subject="forward", of=f"1 + {steps}")
    if "init_image" not in options:
        raise invalid(
            "init_image",
            expected="a picture",
            got="none",
            detail="forward adds noise to a picture, the request has no init_image",
        )
    sigmas = levels(declared, steps)[::-1]
    return ForwardPlan(model, steps + 1, seed_of(options), sigmas, options["init_image"])


def displayed(x: Images, sigma: float) -> Images:
    """x = x0 + sigma * noise, scaled towards mid-grey so that black and white noise alone remains at the end:
    in units where pixels go from -1 to 1, x / sqrt(1 + sigma^2), as the chain of Ho et al. 2020 (equation 4) has it."""
    scaled: Images = 0.5 + (x - 0.5) / np.float32(sqrt(1 + 4 * sigma**2))
    return scaled
