"""Rows of a table in a request as a model's rows, and what is reported of them beside the result."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, Field

from app.codecs.npy import decode_npy
from app.codecs.tables.rows import Rows, TableReader
from app.core.manifest.table import Table
from app.engine.model import Model
from app.web.request.payload import INSTANCES, Payload

SHOWN_ROWS: Final = 3
SHOWN_COLUMNS: Final = 100  # of a wider table the document does not list the columns
_PREPARED: Final = "table"


class Outside(BaseModel):
    """A number or a date that is not within what the training rows span: the model extrapolates."""

    feature: str
    value: Annotated[float | str, Field(description="as text where it is a date")]
    low: Annotated[float | str, Field(description="least value among the training rows")]
    high: Annotated[float | str, Field(description="greatest value among the training rows")]
    unit: Annotated[str, Field(description="empty where it has none")]


class Noted(BaseModel):
    """What is reported of a row of a table beside the result."""

    outside: Annotated[
        list[Outside], Field(description="numbers that training saw none of; only where there are any")
    ] = []
    imputed: Annotated[
        list[str], Field(description="features without a value, for which one was put in; only where there are any")
    ] = []
    ignored: Annotated[
        list[str],
        Field(description="columns that came and are no features: the target, or what training left out; only then"),
    ] = []


def reader_of(model: Model, table: Table) -> TableReader:
    """Made once for each model."""
    reader = model.prepared.get(_PREPARED)
    if not isinstance(reader, TableReader):
        target = model.manifest.target
        ignored = (
            [] if target is None else [target.name, f"{target.name} [{target.unit}]", f"{target.name} ({target.unit})"]
        )
        reader = model.prepared[_PREPARED] = TableReader(table, ignored=ignored)
    return reader


def most_cells(payload: Payload, reader: TableReader) -> int:
    """How many cells there may be to look at: where values are missing, few bytes are many cells."""
    width = len(reader.columns)
    if payload.csv is not None:
        return (payload.csv.count(b"\n") + payload.csv.count(b"\r") + 1) * width
    if payload.instances is not None:
        return len(payload.instances) * width
    assert payload.rows is not None
    return len(payload.rows) // 2  # of float16, the smallest


def decode(payload: Payload, reader: TableReader, *, max_rows: int) -> Rows:
    """The model's rows, (rows, F).

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs.
    """
    if payload.csv is not None:
        return reader.csv(payload.csv, payload.parameters, max_rows=max_rows, subject="body")
    if payload.instances is not None:
        return reader.records(payload.instances, subject=f"body.{INSTANCES}")
    assert payload.rows is not None
    width = (len(reader.columns),)
    dtype = np.dtype(np.float32)
    values = decode_npy(payload.rows, dtype=dtype, row_shape=width, max_rows=max_rows, subject="body", nan=True)
    return reader.rows(values, subject="body")
