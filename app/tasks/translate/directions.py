"""Which model translates, and in which direction, for a request that names one domain, both, or a model as well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.core.errors import ClientError, invalid, shown
from app.core.manifest import Domain
from app.core.manifest.latent import Anomaly
from app.core.text import did_you_mean
from app.engine.model import Model
from app.web.call import Call
from app.web.openapi.operation import shown_for
from app.web.prediction import of_another_kind
from app.web.request.options import Option
from app.web.request.payload import Payload


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of a model.

    Attributes:
        there, back: graphs.
        cycle: held-out errors of going there and back.
    """

    source: Domain
    target: Domain
    there: str
    back: str
    cycle: Anomaly

    def __str__(self) -> str:
        return f"{self.source.name} to {self.target.name}"

    def fits(self, source: str | None, target: str | None) -> bool:
        """Whether it fits the domains that the request names."""
        return source in (None, self.source.name) and target in (None, self.target.name)


def directions_of(model: Model) -> list[Direction]:
    """Both directions of a model of the task translate."""
    domains = {domain.name: domain for domain in model.manifest.domains}
    graphs = {(one.source, one.target): one.graph for one in model.manifest.translations}
    return [
        Direction(domains[one.source], domains[one.target], one.graph, graphs[one.target, one.source], one.cycle)
        for one in model.manifest.translations
    ]


def choose_direction(call: Call, payload: Payload) -> tuple[Model, Direction]:
    """The model and the direction that `model`, `version`, `from` and `to` mean.

    Where no model is named it is the task's default if that has these domains, else the first by name that has them.

    Raises:
        NotFound: no such model or version.
        Unprocessable: neither domain is named, or no model translates so; the directions that exist are listed.
    """
    options = call.options
    source, target = _name(options.get("from")), _name(options.get("to"))
    model = call.choose_model("translate", "image")
    if not model.manifest.domains:
        raise of_another_kind(payload, model)
    models = [model]
    if "model" not in options and "version" not in options:
        others = shown_for(call.context.registry, "translate")
        models += [one for one in others if one is not model and one.manifest.domains]
    if source is None and target is None:
        raise invalid(
            "to",
            expected="to, or from, or both",
            got="neither",
            detail=f"the request does not say what to translate to; {_there_are(models)}",
        )
    for model in models:
        for direction in directions_of(model):
            if direction.fits(source, target):
                return model, direction
    raise _no_direction(source, target, models)


def _name(option: Option | None) -> str | None:
    return None if option is None else str(option)


def _no_direction(source: str | None, target: str | None, models: Iterable[Model]) -> ClientError:
    names = sorted({domain.name for model in models for domain in model.manifest.domains})
    for option, name in (("from", source), ("to", target)):
        if name is not None and name not in names:
            hint = did_you_mean(name, names)
            return invalid(
                option,
                expected=", ".join(names),
                got=shown(name),
                detail=f"there is no domain {shown(name)} to translate {option}{hint}; {_there_are(models)}",
            )
    return invalid(
        "to",
        expected=" or ".join(str(direction) for model in models for direction in directions_of(model)),
        got=f"{source} to {target}",
        detail=f"nothing translates from '{source}' to '{target}'; {_there_are(models)}",
    )


def _there_are(models: Iterable[Model]) -> str:
    return "; ".join(
        f"model '{model.name}' translates {' and '.join(str(direction) for direction in directions_of(model))}"
        for model in models
    )
