"""Sampling in a manifest: how new rows are generated with a denoiser."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.core.manifest.part import ManifestPart

SamplerName = Literal["ancestral", "ddim", "euler", "heun", "multistep", "consistency"]


class SamplerSpec(ManifestPart):
    """One of `app/core/sampling/samplers.py` that suits the graph: its steps by default and at most.

    A step is a level of noise; `heun` evaluates the graph twice a step except in the last one, the others once.
    """

    name: SamplerName
    steps: Annotated[int, Field(ge=1, le=1000)]
    max_steps: Annotated[int, Field(ge=1, le=1000)]

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.steps > self.max_steps:
            raise ValueError(f"sampler '{self.name}': {self.steps} steps, max_steps is {self.max_steps}")
        return self


class Guidance(ManifestPart):
    """Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): D(x) + weight (D(x, label) - D(x)); 1 is the
    plain conditional model, 0 the unconditional one."""

    weight: Annotated[float, Field(ge=0, le=100)]  # where a request has none
    max_weight: Annotated[float, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.weight > self.max_weight:
            raise ValueError(f"guidance: weight {self.weight}, max_weight is {self.max_weight}")
        return self


class Sampling(ManifestPart):
    """Levels of noise, as standard deviations of pixels in [0, 1], and the samplers; the first is the default.

    A `ladder` lists levels from `sigma_max` to `sigma_min`, closest where the net's outputs change most. The levels of
    any number of steps are interpolated in it at even distances. Without one they are those of Karras et al. 2022,
    equation 5. The last level is 0.
    """

    sigma_min: Annotated[float, Field(gt=0)]
    sigma_max: Annotated[float, Field(gt=0)]
    rho: Annotated[float, Field(ge=1, le=100)] = 7.0
    ladder: Annotated[tuple[float, ...], Field(min_length=2, max_length=1000)] | None = None
    samplers: Annotated[tuple[SamplerSpec, ...], Field(min_length=1)]
    guidance: Guidance | None = None

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sampling: sigma_min {self.sigma_min} is not below sigma_max {self.sigma_max}")
        if self.ladder is not None:
            if (self.ladder[0], self.ladder[-1]) != (self.sigma_max, self.sigma_min):
                raise ValueError("sampling: ladder does not lead from sigma_max to sigma_min")
            if any(upper <= lower for upper, lower in pairwise(self.ladder)):
                raise ValueError("sampling: ladder does not fall from each level to the next")
        names = [sampler.name for sampler in self.samplers]
        if len(set(names)) != len(names):
            raise ValueError(f"sampling.samplers: one is there twice: {', '.join(names)}")
        return self

    def sampler(self, name: str | None) -> SamplerSpec | None:
        """The one of that name, the default where none is given; None where the model has none such."""
        if name is None:
            return self.samplers[0]
        return next((sampler for sampler in self.samplers if sampler.name == name), None)
