"""POST /v1/regress: values against a closed form, intervals against quantiles counted by hand."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from tests.app.live import LiveServer, Reply, form, grey
from tests.made_tables import GRADE, ROWS, SCORES, grades

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
RECORDS: list[dict[str, Any]] = [
    {"lectures": 4, "hours": 5, "course": "morning"},
    {"lectures": 12, "hours": "20 h", "course": "online"},
    {"lectures": 1, "hours": None, "course": "evening"},
]
LINES = b"lectures;course;hours (h)\n4;morning;5\n12;online;20\n1;evening;NA\n"


def ask(server: LiveServer, value: Any, query: str = "", kind: str = JSON, **headers: str) -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return server.ask("POST", "/v1/regress" + (f"?{query}" if query else ""), body, {"Content-Type": kind, **headers})


def test_values_come_with_their_unit_and_the_interval_that_is_counted_by_hand(tables: LiveServer) -> None:
    answer = ask(tables, {"instances": RECORDS, "model": "grade"}).json()
    assert (answer["model"], answer["version"], answer["target"]) == ("grade", "1", GRADE.name)
    value, scale = grades(ROWS)
    for i, result in enumerate(answer["results"]):
        assert result["value"] == pytest.approx(value[i], rel=1e-6)
        assert result["unit"] == "points"
        # Nineteen scores: the 0.9 * 20th smallest is the 18th, 1.8.
        assert result["interval"]["low"] == pytest.approx(value[i] - 1.8 * scale[i], rel=1e-6)
        assert result["interval"]["high"] == pytest.approx(value[i] + 1.8 * scale[i], rel=1e-6)
        assert result["interval"]["coverage"] == 0.9
    assert "imputed" not in answer["results"][0]
    assert answer["results"][2]["imputed"] == ["hours"]


@pytest.mark.parametrize(
    ("coverage", "place"), [(0.5, 10), (0.51, 11), (0.55, 11), (0.75, 15), (0.9, 18), (0.94, 19), (0.95, 19)]
)
def test_an_interval_takes_the_score_that_its_coverage_asks_for(
    tables: LiveServer, coverage: float, place: int
) -> None:
    (value,), (scale,) = grades(ROWS[:1])
    for query, body in ((f"coverage={coverage}", {}), ("", {"coverage": coverage})):
        (result,) = ask(tables, {"instances": RECORDS[:1], "model": "grade", **body}, query).json()["results"]
        assert result["interval"]["coverage"] == coverage
        assert result["interval"]["high"] - result["value"] == pytest.approx(SCORES[place - 1] * scale, rel=1e-5)
        assert result["value"] - result["interval"]["low"] == pytest.approx(SCORES[place - 1] * scale, rel=1e-5)
        assert result["value"] == pytest.approx(value, rel=1e-6)


def test_few_scores_promise_less_by_themselves(tables: LiveServer) -> None:
    (result,) = ask(tables, {"instances": RECORDS[:1], "model": "unsure"}).json()["results"]
    assert result["interval"]["coverage"] == pytest.approx(2 / 3)
    assert result["interval"]["high"] == pytest.approx(sum(grades(ROWS[:1])[i][0] * (1, 2.0)[i] for i in (0, 1)))
    details = ask(tables, {"instances": RECORDS[:1], "model": "unsure", "coverage": 0.7}).problem(422)
    assert details["expected"] == "0.5 to 0.6666"
    assert ask(tables, {"instances": RECORDS[:1], "model": "unsure", "coverage": 0.6666}).status == 200


def test_a_model_without_scores_gives_values_alone(tables: LiveServer) -> None:
    (result,) = ask(tables, {"instances": RECORDS[:1], "model": "bare"}).json()["results"]
    assert result["interval"] is None
    assert result["value"] == pytest.approx(grades(ROWS[:1])[0][0])
    details = ask(tables, {"instances": RECORDS[:1], "model": "bare", "coverage": 0.9}).problem(422)
    assert details["subject"] == "coverage"
    assert "no held-out scores" in details["detail"]


def test_values_of_rows_that_training_never_saw_are_told(tables: LiveServer) -> None:
    rows = [{"lectures": 4, "hours": "1e3 h", "course": "morning"}]
    (result,) = ask(tables, {"instances": rows, "model": "grade"}).json()["results"]
    assert result["value"] == pytest.approx(104)
    assert result["outside"] == [{"feature": "hours", "value": 1000.0, "low": 0.0, "high": 20.0, "unit": "h"}]


def test_csv_and_npy_are_answered_as_json_is(tables: LiveServer) -> None:
    results = ask(tables, {"instances": RECORDS, "model": "grade"}).json()["results"]
    by_csv = ask(tables, LINES, "model=grade", CSV)
    by_npy = ask(tables, encode_npy(ROWS), "model=grade", NPY)
    assert by_csv.json()["results"] == by_npy.json()["results"] == results


def test_answers_come_as_csv(tables: LiveServer) -> None:
    reply = ask(tables, LINES + b"4;morning;99\n", "model=grade&coverage=0.5", CSV, Accept=CSV)
    assert (reply.status, reply.header("content-type")) == (200, CSV)
    rows = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
    value, scale = grades(ROWS)
    assert [float(row["value [points]"]) for row in rows[:3]] == pytest.approx(value, rel=1e-6)
    assert [float(row["low [points]"]) for row in rows[:3]] == pytest.approx(value - scale, rel=1e-6)
    assert [float(row["high [points]"]) for row in rows[:3]] == pytest.approx(value + scale, rel=1e-6)
    assert [(row["outside"], row["imputed"]) for row in rows] == [("", ""), ("", ""), ("", "hours"), ("hours", "")]
    alone = ask(tables, LINES, "model=bare", CSV, Accept=CSV)
    assert [row["low [points]"] for row in csv.DictReader(io.StringIO(alone.body.decode()))] == ["", "", ""]


def test_answers_come_as_rows_of_value_low_and_high(tables: LiveServer) -> None:
    got = np.load(io.BytesIO(ask(tables, LINES, "model=grade&coverage=0.95", CSV, Accept=NPY).body))
    value, scale = grades(ROWS)
    assert (got.dtype, got.shape) == (np.float32, (3, 3))
    np.testing.assert_allclose(got, np.stack([value, value - 1.9 * scale, value + 1.9 * scale], axis=1), rtol=1e-6)
    alone = np.load(io.BytesIO(ask(tables, LINES, "model=bare", CSV, Accept=NPY).body))
    assert np.isnan(alone[:, 1:]).all()
    np.testing.assert_allclose(alone[:, 0], value, rtol=1e-6)


def test_pictures_are_answered_by_a_model_of_pictures(tables: LiveServer) -> None:
    pngs = [encode_png(grey(level)) for level in (17, 200)]
    kind, parts = form(*(("image", png, "a.png") for png in pngs))
    nested = {"images": [grey(level).tolist() for level in (17, 200)]}
    for reply in (ask(tables, parts, kind=kind), ask(tables, nested)):
        answer = reply.json()
        assert (answer["model"], answer["target"]) == ("grey", "grey level")
        assert answer["results"] == [{"value": level, "unit": "", "interval": None} for level in (17.0, 200.0)]
    assert ask(tables, pngs[0], kind="image/png").json()["results"][0]["value"] == 17
    assert "rows of a table" in ask(tables, pngs[0], "model=grade", "image/png").problem(415)["detail"]


ONE = {"instances": RECORDS[:1], "model": "grade"}
WRONG: dict[str, tuple[Any, str, tuple[str, ...], str]] = {
    "no number": (ONE, "coverage=most", ("'most'", "decimal number"), "query.coverage"),
    "a percentage": (ONE, "coverage=90", ("90.0", "0.5 to 0.95"), "coverage"),
    "too little": (ONE, "coverage=0.49", ("0.49", "0.5 to 0.95"), "coverage"),
    "more than the scores promise": (ONE, "coverage=0.951", ("0.951", "0.5 to 0.95", "19 scores"), "coverage"),
    "certainty": (ONE, "coverage=1", ("1.0",), "coverage"),
    "an exponent": (ONE, "coverage=9e-1", ("'9e-1'", "decimal number"), "query.coverage"),
    "the text nan": (ONE, "coverage=nan", ("'nan'",), "query.coverage"),
    "an empty text": (ONE, "coverage=", ("''",), "query.coverage"),
    "a text": (ONE | {"coverage": "0.9"}, "", ("'0.9'", "number"), "body.coverage"),
    "true": (ONE | {"coverage": True}, "", ("true", "number"), "body.coverage"),
    "NaN": (ONE | {"coverage": float("nan")}, "", ("nan", "finite"), "body.coverage"),
    "infinity": (ONE | {"coverage": float("inf")}, "", ("inf", "finite"), "body.coverage"),
    "in two places": (ONE | {"coverage": 0.9}, "coverage=0.8", ("more than once",), "body.coverage"),
    "an option of another task": (ONE, "top_k=1", ("coverage, model, version",), "query.top_k"),
    "a classifier": (ONE | {"model": "pass"}, "", ("made to classify, not to regress",), "model"),
    "another unit": (
        {"instances": [{"lectures": 1, "hours": "5 min", "course": "online"}], "model": "grade"}, "",
        ("is in min, expected h",), "body.instances[0].hours"),
    "nothing": ({}, "", ("exactly one of image, images, instances",), "body.image"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "query", "words", "subject"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(
    tables: LiveServer, value: Any, query: str, words: tuple[str, ...], subject: str
) -> None:
    ask(tables, value, query).assert_refused(422, subject, words)


def test_a_row_too_far_outside_for_an_answer_is_named(tables: LiveServer) -> None:
    details = ask(tables, {"instances": [[4, 5, "online"], [-3e38, 21, "online"]], "model": "steep"}).problem(422)
    assert details["subject"] == "body.instances[1].lectures"
    assert details["detail"].startswith("body.instances[1].lectures is -3e+38, for which model 'steep' has no answer")
    assert "0.0 to 12.0" in details["expected"]


def test_the_answer_says_where_the_time_went_and_who_answered(tables: LiveServer) -> None:
    reply = ask(tables, ONE)
    timing = reply.header("server-timing") or ""
    assert [part.split(";")[0] for part in timing.split(", ")] == ["decode", "queue", "run", "rows"]
    assert reply.header("x-model") == "grade/1"
