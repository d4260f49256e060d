"""What to generate for a request: its mode, what the model can do, and the plan of both.

latents    decoded in one run: decoders of autoencoders, generators
diffusion  noise removed in many runs
forward    noise added to a picture, in none
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from app.core.errors import invalid
from app.engine.model import Model
from app.tasks.generate import diffusion, forward, latents
from app.tasks.generate.plan import Plan
from app.tasks.generate.schema import BELONGS_TO, IMPLY_N, MODES
from app.web.request.limits import Limits


class Planner(Protocol):
    """A module of this folder that plans for one kind of model."""

    def fields(self, model: Model) -> tuple[str, ...]:
        """The options that such a model takes."""
        ...

    def why_not(self, name: str, model: Model) -> str:
        """Why it does not take that option."""
        ...

    def plan(self, mode: str, options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
        """What to generate, and how."""
        ...


def _planner(model: Model) -> Planner:
    return latents if model.manifest.sampling is None else diffusion


def mode(options: Mapping[str, Any]) -> str:
    """The one mode of the request.

    Raises:
        Unprocessable: none, more than one, or an option that belongs to another.
    """
    given = [name for name in MODES if name in options]
    # Of a mask or a strength alone it is the picture that is missing, which the plan says.
    if not given and any(name in options for name in (*IMPLY_N, "mask", "strength")):
        given = ["n"]
    if len(given) != 1:
        listed, got = ", ".join(MODES), " and ".join(given) or "none of them"
        raise invalid(
            given[1] if given else "body",
            expected=f"one of {listed}",
            got=got,
            detail=f"the request must have one of {listed}; it has {got}",
        )
    for option, owners in BELONGS_TO.items():
        if option in options and given[0] not in owners:
            belongs = " or ".join(owners)
            raise invalid(
                option,
                expected=f"{option} with {belongs}, or {given[0]} alone",
                got=f"{option} with {given[0]}",
                detail=f"{option} belongs to {belongs}, the request has {given[0]}",
            )
    return given[0]


def fields(model: Model) -> tuple[str, ...]:
    """The options that the model takes, besides its name and the form of the response."""
    return _planner(model).fields(model)


def plan(mode: str, options: Mapping[str, Any], model: Model, limits: Limits) -> Plan:
    """What to generate, and how.

    Raises:
        Unprocessable: a mode or an option that the model does not have, or values that do not fit it.
        TooLarge: more pictures than the limits.
    """
    planner = _planner(model)
    there = planner.fields(model)
    for name in (*options, mode):
        if (name == mode or name in BELONGS_TO) and name not in there:
            expected, why = ", ".join(there), planner.why_not(name, model)
            raise invalid(
                name,
                expected=expected,
                got=name,
                detail=f"{name}: model '{model.name}' {why}; it can be asked for {expected}",
            )
    if mode == "forward":
        return forward.plan(options, model, limits)
    return planner.plan(mode, options, model, limits)
