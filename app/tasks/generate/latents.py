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
from app.web.request.model_choice import check_dimension, check_made, check_within, latent_of
from app.web.request.payload import Payload
from app.web.response import images as pictures

CODE: Final = TypeAdapter(Code)
ENCODER, DECODER, GENERATOR = "encoder", "decoder", "generator"


def _none() -> Latents:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Codes:
    """A plan.

    Attributes:
        codes: (n, Z), where they are known without a run.
        ends: else the two pictures to encode first, base64, each with its place in the request.
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
        codes = await self._on_the_way(call) if self.ends else self.codes
        given: Tensors = {"latent": codes} if self.labels is None else {"latent": codes, "label": self.labels}
        images = pictures.images(self.model, await call.run(self.graphs[-1], given))
        each: list[dict[str, Any]] = [{"latent": decimals(code)} for code in codes]
        for result, name in zip(each, labels.names(self.labels, self.model), strict=False):
            result["label"] = name
        return Generated(images, each)

    def preview(self, outputs: Tensors) -> Images:
        return pictures.images(self.model, outputs)

    async def _on_the_way(self, call: Call) -> Latents:
        """From the code of the first picture to that of the second: (n, Z)."""
        payload = Payload({}, [*self.ends], json_bytes=sum(len(end) for _, end in self.ends))
        inputs = await call.decode_rows(payload, ENCODER)
        coded = await call.run(ENCODER, {self.model.manifest.graphs[ENCODER].inputs[0].name: inputs})
        return _way(pictures.codes(self.model, coded), self.n, latent_of(self.model))


def fields(model: Model) -> tuple[str, ...]:
    """What such a model can be asked with."""
    latent = latent_of(model)
    ways = [name for name in ("latents", "n", "between", "grid") if _has(name, latent)]
    return (
        *ways,
        *(("seed",) if latent.prior else ()),
        "frames",
        *(("label", "labels") if model.manifest.drawn_labels else ()),
    )


def why_not(name: str, model: Model) -> str:
    """Why it cannot be asked with that."""
    if name in ("n", "seed"):
        return "is a plain autoencoder: it has no prior to draw from, nothing but pictures tells where its latents are"
    if name == "grid":
        return "has a latent of 1, a grid takes two dimensions"
    if name in ("label", "labels"):
        return "has no labels"
    return "makes a picture of a latent, in one evaluation"


def plan(way: str, asked: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    """What to decode.

    Raises:
        Unprocessable: values that do not fit the model.
        TooLarge: more pictures than the limits.
    """
    if way == "latents":
        return _given(asked, model, limits)
    if way == "n":
        return _drawn(asked, model, limits)
    if way == "between":
        return _between(asked, model, limits)
    return _plane(asked, model, limits)


def _has(way: str, latent: Latent) -> bool:
    return {"n": latent.prior is not None, "grid": latent.size > 1}.get(way, True)


def _given(asked: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    codes: list[list[float]] = asked["latents"]
    check_made(len(codes), model, limits, subject="latents")
    for i, code in enumerate(codes):
        _check_length(code, f"body.latents[{i}]", model)
    chosen = labels.required(asked, len(codes), model, "latents")
    return Codes(model, len(codes), np.array(codes, np.float32), labels=chosen)


def _drawn(asked: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    n = labels.count(asked, model, limits)
    seed = seed_of(asked)
    chosen = labels.chosen(asked, n, model)
    if chosen is None:
        chosen = labels.drawn(n, model, seed)
    return Codes(model, n, latents.draw(n, latent_of(model).size, seed), labels=chosen, details={"seed": seed})


def _between(asked: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    frames: int = asked.get("frames", DEFAULT_FRAMES)
    check_within("frames", frames, 2, MOST_FRAMES)
    check_made(frames, model, limits, subject="frames")
    chosen = labels.required(asked, frames, model, "between")
    latent = latent_of(model)
    details = {"interpolation": "spherical" if latent.prior == "normal" else "linear"}
    named = [(f"body.between[{i}]", end) for i, end in enumerate(asked["between"])]
    pictures = tuple((place, end) for place, end in named if isinstance(end, str))
    if pictures and ENCODER not in model.manifest.graphs:
        subject, _ = pictures[0]
        raise invalid(
            subject,
            expected=f"a list of {latent.size}",
            got="a picture",
            detail=f"{subject} is a picture, model '{model.name}' codes none: it takes a latent of {latent.size}",
        )
    if len(pictures) == 2:
        return Codes(model, frames, ends=pictures, details=details, columns=frames)
    if pictures:
        raise invalid(
            "body.between",
            expected="two pictures or two latents",
            got="one of each",
            detail="body.between has a picture and a latent, it must have two of a kind",
        )
    codes = []
    for place, end in named:
        codes.append(read_value(end, CODE, place))
        _check_length(codes[-1], place, model)
    way = _way(np.array(codes, np.float32), frames, latent)
    return Codes(model, frames, way, labels=chosen, details=details, columns=frames)


def _way(ends: Latents, frames: int, latent: Latent) -> Latents:
    return latents.between(ends[0], ends[1], frames, spherical=latent.prior == "normal")


def _plane(asked: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    grid: Grid = asked["grid"]
    check_made(grid.side**2, model, limits, subject="grid", of=f"{grid.side} x {grid.side}")
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
    chosen = labels.required(asked, len(codes), model, "grid")
    details = {"grid": {"side": grid.side, "dimensions": grid.dimensions}}
    return Codes(model, len(codes), codes, labels=chosen, details=details, columns=grid.side)


def _check_length(code: list[float], place: str, model: Model) -> None:
    size = latent_of(model).size
    if len(code) != size:
        got = f"{len(code)} number{'s' if len(code) > 1 else ''}"
        raise invalid(
            place,
            expected=f"a list of {size}",
            got=got,
            detail=f"{place} has {got}, a latent of model '{model.name}' has {size}",
        )
