"""What the OpenAPI document says of a task beyond its route, from the models that are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from app.core.errors import NotFound
from app.core.manifest import Modality, Task
from app.engine.model import Model
from app.engine.registry import Registry
from app.web.request.media_types import CSV, EVENT_STREAM

Schema = dict[str, Any]

PROBLEM: Final = "Problem"
"""The schema of errors."""
REF: Final = "#/components/schemas/{model}"
FILE: Final[Schema] = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Beyond the route.

    Attributes:
        options: schemas of what may stand in the query, in the JSON body or in fields of a form.
        body: name of the JSON body's schema.
        inputs: schemas of the JSON body's other fields.
        about: what it does, for whom reads no other page.
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
        schemas: models that `takes` and `gives` refer to.
    """

    options: Mapping[str, Schema]
    body: str
    inputs: Mapping[str, Schema]
    about: str = ""
    one_of: tuple[str, ...] = ()
    rule: str = ""
    optional_body: bool = False
    takes: Mapping[str, Schema] = field(default_factory=dict)
    gives: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    schemas: tuple[type[BaseModel], ...] = ()


def file_schema(kind: str, described: str = "") -> Schema:
    """A body that is a file of a media type."""
    return FILE | {"contentMediaType": kind} | ({"description": described} if described else {})


def csv_schema(described: str, columns: Mapping[str, str]) -> Schema:
    """A table as text: patterns of its columns' names, and what their cells are."""
    row = {"type": "object", "patternProperties": {name: {"type": kind} for name, kind in columns.items()}}
    content = {"type": "array", "items": row}
    return {"type": "string", "contentMediaType": CSV, "contentSchema": content, "description": described}


def events_schema(described: str, events: Mapping[str, type[BaseModel] | str]) -> Schema:
    """Server-sent events by name, and the model or the name of the schema of their data, which is JSON."""
    content = [
        {
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "event": {"const": name},
                "data": {"$ref": REF.format(model=data if isinstance(data, str) else data.__name__)},
            },
        }
        for name, data in events.items()
    ]
    return {
        "type": "string",
        "contentMediaType": EVENT_STREAM,
        "contentSchema": {"type": "array", "items": {"oneOf": content}},
        "description": described,
    }


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


def fitting(
    options: Mapping[str, Schema], registry: Registry, task: Task, modalities: Sequence[Modality]
) -> dict[str, Schema]:
    """The options, of which `model` has only the models for these inputs."""
    described = {"description": options["model"]["description"]}
    return {**options, "model": described | named(in_order(registry, task, modalities))}


def in_order(registry: Registry, task: Task, modalities: Sequence[Modality]) -> list[str]:
    """Names of the models that do the task with these inputs, the defaults first."""
    models = [model for model in models_for(registry, task) if model.manifest.modality in modalities]
    first = []
    for modality in modalities:
        with suppress(NotFound):
            first.append(registry.catalog.default(task, modality))
    found = [*(model for model in first if model in models), *sorted(models, key=lambda model: model.name)]
    return list(dict.fromkeys(model.name for model in found))


def named(names: list[str]) -> Schema:
    """One of these texts; any, where there are none."""
    return {"type": "string", "enum": names} if names else {"type": "string"}


def declare(schemas: dict[str, Schema], *kinds: type[BaseModel]) -> None:
    """Add models, and those that they are made of, to the document's schemas in place."""
    for kind in kinds:
        schema = kind.model_json_schema(ref_template=REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema


def declare_requests(schemas: dict[str, Schema], *kinds: type[BaseModel]) -> None:
    """The same of JSON bodies, without values of fields that are left out: makers of clients send these, or ask for
    them."""
    declare(schemas, *kinds)
    for kind in kinds:
        for field_schema in schemas[kind.__name__].get("properties", {}).values():
            field_schema.pop("default", None)
