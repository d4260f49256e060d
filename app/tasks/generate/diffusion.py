"""Pictures by diffusion: noise is removed in steps, from the seed's noise alone or from a picture under some of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.core.errors import invalid, shown
from app.core.manifest import Picture, Tensors
from app.core.manifest.sampling import SamplerSpec, Sampling
from app.core.sampling import factory as samplers
from app.core.sampling.samplers import Sampler, evaluations, inpaint, on_graph
from app.core.sampling.schedules import levels, resampling_steps
from app.core.text import did_you_mean
from app.engine.model import Model
from app.engine.queue import OnStep
from app.tasks.generate import labels
from app.tasks.generate.init_image import InitImage, read
from app.tasks.generate.labels import Labels
from app.tasks.generate.plan import Generated, Images, Plan, seed_of
from app.tasks.generate.schema import DEFAULT_VISITS, MOST_VISITS
from app.web.call import Call
from app.web.request.limits import Limits
from app.web.request.model_choice import check_within
from app.web.response.images import images_of

DENOISER: Final = "denoiser"
ANCESTRAL: Final = "ancestral"
"""Samples new noise at every step, so that what is generated beside known pixels comes to fit them."""
MOST_AT_ONCE: Final = 1 << 16
"""Numbers of noise that are sampled on the event loop; more are sampled in a thread."""


@dataclass(slots=True)
class DiffusionPlan:
    """A plan of a model that samples in steps.

    Attributes:
        labels: (n,), the index after the last for none; None where the model has none.
        guidance: weight of the label; None where there is none, or the model is not guided.
        strength: of the initial picture, from 0 to 1.
        visits: to each level of noise, where there is a mask.
        given: that picture and its mask, as the request has them.
        start: the same, once they have been read.
    """

    model: Model
    declared: Sampling
    n: int
    seed: int
    spec: SamplerSpec
    steps: int
    labels: Labels | None
    guidance: float | None
    strength: float
    visits: int
    given: tuple[object, object]
    start: InitImage | None = None
    columns: int | None = None
    graphs: tuple[str, ...] = (DENOISER,)

    @property
    def details(self) -> dict[str, Any]:
        details: dict[str, Any] = {"seed": self.seed, "sampler": self.spec.name, "steps": self.steps}
        details |= {"evaluations": self.evaluations, "guidance": self.guidance}
        image, mask = self.given
        details |= {} if image is None else {"strength": self.strength}
        return details if mask is None else details | {"visits": self.visits}

    @property
    def evaluations(self) -> int:
        steps = self.visits * (self.steps - 1) + 1
        return evaluations(self.spec.name, steps) if self.strength else 0

    async def make(self, call: Call, on_step: OnStep | None = None) -> Generated:
        image, mask = self.given
        if image is not None:
            picture, most = _picture_of(self.model), call.limits.max_pixels
            size = await call.size_of(image, mask)
            self.start = await call.prepare(lambda: read(image, mask, picture, most), size)
        numbers = self.n * math.prod(_picture_of(self.model).shape)
        sampler = self._sampler() if numbers <= MOST_AT_ONCE else await call.prepare(self._sampler, numbers)
        outputs = await call.sample(DENOISER, sampler, on_step)
        images = images_of(self.model, outputs)
        named = labels.names(self.labels, self.model)
        return Generated(images, [{"label": name} for name in named] or [{} for _ in images])

    def preview(self, outputs: Tensors) -> Images:
        seen = outputs["denoised"]
        if self._both:
            seen = samplers.combine_guidance(seen, self.guidance or 0.0)
        if self.start is not None and self.start.known is not None:
            seen = self.start.known * self.start.image + (1 - self.start.known) * seen
        return images_of(self.model, {"image": seen})

    @property
    def _both(self) -> bool:
        """Whether the denoiser is evaluated with and without the label: with weight 1 the latter does not count, with
        0 only the latter does."""
        return self.guidance not in (None, 0, 1)

    def _sampler(self) -> Sampler:
        sigmas = levels(self.declared, self.steps, self.strength)
        noise = samplers.noises(self.n, _picture_of(self.model).shape, self.seed)
        known: Any = 0.0 if self.start is None else self.start.image
        x = samplers.add_noise(known, sigmas[0], next(noise))
        steps = samplers.make_sampler(self.spec.name, x, resampling_steps(sigmas, self.visits), noise)
        if self.start is not None and self.start.known is not None:
            steps = inpaint(steps, self.start.image, self.start.known)
        given = self.labels
        if self._both:
            assert self.guidance is not None
            assert given is not None
            steps = samplers.guided(steps, self.guidance)
            given = np.concatenate([given, labels.nothing(self.n, self.model)])
        fixed = {} if given is None else {"label": given}
        return on_graph(steps, t="sigma", answer="denoised", result="image", given=fixed)


def fields(model: Model) -> tuple[str, ...]:
    """The options that such a model takes."""
    guided = _declared(model).guidance is not None
    return (
        *("n", "forward", "seed"),
        *(("label", "labels") if model.manifest.drawn_labels else ()),
        *(("guidance",) if guided else ()),
        *("sampler", "steps", "init_image", "strength", "mask"),
        *(("visits",) if _declared(model).sampler(ANCESTRAL) else ()),
    )


def why_not(name: str, model: Model) -> str:
    """Why it does not take that option."""
    if name in ("label", "labels"):
        return "has no labels"
    if name == "visits":
        return f"does not have the sampler {ANCESTRAL}"
    if name == "guidance":
        return "is not guided" if model.manifest.drawn_labels else "has no labels to be guided by"
    return "has no latent, it begins with noise that comes of the seed"


def plan(mode: str, options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    """What to generate, and in which steps.

    Raises:
        Unprocessable: values that do not fit the model, or each other.
        TooLarge: more pictures than the limits.
    """
    assert mode == "n"
    n = labels.count(options, model, limits)
    declared = _declared(model)
    spec = _spec(options, declared, model)
    steps: int = options.get("steps", spec.steps)
    check_within("steps", steps, 1, spec.max_steps, f" for sampler '{spec.name}' of model '{model.name}'")
    given, seed = _given(options), seed_of(options)
    chosen = labels.chosen(options, n, model)
    if chosen is None and given[0] is None:
        chosen = labels.sampled(n, model, seed)
    guidance = _guidance(options, chosen, declared, model)
    if chosen is None or guidance == 0:
        chosen = labels.nothing(n, model)
    return DiffusionPlan(
        model=model,
        declared=declared,
        n=n,
        seed=seed,
        spec=spec,
        steps=steps,
        labels=chosen,
        guidance=guidance,
        strength=options.get("strength", 1.0),
        visits=_visits(options, spec),
        given=given,
    )


def _spec(options: Mapping[str, Any], declared: Sampling, model: Model) -> SamplerSpec:
    name: str | None = options.get("sampler")
    if name is None and "mask" in options and declared.sampler(ANCESTRAL):
        name = ANCESTRAL
    spec = declared.sampler(name)
    if spec is None:
        there = [sampler.name for sampler in declared.samplers]
        names, hint = ", ".join(there), did_you_mean(str(name), there)
        raise invalid(
            "sampler",
            expected=names,
            got=shown(name),
            detail=f"sampler is {shown(name)}{hint}, model '{model.name}' has {names}",
        )
    return spec


def _guidance(options: Mapping[str, Any], chosen: Labels | None, declared: Sampling, model: Model) -> float | None:
    if declared.guidance is None:
        return None
    if chosen is None:
        if "guidance" in options:
            raise invalid(
                "guidance",
                expected="label or labels beside it",
                got="no label",
                detail="guidance is towards a label, beside init_image the request names none",
            )
        return None
    weight: float = options.get("guidance", declared.guidance.weight)
    _check_range("guidance", weight, declared.guidance.max_weight, f" for model '{model.name}'")
    return weight


def _visits(options: Mapping[str, Any], spec: SamplerSpec) -> int:
    missing = "a mask" if "mask" not in options else "" if spec.name == ANCESTRAL else f"the sampler {ANCESTRAL}"
    if missing and "visits" in options:
        got = "no mask" if "mask" not in options else spec.name
        raise invalid("visits", expected=missing, got=got, detail=f"visits go with {missing}, here is {got}")
    visits: int = 1 if missing else options.get("visits", DEFAULT_VISITS)
    check_within("visits", visits, 1, MOST_VISITS)
    return visits


def _given(options: Mapping[str, Any]) -> tuple[object, object]:
    for name in ("strength", "mask"):
        if name in options and "init_image" not in options:
            raise invalid(
                name,
                expected="init_image beside it",
                got="no init_image",
                detail=f"{name} is of the picture to begin with, the request has no init_image",
            )
    _check_range("strength", options.get("strength", 1.0), 1.0)
    return options.get("init_image"), options.get("mask")


def _check_range(name: str, value: float, most: float, why: str = "") -> None:
    if not 0 <= value <= most:
        raise invalid(name, expected=f"0 to {most:g}", got=f"{value:g}", why=why)


def _declared(model: Model) -> Sampling:
    assert model.manifest.sampling is not None
    return model.manifest.sampling


def _picture_of(model: Model) -> Picture:
    assert model.manifest.picture is not None
    return model.manifest.picture
