"""What the tasks share that predict something of each row: a body in, one run of one graph, an answer out."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.codecs.tables.rows import Rows
from app.core.errors import InferenceFailed, Unprocessable, UnsupportedMedia
from app.core.manifest import Task, Tensors
from app.engine.model import Model
from app.web.context import Context, Trace
from app.web.disconnect import CancelOnDisconnect
from app.web.request import rows, tables
from app.web.request.accept import choose
from app.web.request.body import header, media_type, read_body
from app.web.request.deadline import deadline_and_priority
from app.web.request.model_choice import choose_model
from app.web.request.options import Known, from_query
from app.web.request.payload import INSTANCES, NPY, Payload
from app.web.response.encoded import EncodedResponse
from app.web.timing import Took

MOST_WRITTEN: Final = 10_000  # values and notes that are written down on the event loop
MOST_READ: Final = 10_000  # cells of a table that are read there

Notes = dict[int, dict[str, list[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A task that gives an answer for each row.

    Attributes:
        graph: the graph that is run.
        options: that exist; fields of `schema` as well.
        schema: of a JSON body.
        takes: media types of bodies.
        offers: media types of answers.
    """

    task: Task
    graph: str
    options: Known
    schema: type[BaseModel]
    takes: tuple[str, ...]
    offers: tuple[str, ...]


@dataclass(slots=True)
class Asked:
    """A request that has been read: which model is asked for what, in which form the answer is to be."""

    request: Request
    context: Context
    kind: Kind
    form: str
    payload: Payload
    model: Model
    deadline: float
    priority: int
    began: float  # perf_counter() when the body had come


@dataclass(slots=True)
class Ran:
    """What the model said.

    Attributes:
        outputs: of the graph, axis 0 is the request's rows; finite.
        notes: what is to be said of a row of a table beside its answer, by row.
    """

    outputs: Tensors
    notes: Notes
    rows: int
    took: Took
    trace: Trace


async def read(request: Request, context: Context, kind: Kind) -> Asked:
    """A request from its first byte to its last, its rows still as they came.

    Raises:
        ClientError: made a problem by the handlers.
    """
    form = choose(header(request, b"accept"), kind.offers)
    query = from_query(request.scope["query_string"], kind.options)
    media, parameters = media_type(request, kind.takes)
    deadline, priority = deadline_and_priority(request, context.limits)
    body = await read_body(request, context.limits)

    began = perf_counter()
    payload = await rows.parse(
        media, parameters, body, query=query, known=kind.options, schema=kind.schema, context=context
    )
    modality = payload.modality
    model = choose_model(payload.options, context, kind.task, modality)
    if modality is not None and modality != model.manifest.modality:
        raise _of_another_kind(payload, model)
    return Asked(request, context, kind, form, payload, model, deadline, priority, began)


def _of_the_default(error: Unprocessable, asked: Asked) -> Unprocessable:
    """The same; of a table for which no model was named it may be another that was meant."""
    if asked.payload.modality != "table" or "model" in asked.payload.options:
        return error
    detail = f"{error.detail} (no model was named, so '{asked.model.name}' was asked)"
    return Unprocessable(detail, subject=error.subject, expected=error.expected, got=error.got)


async def run(asked: Asked) -> Ran:
    """The rows decoded and answered. To be called without an `await` since `read`: only then is the model held.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed: made a problem by the handlers.
    """
    model, graph = asked.model, asked.kind.graph
    model.check_room(graph)
    with model.lease(), CancelOnDisconnect(asked.request):
        try:
            given, notes = await _decoded(asked)
        except Unprocessable as error:
            raise _of_the_default(error, asked) from None
        took = Took(decode_s=perf_counter() - asked.began)
        trace = Trace.of(asked.request.scope)
        trace.model, trace.rows = model.name, len(given)
        tensors = {model.manifest.graphs[graph].inputs[0].name: given}
        got = await model.run(graph, tensors, deadline=asked.deadline, priority=asked.priority)
        outputs = took.add(got)
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise _no_numbers(asked, name, values, notes)
    return Ran(outputs, notes, len(given), took, trace)


async def written(asked: Asked, ran: Ran, write: Callable[[], bytes]) -> Response:
    """The answer: what `write` makes, on the event loop where that is quick, else in a thread."""
    began = perf_counter()
    notes = sum(len(said) for told in ran.notes.values() for said in told.values())
    if sum(values.size for values in ran.outputs.values()) + notes <= MOST_WRITTEN:
        content = write()
    else:
        content = await asyncio.get_running_loop().run_in_executor(asked.context.pool, write)
    took = ran.took
    took.encode_s = perf_counter() - began
    took.observe(asked.context, ran.trace, asked.model, asked.kind.graph)
    return EncodedResponse(content, took.headers(asked.form, asked.model))


def csv_of(header: Sequence[str], rows: Iterable[Sequence[float | str]], notes: Notes) -> bytes:
    """An answer as CSV: a line per row, at its end the names of features that were outside or imputed."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*header, "outside", "imputed"])
    for i, row in enumerate(rows):
        told = notes.get(i, {})
        outside = "; ".join(note["feature"] for note in told.get("outside", ()))
        writer.writerow([*row, outside, "; ".join(told.get("imputed", ()))])
    return out.getvalue().encode()


async def _decoded(asked: Asked) -> tuple[NDArray[Any], Notes]:
    payload, model = asked.payload, asked.model
    table = model.manifest.table
    if table is None:
        return await rows.decode(payload, model, asked.kind.graph, asked.context), {}
    reader, max_rows = tables.reader_of(model, table), asked.context.limits.max_rows

    def work() -> Rows:
        return tables.decode(payload, reader, max_rows=max_rows)

    quick = payload.small and tables.most_cells(payload, reader) <= MOST_READ
    found = work() if quick else await asyncio.get_running_loop().run_in_executor(asked.context.pool, work)
    return found.values, found.notes


def _no_numbers(asked: Asked, output: str, values: NDArray[Any], notes: Notes) -> Exception:
    """Of a row far outside of what training saw, the row is to blame; of any other, the model."""
    wrong = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    row = int(np.argmax(wrong))
    outside = notes.get(row, {}).get("outside")
    if not outside:
        return InferenceFailed(f"model '{asked.model.name}' gave values of '{output}' that are not numbers")
    worst = max(outside, key=lambda note: abs(note["value"]))
    base = "body" if asked.payload.instances is None else f"body.{INSTANCES}"
    place = f"{base}[{row}].{worst['feature']}"
    expected, got = f"a number near those that training saw, {worst['low']} to {worst['high']}", str(worst["value"])
    return Unprocessable(
        f"{place} is {got}, for which model '{asked.model.name}' has no answer; expected {expected}",
        subject=place,
        expected=expected,
        got=got,
    )


def _of_another_kind(payload: Payload, model: Model) -> Exception:
    """The error for pictures where a table belongs, and the like."""
    subject = payload.items[0][0] if payload.items else f"body.{INSTANCES}" if payload.csv is None else "body"
    expected = {
        "image": f"pictures, or rows as {NPY}",
        "table": f"rows of a table, as JSON under '{INSTANCES}', as text/csv or as {NPY}",
    }.get(model.manifest.modality, f"rows as {NPY}")
    got = "pictures" if payload.items else "rows of a table"
    error = Unprocessable if payload.json_bytes else UnsupportedMedia
    return error(f"model '{model.name}' takes {expected}, not {got}", subject=subject, expected=expected, got=got)
