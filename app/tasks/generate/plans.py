"""What to decode for a request, for models that decode latents: autoencoders and variational ones."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter

from app.core import latents
from app.core.codes import Latent
from app.core.errors import Unprocessable
from app.core.latents import Latents
from app.engine.model import Model
from app.tasks.generate.schema import BELONGS_TO, DEFAULT_FRAMES, MAX_SEED, MOST_FRAMES, WAYS, Code, Grid
from app.wire.choice import check_dimension, check_made, check_within, latent_of
from app.wire.context import Limits
from app.wire.json_body import read_value

CODE: Final = TypeAdapter(Code)


def _none() -> Latents:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pictures, from what.

    Attributes:
        codes: (n, Z), where they are known without a run.
        ends: else the two pictures to encode first, base64, each with its place in the request.
        told: what the answer says besides the pictures.
        columns: of a grid of them; None for near square.
    """

    n: int
    codes: Latents = field(default_factory=_none)
    ends: tuple[tuple[str, str], ...] = ()
    told: dict[str, Any] = field(default_factory=dict)
    columns: int | None = None


def way(asked: Mapping[str, Any]) -> str:
    """The one way to come by pictures that is asked for.

    Raises:
        Unprocessable: none, more than one, or an option that belongs to another.
    """
    given = [name for name in WAYS if name in asked]
    if len(given) != 1:
        listed, got = ", ".join(WAYS), " and ".join(given) or "none of them"
        raise Unprocessable(
            f"the request must have one of {listed}; it has {got}",
            subject=given[1] if given else "body",
            expected=f"one of {listed}",
            got=got,
        )
    for option, owner in BELONGS_TO.items():
        if option in asked and owner != given[0]:
            raise Unprocessable(
                f"{option} belongs to {owner}, the request has {given[0]}",
                subject=option,
                expected=f"{option} with {owner}, or {given[0]} alone",
                got=f"{option} with {given[0]}",
            )
    return given[0]


def plan(way: str, asked: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    """What to decode.

    Raises:
        Unprocessable: a way that the model does not have, or values that do not fit it.
        TooLarge: more pictures than the limits.
    """
    _check_way(way, model)
    if way == "latents":
        return _given(asked["latents"], model, limits)
    if way == "n":
        return _drawn(asked["n"], asked.get("seed"), model, limits)
    if way == "between":
        return _between(asked["between"], asked.get("frames", DEFAULT_FRAMES), model, limits)
    return _plane(asked["grid"], model, limits)


def on_the_way(model: Model, ends: Latents, frames: int) -> Latents:
    """From the first of two codes to the second: (frames, Z)."""
    return latents.between(ends[0], ends[1], frames, spherical=latent_of(model).prior == "normal")


def _check_way(way: str, model: Model) -> None:
    latent = latent_of(model)
    if way == "n" and latent.prior is None:
        why = "is a plain autoencoder: it has no prior to draw from, nothing but pictures tells where its latents are"
    elif way == "grid" and latent.size < 2:
        why = "has a latent of 1, a grid takes two dimensions"
    else:
        return
    there = [name for name in WAYS if (name != "n" or latent.prior) and (name != "grid" or latent.size > 1)]
    raise Unprocessable(
        f"model '{model.name}' {why}; it can be asked for {', '.join(there)}",
        subject=way,
        expected=", ".join(there),
        got=way,
    )


def _given(codes: list[list[float]], model: Model, limits: Limits) -> Plan:
    check_made(len(codes), model, limits, subject="latents")
    for i, code in enumerate(codes):
        _check_length(code, f"body.latents[{i}]", model, latent_of(model))
    return Plan(len(codes), np.array(codes, np.float32))


def _drawn(n: int, seed: int | None, model: Model, limits: Limits) -> Plan:
    check_within("n", n, 1, limits.max_rows)
    check_made(n, model, limits, subject="n")
    seed = secrets.randbelow(2**32) if seed is None else seed
    check_within("seed", seed, 0, MAX_SEED)
    return Plan(n, latents.draw(n, latent_of(model).size, seed), told={"seed": seed})


def _between(ends: list[Any], frames: int, model: Model, limits: Limits) -> Plan:
    check_within("frames", frames, 2, MOST_FRAMES)
    check_made(frames, model, limits, subject="frames")
    latent = latent_of(model)
    told = {"interpolation": "spherical" if latent.prior == "normal" else "linear"}
    named = [(f"body.between[{i}]", end) for i, end in enumerate(ends)]
    pictures = tuple((place, end) for place, end in named if isinstance(end, str))
    if len(pictures) == 2:
        return Plan(frames, ends=pictures, told=told, columns=frames)
    if pictures:
        raise Unprocessable(
            "body.between has a picture and a latent, it must have two of a kind",
            subject="body.between",
            expected="two pictures or two latents",
            got="one of each",
        )
    codes = []
    for place, end in named:
        codes.append(read_value(end, CODE, place))
        _check_length(codes[-1], place, model, latent)
    return Plan(frames, on_the_way(model, np.array(codes, np.float32), frames), told=told, columns=frames)


def _plane(grid: Grid, model: Model, limits: Limits) -> Plan:
    check_made(grid.side**2, model, limits, subject="grid", of=f"{grid.side} x {grid.side}")
    across, up = grid.dimensions
    check_dimension("grid.dimensions[0]", across, model)
    check_dimension("grid.dimensions[1]", up, model)
    if across == up:
        raise Unprocessable(
            f"grid.dimensions are both {across}, they must differ",
            subject="grid.dimensions",
            expected="two different dimensions",
            got=str(grid.dimensions),
        )
    codes = latents.plane(latent_of(model), grid.side, (across, up))
    told = {"grid": {"side": grid.side, "dimensions": grid.dimensions}}
    return Plan(len(codes), codes, told=told, columns=grid.side)


def _check_length(code: list[float], place: str, model: Model, latent: Latent) -> None:
    if len(code) != latent.size:
        got = f"{len(code)} number{'s' if len(code) > 1 else ''}"
        raise Unprocessable(
            f"{place} has {got}, a latent of model '{model.name}' has {latent.size}",
            subject=place,
            expected=f"a list of {latent.size}",
            got=got,
        )
