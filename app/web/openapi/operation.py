"""What the OpenAPI document says of a task beyond its route, from the models that are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from app.core.manifest import Task
from app.engine.model import Model
from app.engine.registry import Registry

Schema = dict[str, Any]

REF: Final = "#/components/schemas/{model}"
FILE: Final[Schema] = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Beyond the route.

    Attributes:
        options: schemas of what may stand in the query, in the JSON body or in fields of a form.
        body: name of the JSON body's schema.
        inputs: schemas of the JSON body's other fields.
        one_of: the inputs of which exactly one is required; none: the body's fields are all optional.
        rule: what a request must have, in words, where that may stand in the query or in the body: a schema of the one
            cannot say it of both.
        optional_body: whether a request without a body is answered.
        takes: schemas of other bodies, by media type.
        gives: schemas of other answers, by media type.
        headers: of answers, beside those of every task, and what they hold.
        requests: JSON bodies that answer 200 as they stand, by what they show.
        answers: what the models answer, by their names.
        errors: statuses of errors beside those of every task.
    """

    options: Mapping[str, Schema]
    body: str
    inputs: Mapping[str, Schema]
    one_of: tuple[str, ...] = ()
    rule: str = ""
    optional_body: bool = False
    takes: Mapping[str, Schema] = field(default_factory=dict)
    gives: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[int, ...] = ()


def models_for(registry: Registry, task: Task) -> list[Model]:
    """The loaded models that do the task."""
    return [model for model in registry.catalog.models if task in model.manifest.tasks]


def shown_for(registry: Registry, task: Task) -> list[Model]:
    """Of these the default version of each name: the examples are for them."""
    return [model for model in registry.catalog.defaults if task in model.manifest.tasks]


def model_options(models: Iterable[Model], request: type[BaseModel], **others: Schema) -> dict[str, Schema]:
    """Schemas of the options `model`, `version` and `others`, described as the fields of the JSON body are."""
    models = list(models)
    schemas = {
        "model": named(sorted({m.name for m in models})),
        "version": named(sorted({m.version for m in models}, key=int)),
        **others,
    }
    fields = request.model_fields
    return {name: {"description": fields[name].description, **schema} for name, schema in schemas.items()}


def named(names: list[str]) -> Schema:
    """One of these texts; any, where there are none."""
    return {"type": "string", "enum": names} if names else {"type": "string"}


def declare(schemas: dict[str, Schema], kind: type[BaseModel]) -> None:
    """Add a model, and those that it is made of, to the document's schemas in place."""
    schema = kind.model_json_schema(ref_template=REF)
    schemas.update(schema.pop("$defs", {}))
    schemas[kind.__name__] = schema
