"""What the tasks share that predict something of each row: a body in, one run of one graph, a response out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from app.codecs.tables.rows import Rows
from app.core.errors import InferenceFailed, LecternError, Unprocessable, UnsupportedMedia, invalid
from app.core.manifest import Modality, Sound, Task, Tensors
from app.core.manifest.table import Table
from app.engine.model import Model
from app.web.call import Call
from app.web.request import tables
from app.web.request.media_types import CSV, NPY, TEXT
from app.web.request.payload import FILES, INSTANCES, Payload
from app.web.request.sounds import as_row
from app.web.request.texts import as_row as as_text_row
from app.web.text import explain, read_texts
from app.web.work_pool import CELL

MOST_WRITTEN: Final = 10_000  # values and notes that are written on the event loop
MOST_READ: Final = 10_000  # cells of a table that are read there

Notes = dict[int, dict[str, Any]]
"""What is reported of a row of a table, or of a text, beside its result, by row."""


def choose_model(call: Call, payload: Payload, task: Task) -> Model:
    """The model that the options name, else the task's default for what the payload holds.

    Raises:
        NotFound, Unprocessable, UnsupportedMedia: there is none, or it takes something else.
    """
    modality = _modality(call, payload, task)
    model = call.choose_model(task, modality)
    # Rows of numbers may be of any model but one of texts.
    if modality != model.manifest.modality and (modality is not None or model.manifest.modality == "text"):
        raise of_another_kind(payload, model)
    return model


def _modality(call: Call, payload: Payload, task: Task) -> Modality | None:
    """Of CSV, rows of a table or texts: as the model that is named takes it, else as its header says."""
    if payload.csv is not None:
        if "model" in call.options:
            named = call.choose_model(task, None).manifest.modality
            payload.of = named if named in ("table", "text") else payload.of
        elif payload.of == "text" and not any(m.manifest.text for m in call.context.registry.catalog.models):
            payload.of = "table"  # that has a column of this name
    return payload.modality


async def predict(call: Call, payload: Payload, model: Model, graph: str) -> tuple[Tensors, Notes]:
    """The rows decoded and run: the graph's outputs, all finite, and notes. To be called without an `await` since the
    model was chosen: only then is it leased.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed: as the codecs and `Call.run`.
    """
    table, sound = model.manifest.table, model.manifest.sound
    notes: Notes = {}
    with call.lease(model, graph):
        if sound is not None:
            outputs = await _run_recordings(call, payload, sound, graph)
            return _finite(model, payload, outputs, notes), notes
        if model.manifest.text is not None:
            outputs, notes = await _run_texts(call, payload, graph)
            return _finite(model, payload, outputs, notes), notes
        if table is None:
            rows = await call.decode_rows(payload, graph)
        else:
            rows, notes = await _table_rows(call, payload, table)
        call.decoded(len(rows))
        outputs = await call.run(graph, {model.manifest.graphs[graph].inputs[0].name: rows})
    return _finite(model, payload, outputs, notes), notes


def _finite(model: Model, payload: Payload, outputs: Tensors, notes: Notes) -> Tensors:
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise _not_finite(model, payload, name, values, notes)
    return outputs


async def respond(call: Call, write: Callable[[], bytes], graph: str, outputs: Tensors, notes: Notes) -> Response:
    """The response that `write` makes of the outputs."""
    written = sum([values.size for values in outputs.values()])
    if notes:
        written += sum(len(listed) for note in notes.values() for listed in note.values() if isinstance(listed, list))
    return await call.respond(write, graph, size=written, inline=written <= MOST_WRITTEN)


async def _run_recordings(call: Call, payload: Payload, sound: Sound, graph: str) -> Tensors:
    clips = await call.decode_recordings(payload, sound)
    for i, clip in enumerate(clips):
        if clip.duration_s > sound.max_s:
            subject = payload.items[i][0] if payload.items else f"body[{i}]"
            expected, got = f"at most {sound.max_s:g} s of sound", f"{clip.duration_s:.1f} s"
            raise invalid(subject, expected=expected, got=got, why=f" for model '{call.model.name}'")
    call.decoded(len(clips))
    found = await call.run_each(graph, [as_row(clip.samples, clip.rate) for clip in clips])
    return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}


async def _run_texts(call: Call, payload: Payload, graph: str) -> tuple[Tensors, Notes]:
    texts = await read_texts(call, payload, truncate=True)
    call.decoded(len(texts))
    notes: Notes = {i: {"unknown": text.unknown_words, "truncated": text.truncated} for i, text in enumerate(texts)}
    if call.options.get("explain"):
        shares = [await explain(call, text, graph) for text in texts]
        for i, (_, weights) in enumerate(shares):
            notes[i]["words"] = weights
        found = [outputs for outputs, _ in shares]
    else:
        found = await call.run_each(graph, [as_text_row(text.encoded) for text in texts])
    return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}, notes


async def _table_rows(call: Call, payload: Payload, table: Table) -> tuple[NDArray[Any], Notes]:
    reader, max_rows = tables.reader_of(call.model, table), call.limits.max_rows

    def work() -> Rows:
        return tables.decode(payload, reader, max_rows=max_rows)

    cells = tables.most_cells(payload, reader)
    inline = payload.small and cells <= MOST_READ
    try:
        found = await call.offload(work, size=CELL * cells, inline=inline, doing="rows were being read")
    except Unprocessable as error:
        if payload.modality != "table" or "model" in call.options:
            raise
        # It may be another model that was meant.
        detail = f"{error.detail} (no model was named, so '{call.model.name}' was asked)"
        raise invalid(error.subject or "body", expected=error.expected, got=error.got, detail=detail) from None
    return found.values, found.notes


def csv_of(header: Sequence[str], rows: Iterable[Sequence[float | str]], notes: Notes) -> bytes:
    """An answer as CSV: a line per row, at its end the names of features that were outside or imputed, and of columns
    that were ignored where there are any; of a text its unknown words, and whether it was truncated."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    texts = any("unknown" in note for note in notes.values())
    ignored = any("ignored" in note for note in notes.values())
    told = (
        ("unknown", "truncated") if texts else ("outside", "imputed", "ignored") if ignored else ("outside", "imputed")
    )
    writer.writerow([*header, *told])
    for i, row in enumerate(rows):
        note = notes.get(i, {})
        if texts:
            writer.writerow([*row, "; ".join(note["unknown"]), str(note["truncated"]).lower()])
            continue
        outside = "; ".join(number["feature"] for number in note.get("outside", ()))
        names = [outside, *("; ".join(note.get(key, ())) for key in told[1:])]
        writer.writerow([*row, *names])
    return out.getvalue().encode()


def _not_finite(model: Model, payload: Payload, output: str, values: NDArray[Any], notes: Notes) -> LecternError:
    """Of a row far outside of what training saw, the row is to blame; of any other, the model."""
    wrong = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    row = int(np.argmax(wrong))
    outside = notes.get(row, {}).get("outside")
    if not outside:
        return InferenceFailed(f"model '{model.name}' gave values of '{output}' that are not numbers")
    worst = max(outside, key=_how_far)
    base = "body" if payload.instances is None else f"body.{INSTANCES}"
    subject = f"{base}[{row}].{worst['feature']}"
    expected, got = f"a value near those that training saw, {worst['low']} to {worst['high']}", str(worst["value"])
    return invalid(
        subject,
        expected=expected,
        got=got,
        detail=f"{subject} is {got}, for which model '{model.name}' has no answer; expected {expected}",
    )


def _how_far(note: Mapping[str, Any]) -> float:
    """How far a value that is outside of what training saw is outside, in widths of that."""
    value, low, high = (_number(note[name]) for name in ("value", "low", "high"))
    return max(low - value, value - high) / max(high - low, 1e-30)


def _number(value: float | str) -> float:
    """A number, or a date in days; one that no calendar has is the farthest."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return datetime.fromisoformat(value).toordinal()
    return inf


def of_another_kind(payload: Payload, model: Model) -> LecternError:
    """The error for pictures where a table belongs, and the like."""
    bare = payload.csv is not None or payload.rows is not None
    subject = payload.items[0][0] if payload.items else "body" if bare else f"body.{INSTANCES}"
    expected = {
        "image": f"pictures, or rows as {NPY}",
        "audio": f"sound, or samples as {NPY}",
        "text": f"texts, as JSON under 'text', as {TEXT} or as {CSV}",
        "table": f"rows of a table, as JSON under '{INSTANCES}', as text/csv or as {NPY}",
    }.get(model.manifest.modality, f"rows as {NPY}")
    if payload.rows is not None:
        got = f"rows as {NPY}"
    else:
        got = f"{FILES[payload.of][0]}s" if payload.items or payload.of == "text" else "rows of a table"
    detail = f"model '{model.name}' takes {expected}, not {got}"
    error = Unprocessable if payload.json_bytes else UnsupportedMedia
    return invalid(subject, expected=expected, got=got, detail=detail, error=error)
