"""Rows of a table in the OpenAPI document: their schemas and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn, Table, TableColumn
from app.engine.model import Model
from app.web.openapi.golden import golden_rows
from app.web.openapi.operation import Schema, file_schema
from app.web.openapi.pictures import picture_bodies, picture_inputs
from app.web.request.media_types import CSV

SHOWN_ROWS: Final = 3
SHOWN_COLUMNS: Final = 100  # of a wider table the document does not list the columns

CSV_SCHEMA: Final = file_schema(
    CSV,
    "rows of a table: a header with the features' names in any order, with units if you like (`hours [h]`), between "
    "commas, semicolons or tabs",
)


def row_inputs(models: list[Model], max_rows: int) -> dict[str, Schema]:
    """Schemas of `image`, `images` and `instances` in a JSON body."""
    return {**picture_inputs(max_rows), "instances": instances_schema(models, max_rows=max_rows)}


def row_bodies(options: Mapping[str, Schema], max_rows: int) -> dict[str, Schema]:
    """Schemas of the bodies other than JSON that rows of any kind come in, by media type."""
    npy = "rows of the model's own shape and type, as numpy.save writes them"
    return {**picture_bodies(options, max_rows=max_rows, npy=npy), CSV: CSV_SCHEMA}


def instances_schema(models: list[Model], *, max_rows: int) -> Schema:
    """Rows of a table in JSON: objects as each of the models takes them, or lists."""
    tables = {m.name: m.manifest.table for m in models if m.manifest.table is not None}
    rows: list[Schema] = [_record_schema(name, table) for name, table in tables.items()] or [{"type": "object"}]
    rows.append({"type": "array", "items": {}, "description": "values in the columns' order"})
    described = "rows of a table, each an object by feature or a list in the columns' order"
    return {"type": "array", "minItems": 1, "maxItems": max_rows, "description": described, "items": {"anyOf": rows}}


def _record_schema(name: str, table: Table) -> Schema:
    schema: Schema = {"title": f"a row for {name}", "type": "object"}
    if len(table.columns) > SHOWN_COLUMNS:
        return schema | {"description": f"{len(table.columns)} features, see the model's card"}
    required = [column.name for column in table.columns if not column.missing]
    return schema | {
        "additionalProperties": False,
        "properties": {column.name: _cell_schema(column) for column in table.columns},
        **({"required": required} if required else {}),
    }


def _cell_schema(column: TableColumn) -> Schema:
    null: list[Schema] = [{"type": "null"}] if column.missing else []
    if isinstance(column, DateColumn):
        low, high = column.written(column.low), column.written(column.high)
        told = f"{column.about}; " if column.about else ""
        what = "a date and time" if column.clock else "a date"
        return {"description": f"{told}{what}; training saw {low} to {high}", "oneOf": [{"type": "string"}, *null]}
    if isinstance(column, CategoryColumn):
        schema: Schema = {"anyOf": [{"type": "string", "enum": list(column.categories)}, *null]}
        return schema | ({"description": column.about} if column.about else {})
    unit = f" in {column.unit}" if column.unit else ""
    about = f"{column.about}; " if column.about else ""
    measure = {
        "type": "object",
        "required": ["value"],
        "additionalProperties": False,
        "properties": {"value": {"type": "number"}, "unit": {"type": "string", "enum": [column.unit]}},
    }
    return {
        "description": f"{about}a number{unit}, or with its unit; training saw {_plain(column.low)} to "
        f"{_plain(column.high)}",
        "oneOf": [{"type": "number"}, {"type": "string"}, measure, *null],
    }


def _plain(value: float) -> str:
    """A bound in six digits, or in as many as a large whole number has."""
    return f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:g}"


def example_records(model: Model) -> list[dict[str, Any]]:
    """A few golden rows by name; where there are none, the middle of what training saw."""
    table, golden = model.manifest.table, model.manifest.golden
    if table is None:
        return []
    rows = None
    if golden is not None:
        rows = golden_rows(model).get(model.manifest.graphs[golden.graph].inputs[0].name)
    if rows is None or rows.shape[1:] != (len(table.columns),):
        middle = [0.0 if isinstance(c, CategoryColumn) else (c.low + c.high) / 2 - c.offset for c in table.columns]
        rows = np.array([middle], np.float32)
    return [
        {column.name: _as_sent(column, value) for column, value in zip(table.columns, row, strict=True)}
        for row in rows[:SHOWN_ROWS]
    ]


def _as_sent(column: TableColumn, value: np.float32) -> float | str | None:
    if np.isnan(value):
        return None
    if isinstance(column, DateColumn):
        return column.written(float(value) + column.offset)
    if isinstance(column, NumberColumn):
        number = float(str(value)) + column.offset  # as few digits as say all of it
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    return column.categories[int(value)]
