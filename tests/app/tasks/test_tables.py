"""Tables over HTTP: POST /v1/classify and what it shares with POST /v1/regress, every form against known answers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from tests.app.live import LiveServer, Reply, form, grey
from tests.made_tables import PASS, ROWS, chances

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
RECORDS = [
    {"lectures": 4, "hours": 5, "course": "morning"},
    {"lectures": 12, "hours": 20, "course": "online"},
    {"lectures": 1, "course": "evening"},
]
LISTS = [[4, 5, "morning"], [12, 20, "online"], [1, None, "evening"]]
LINES = "course,hours [h],lectures\nmorning,5,4\nonline,20 h,12\nevening,,1\n"
SEMICOLONS = LINES.replace(",", ";").encode()
PNG = encode_png(grey(170))
# Of the largest model: 100 rows of 32 x 32 x 3 pixels, each of a table's three columns with a name, a value and a unit.
MOST_VALUES, MOST_FIELDS = 100 * 32 * 32 * 3 + 1000, 1000 + 100 + 100 * 3 * 3

FORMS: dict[str, Callable[[LiveServer], Reply]] = {
    "records": lambda server: server.send_json({"instances": RECORDS}),
    "lists": lambda server: server.send_json({"instances": LISTS}),
    "both": lambda server: server.send_json({"instances": [RECORDS[0], [12, "20 h", "online"], RECORDS[2]]}),
    "units": lambda server: server.send_json({"instances": [
        RECORDS[0] | {"hours": {"value": 5, "unit": "h"}}, RECORDS[1] | {"hours": "20h"}, RECORDS[2] | {"hours": None},
    ]}),
    "csv": lambda server: server.send(CSV, LINES.encode()),
    "csv with a charset": lambda server: server.send("text/csv; charset=latin1; header=yes", LINES.encode("latin1")),
    "csv of another country": lambda server: server.send("Text/CSV", b"\xef\xbb\xbf" + SEMICOLONS),
    "npy": lambda server: server.send(NPY, encode_npy(ROWS), "model=pass"),
    "npy of float64": lambda server: server.send(NPY, encode_npy(ROWS.astype(np.float64)), "model=pass"),
}  # fmt: skip


@pytest.mark.parametrize("ask", FORMS.values(), ids=FORMS.keys())
def test_the_same_rows_get_the_same_answer_in_every_form(
    tables: LiveServer, ask: Callable[[LiveServer], Reply]
) -> None:
    reply = ask(tables)
    assert reply.status == 200, reply.body
    answer = reply.json()
    assert (answer["model"], answer["version"], answer["device"]) == ("pass", "1", "cpu")
    got = [list(result["probabilities"].values()) for result in answer["results"]]
    np.testing.assert_allclose(got, chances(ROWS), atol=1e-6)
    assert [result["label"] for result in answer["results"]] == [PASS[k] for k in chances(ROWS).argmax(axis=1)]
    assert [result.get("imputed") for result in answer["results"]] == [None, None, ["hours"]]
    assert all("outside" not in result for result in answer["results"])


def test_rows_without_a_model_go_to_a_table_model_and_pictures_to_one_of_pictures(tables: LiveServer) -> None:
    assert tables.send_json({"instances": RECORDS}).json()["model"] == "pass"
    assert tables.send("image/png", PNG).json()["model"] == "shades"


def test_what_training_never_saw_is_answered_and_said_of_its_row(tables: LiveServer) -> None:
    rows = [RECORDS[0], {"lectures": 13, "hours": "40 h", "course": "morning"}, RECORDS[2]]
    results = tables.send_json({"instances": rows, "top_k": 1}).json()["results"]
    assert results[1]["outside"] == [
        {"feature": "lectures", "value": 13.0, "low": 0.0, "high": 12.0, "unit": ""},
        {"feature": "hours", "value": 40.0, "low": 0.0, "high": 20.0, "unit": "h"},
    ]
    np.testing.assert_allclose(results[1]["probability"], chances(np.array([[13, 40, 0.0]]))[0, 1], atol=1e-6)
    assert set(results[0]) == {"label", "index", "probability", "top_k", "probabilities"}
    assert results[2]["imputed"] == ["hours"]


def test_answers_come_as_csv(tables: LiveServer) -> None:
    reply = tables.send(CSV, LINES.encode() + b"online,99,12\n", accept=CSV)
    assert (reply.status, reply.header("content-type")) == (200, CSV)
    rows = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
    got = [[float(row[f"probability of {label}"]) for label in PASS] for row in rows]
    want = chances(np.concatenate([ROWS, [[12, 99, 2]]]))
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert [row["label"] for row in rows] == [PASS[k] for k in want.argmax(axis=1)]
    assert [(row["outside"], row["imputed"]) for row in rows] == [("", ""), ("", ""), ("", "hours"), ("hours", "")]
    details = tables.send(CSV, LINES.encode(), "top_k=1", accept=CSV).problem(422)
    assert details["subject"] == "top_k"


def test_more_rows_than_one_run_takes_are_joined_in_their_order(tables: LiveServer) -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(0, 13, 100), rng.uniform(0, 20, 100), rng.integers(0, 3, 100)], axis=1)
    text = "lectures,hours,course\n" + "\n".join(
        f"{a:g},{b!r},{('morning', 'evening', 'online')[int(c)]}" for a, b, c in rows.tolist()
    )
    reply = tables.send(CSV, text.encode(), accept=NPY)
    np.testing.assert_allclose(np.load(io.BytesIO(reply.body)), chances(rows.astype(np.float32)), atol=1e-6)


def test_many_rows_are_read_beside_the_event_loop_with_the_same_answer(tables: LiveServer) -> None:
    spaces = b" " * (64 << 10)
    body = json.dumps({"instances": RECORDS}).encode()
    small, large = (tables.send(JSON, text).json() for text in (body, body + spaces))
    assert small == large
    lines = LINES + "\n" * (64 << 10)
    assert tables.send(CSV, lines.encode()).json() == small


def as_json(value: Any) -> tuple[str, bytes]:
    return JSON, json.dumps(value).encode()


def rows_with(**cells: Any) -> tuple[str, bytes]:
    return as_json({"instances": [RECORDS[0], RECORDS[0] | cells]})


# name -> (content type, body, query, status, words that the answer must have, subject)
CASES: dict[str, tuple[str, bytes, str, int, tuple[str, ...], str | None]] = {
    "a unit that is another": (*rows_with(hours="5 min"), "", 422, ("min", "expected h"), "body.instances[1].hours"),
    "a feature too many": (*rows_with(hour=5), "", 422, ("did you mean 'hours'?",), "body.instances[1].hour"),
    "a missing feature": (
        *as_json({"instances": [RECORDS[0], {"hours": 5, "course": "online"}]}), "", 422,
        ("is missing", "training saw no row without it"), "body.instances[1].lectures"),
    "an unknown category": (
        *rows_with(course="night"), "", 422, ("'morning', 'evening', 'online'",), "body.instances[1].course"),
    "a category with a slip": (
        *rows_with(course="onlin"), "", 422, ("did you mean 'online'?",), "body.instances[1].course"),
    "a boolean": (*rows_with(hours=True), "", 422, ("true", "a number in h"), "body.instances[1].hours"),
    "NaN where it may not be": (*rows_with(lectures=float("nan")), "", 422, ("missing",), "body.instances[1].lectures"),
    "infinity": (*rows_with(hours=float("inf")), "", 422, ("inf",), "body.instances[1].hours"),
    "beyond float32": (*rows_with(hours=1e39), "", 422, ("float32",), "body.instances[1].hours"),
    "an integer of 400 digits": (*rows_with(hours=10**400), "", 422, ("40 digits",), "body.instances[1].hours"),
    "a row of two values": (*as_json({"instances": [[1, 2]]}), "", 422, ("3 values",), "body.instances[0]"),
    "numbers instead of rows": (*as_json({"instances": [4, 5]}), "", 422, ("by name",), "body.instances[0]"),
    "a lone row": (*as_json({"instances": RECORDS[0]}), "", 422, ("list", "object"), "body.instances"),
    "no rows": (*as_json({"instances": []}), "", 422, ("at least 1",), "body.instances"),
    "null": (*as_json({"instances": None}), "", 422, ("null",), "body.instances"),
    "rows and a picture": (
        *as_json({"instances": RECORDS, "image": "x"}), "", 422, ("image and instances",), "body.instances"),
    "a feature twice": (
        JSON, b'{"instances": [{"lectures": 1, "lectures": 2, "hours": 1, "course": "online"}]}', "", 422,
        ("'lectures' is given more than once",), "body.instances.lectures"),
    "a unit twice": (
        JSON, b'{"instances": [{"lectures": 1, "hours": {"value": 1, "unit": "h", "unit": "h"}, "course": "online"}]}',
        "", 422, ("'unit' is given more than once",), "body.instances.unit"),
    "the rows twice": (
        JSON, b'{"instances": [[1, 2, "online"]], "instances": [[1, 2, "online"]]}', "", 422,
        ("'instances' is given more than once",), "body.instances"),
    "more rows than the limit": (
        *as_json({"instances": RECORDS[:1] * 101}), "", 413, ("101 rows", "at most 100"), "body.instances"),
    "more lines than the limit": (
        CSV, ("lectures,course\n" + "4,online\n" * 101).encode(), "", 413, ("more than 100 rows",), "body"),
    "more npy rows than the limit": (NPY, encode_npy(np.zeros((101, 3))), "model=pass", 413, ("101",), "body"),
    "a wrong cell of a csv": (
        CSV, LINES.replace("20 h", "20 s").encode(), "", 422, ("line 3", "is in s"), "body[1].hours"),
    "a csv without a header": (CSV, b"4,5,online\n", "", 422, ("a first line with the names",), "body.header"),
    "a csv of other columns": (
        CSV, b"lectures,hours,cuorse\n1,2,online", "", 422, ("'course'?",), "body.header.cuorse"),
    "an empty csv": (CSV, b"", "", 422, ("no body", "text/csv"), "body"),
    "npy of two columns": (NPY, encode_npy(np.zeros((1, 2))), "model=pass", 422, ("(rows, 3)",), "body"),
    "npy of integers": (NPY, encode_npy(np.zeros((1, 3), int)), "model=pass", 422, ("float32",), "body"),
    "npy with infinity": (NPY, encode_npy(np.full((1, 3), np.inf)), "model=pass", 422, ("finite",), "body[0][0]"),
    "npy with a gap": (
        NPY, encode_npy(np.full((1, 3), np.nan)), "model=pass", 422, ("missing",), "body[0].lectures"),
    "npy of no category": (
        NPY, encode_npy(np.array([[1, 2, 3.0]])), "model=pass", 422, ("from 0 to 2",), "body[0].course"),
    "a picture for a table": ("image/png", PNG, "model=pass", 415, ("rows of a table", "pictures"), "body"),
    "pixels for a table": (*as_json({"image": [[0]]}), "model=pass", 422, ("rows of a table",), "body.image"),
    "a form for a table": (*form(("image", PNG, "a")), "model=pass", 415, ("rows of a table",), "image[0]"),
    "rows for pictures": (*as_json({"instances": RECORDS}), "model=shades", 422, ("takes pictures",), "body.instances"),
    "lines for pictures": (CSV, LINES.encode(), "model=shades", 415, ("takes pictures",), "body"),
    "a model of another task": (*as_json({"instances": RECORDS}), "model=grade", 422, ("regress",), "model"),
    "a megabyte of brackets": (JSON, b'{"instances": [' + b"[" * (1 << 19), "", 422, ("JSON",), "body"),
    "a million values": (JSON, b'{"instances": [[' + b"1," * (1 << 19) + b"1]]}", "", 413, (str(MOST_VALUES),), "body"),
    "many names": (
        JSON, b'{"instances": [{' + b",".join(b'"a%d":1' % i for i in range(5000)) + b"}]}", "", 413,
        (f"{MOST_FIELDS} fields",), "body"),
    "a million cells": (CSV, b";" * 1_050_000, "", 413, ("cells",), "body"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "query", "status", "words", "subject"), CASES.values(), ids=CASES.keys())
def test_what_cannot_be_read_is_told_apart_and_named(
    tables: LiveServer, kind: str, body: bytes, query: str, status: int, words: tuple[str, ...], subject: str | None
) -> None:
    tables.send(kind, body, query).assert_refused(status, subject, words)


def test_rows_of_as_many_fields_as_the_limit_allows_are_taken(tables: LiveServer) -> None:
    row = {"lectures": {"value": 4, "unit": ""}, "hours": {"value": 5, "unit": "h"}, "course": "online"}
    reply = tables.send_json({"instances": [row | {"hours": {"value": 5.000000001, "unit": "h"}}] * 100, "top_k": 2})
    assert reply.status == 200, reply.body
    assert len(reply.json()["results"]) == 100


def test_the_document_names_the_features_and_its_examples_are_answered(tables: LiveServer) -> None:
    document = tables.app.openapi()
    for path, schema in (("/v1/classify", "ClassifyRequest"), ("/v1/regress", "RegressRequest")):
        rows = document["components"]["schemas"][schema]["properties"]["instances"]["items"]["anyOf"]
        assert set(rows[0]["properties"]) == {"lectures", "hours", "course"}
        assert rows[0]["required"] == ["lectures", "course"]
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert CSV in content
        sent = [example["value"] for example in content[JSON]["examples"].values() if "instances" in example["value"]]
        assert sent
        for body in sent:
            reply = tables.ask("POST", path, json.dumps(body).encode(), {"Content-Type": JSON})
            assert reply.status == 200, reply.body
            assert reply.json()["model"] == body["model"]


def test_who_names_no_model_is_told_which_one_did_not_know_the_row(tables: LiveServer) -> None:
    row = {"instances": [{"petal length": 4}]}
    assert "no model was named, so 'pass' was asked" in tables.send_json(row).problem(422)["detail"]
    assert "was asked" not in tables.send_json(row | {"model": "pass"}).problem(422)["detail"]
