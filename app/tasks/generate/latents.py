"""Pictures from latents in one run: decoders of autoencoders and variational ones, generators, conditional ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter

from app.codecs.decimals import decimals
from app.core.errors import invalid
from app.core.manifest import Tensors
from app.core.manifest.latent import Latent
from app.core.sampling import latents
from app.core.sampling.latents import Latents
from app.engine.model import Model
from app.engine.queue import OnStep
from app.tasks.generate import labels
from app.tasks.generate.labels import Labels
from app.tasks.generate.plan import Generated, Images, Plan, seed_of
from app.tasks.generate.schema import DEFAULT_FRAMES, MOST_FRAMES, Code, Grid
from app.web.call import Call
from app.web.request.json_body import read_value
from app.web.request.limits import Limits
from app.web.request.model_choice import check_dimension, check_output_size, check_within, latent_of, most_pictures
from app.web.request.payload import Payload
from app.web.response.images import codes_of, images_of

CODE: Final = TypeAdapter(Code)
ENCODER, DECODER, GENERATOR = "encoder", "decoder", "generator"


def _none() -> Latents:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class LatentPlan:
    """A plan of a model that decodes latents.

    Attributes:
        codes: (n, Z), where they are known without a run.
        ends: else the two pictures to encode first, base64, each with its field in the request.
        labels: (n,), where the model has labels.
    """

    model: Model
    n: int
    codes: Latents = field(default_factory=_none)
    ends: tuple[tuple[str, str], ...] = ()
    labels: Labels | None = None
    details: dict[str, Any] = field(default_factory=dict)
    columns: int | None = None
    evaluations: int = 1

    @property
    def graphs(self) -> tuple[str, ...]:
        last = GENERATOR if GENERATOR in self.model.manifest.graphs else DECODER
        return (ENCODER, last) if self.ends else (last,)

    async def make(self, call: Call, on_step: OnStep | None = None) -> Generated:
        codes = await self._path_between_pictures(call) if self.ends else self.codes
        given: Tensors = {"latent": codes} if self.labels is None else {"latent": codes, "label": self.labels}
        images = images_of(self.model, await call.run(self.graphs[-1], given))
        each: list[dict[str, Any]] = [{"latent": decimals(code)} for code in codes]
        for result, name in zip(each, labels.names(self.labels, self.model), strict=False):
            result["label"] = name
        return Generated(images, each)

    def preview(self, outputs: Tensors) -> Images:
        return images_of(self.model, outputs)

    async def _path_between_pictures(self, call: Call) -> Latents:
        """From the code of the first picture to that of the second: (n, Z)."""
        payload = Payload({}, [*self.ends], json_bytes=sum(len(end) for _, end in self.ends))
        inputs = await call.decode_rows(payload, ENCODER)
        coded = await call.run(ENCODER, {self.model.manifest.graphs[ENCODER].inputs[0].name: inputs})
        return _path(codes_of(self.model, coded), self.n, latent_of(self.model))


def fields(model: Model) -> tuple[str, ...]:
    """The options that such a model takes."""
    latent = latent_of(model)
    modes = [name for name in ("latents", "n", "between", "grid") if _has(name, latent)]
    return (
        *modes,
        *(("seed",) if latent.prior else ()),
        "frames",
        *(("label", "labels") if model.manifest.drawn_labels else ()),
    )


def why_not(name: str, model: Model) -> str:
    """Why it does not take that option."""
    if name in ("n", "seed"):
        return "is a plain autoencoder: it has no prior to draw from, nothing but pictures tells where its latents are"
    if name == "grid":
        return "has a latent of 1, a grid takes two dimensions"
    if name in ("label", "labels"):
        return "has no labels"
    return "makes a picture of a latent, in one evaluation"


def plan(mode: str, options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    """What to decode.

    Raises:
        Unprocessable: values that do not fit the model.
        TooLarge: more pictures than the limits.
    """
    if mode == "latents":
        return _given(options, model, limits)
    if mode == "n":
        return _sampled(options, model, limits)
    if mode == "between":
        return _between(options, model, limits)
    return _plane(options, model, limits)


def _has(mode: str, latent: Latent) -> bool:
    return {"n": latent.prior is not None, "grid": latent.size > 1}.get(mode, True)


def _given(options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    codes: list[list[float]] = options["latents"]
    check_output_size(len(codes), model, limits, subject="latents")
    for i, code in enumerate(codes):
        _check_length(code, f"body.latents[{i}]", model)
    chosen = labels.required(options, len(codes), model, "latents")
    return LatentPlan(model, len(codes), np.array(codes, np.float32), labels=chosen)


def _sampled(options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    n = labels.count(options, model, limits)
    seed = seed_of(options)
    chosen = labels.chosen(options, n, model)
    if chosen is None:
        chosen = labels.sampled(n, model, seed)
    return LatentPlan(
        model, n, latents.sample_prior(n, latent_of(model).size, seed), labels=chosen, details={"seed": seed}
    )


def _between(options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    frames: int = options.get("frames", min(DEFAULT_FRAMES, most_pictures(model, limits)))
    check_within("frames", frames, 2, MOST_FRAMES)
    check_output_size(frames, model, limits, subject="frames")
    chosen = labels.required(options, frames, model, "between")
    latent = latent_of(model)
    details = {"interpolation": "spherical" if latent.prior == "normal" else "linear"}
    named = [(f"body.between[{i}]", end) for i, end in enumerate(options["between"])]
    pictures = tuple((subject, end) for subject, end in named if isinstance(end, str))
    if pictures and ENCODER not in model.manifest.graphs:
        subject, _ = pictures[0]
        raise invalid(
            subject,
            expected=f"a list of {latent.size}",
            got="a picture",
            detail=f"{subject} is a picture, model '{model.name}' codes none: it takes a latent of {latent.size}",
        )
    if len(pictures) == 2:
        return LatentPlan(model, frames, ends=pictures, details=details, columns=frames)
    if pictures:
        raise invalid(
            "body.between",
            expected="two pictures or two latents",
            got="one of each",
            detail="body.between has a picture and a latent, it must have two of a kind",
        )
    codes = []
    for subject, end in named:
        codes.append(read_value(end, CODE, subject))
        _check_length(codes[-1], subject, model)
    path = _path(np.array(codes, np.float32), frames, latent)
    return LatentPlan(model, frames, path, labels=chosen, details=details, columns=frames)


def _path(ends: Latents, frames: int, latent: Latent) -> Latents:
    return latents.between(ends[0], ends[1], frames, spherical=latent.prior == "normal")


def _plane(options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    grid: Grid = options["grid"]
    check_output_size(grid.side**2, model, limits, subject="grid", of=f"{grid.side} x {grid.side}")
    across, up = grid.dimensions
    check_dimension("grid.dimensions[0]", across, model)
    check_dimension("grid.dimensions[1]", up, model)
    if across == up:
        raise invalid(
            "grid.dimensions",
            expected="two different dimensions",
            got=str(grid.dimensions),
            detail=f"grid.dimensions are both {across}, they must differ",
        )
    codes = latents.plane(latent_of(model), grid.side, (across, up))
    chosen = labels.required(options, len(codes), model, "grid")
    details = {"grid": {"side": grid.side, "dimensions": grid.dimensions}}
    return LatentPlan(model, len(codes), codes, labels=chosen, details=details, columns=grid.side)


def _check_length(code: list[float], subject: str, model: Model) -> None:
    size = latent_of(model).size
    if len(code) != size:
        got = f"{len(code)} number{'s' if len(code) > 1 else ''}"
        raise invalid(
            subject,
            expected=f"a list of {size}",
            got=got,
            detail=f"{subject} has {got}, a latent of model '{model.name}' has {size}",
        )
