"""What a manifest may say of tables, targets, codes and their claims, against definitions written out."""

from __future__ import annotations

import json
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.core.codes import Anomaly, Latent
from app.core.manifest import Made, Manifest
from app.core.tables import CategoryColumn, Conformal, NumberColumn, Table
from app.core.trial import middle_row, trials

AGE = NumberColumn(kind="number", name="age", unit="years", low=20, high=60)
PLACE = CategoryColumn(kind="category", name="place", categories=("north", "south"))
TABLE = Table(columns=(AGE, PLACE))
HASH = "0" * 64


def tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": ["rows", *shape]}


def graph(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"file": "net.onnx", "sha256": HASH, "inputs": inputs, "outputs": outputs}


def manifest(**fields: Any) -> dict[str, Any]:
    """A manifest's document; what the task needs is in `fields`."""
    data = {"name": "d", "source": "s", "licence": "l", "rows_train": 1, "rows_held_out": 0, "rows_test": 0}
    made = {
        "command": "python -m training mlp --data iris",
        "at": "2026",
        "machine": "m",
        "precision": "fp32",
        "train_s": 0.0,
        "parameters": 1,
        "parity_max_abs": 0.0,
        "parity_rows": 1,
        "packages": {},
    }
    common = {"schema_version": 1, "name": "net", "version": "1", "title": "t", "summary": "s", "max_rows": 4}
    return {**common, "data": data, "made": made, **fields}


def regressor(**fields: Any) -> dict[str, Any]:
    outputs = [tensor("value", "float32"), tensor("scale", "float32")]
    return (
        manifest(
            task="regress",
            modality="table",
            table=json.loads(TABLE.model_dump_json()),
            target={"name": "height", "unit": "cm", "low": 1.0, "high": 2.0},
            conformal={"method": "split", "scores": [1.0, 2.0]},
            graphs={"regressor": graph([tensor("table", "float32", 2)], outputs)},
        )
        | fields
    )


def coder(prior: str | None = "normal", **fields: Any) -> dict[str, Any]:
    codes = ["mu", "logvar"] if prior else ["latent"]
    return (
        manifest(
            task="reconstruct",
            modality="image",
            picture={"kind": "digit", "height": 28, "width": 28, "box": 20},
            latent={"size": 2, "low": [-1.0, -1.0], "high": [1.0, 1.0], "prior": prior},
            graphs={
                "encoder": graph([tensor("image", "uint8", 28, 28, 1)], [tensor(code, "float32", 2) for code in codes]),
                "decoder": graph([tensor("latent", "float32", 2)], [tensor("image", "float32", 28, 28, 1)]),
            },
        )
        | fields
    )


def read(document: dict[str, Any]) -> Manifest:
    return Manifest.model_validate_json(json.dumps(document))


@given(
    scores=st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    coverage=st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=1000),
)
def test_an_interval_reaches_to_the_score_that_the_definition_names(scores: list[float], coverage: Fraction) -> None:
    scores.sort()
    conformal = Conformal(method="split", scores=tuple(scores))
    k = ceil((len(scores) + 1) * coverage)  # exact: fractions
    if k <= len(scores):
        assert conformal.quantile(float(coverage)) == scores[k - 1]
    else:
        with pytest.raises(ValueError, match=f"{len(scores)} scores promise at most"):
            conformal.quantile(float(coverage))


def test_the_promised_coverage_holds_on_average_over_calibration_and_new_row() -> None:
    rng = np.random.default_rng(0)
    draws = np.abs(rng.standard_normal((4000, 20)))  # 19 calibration scores and the new row's
    held = [
        row[-1] <= Conformal(method="split", scores=tuple(sorted(row[:-1].tolist()))).quantile(0.9) for row in draws
    ]
    # The rank of the new score among 20 is uniform, so that coverage is exactly 18/20.
    assert np.mean(held) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 4000))


@given(errors=st.lists(st.floats(0, 1), min_size=20, max_size=80), error=st.floats(0, 1.5))
def test_a_p_value_counts_the_held_out_errors_at_least_as_large(errors: list[float], error: float) -> None:
    errors.sort()
    at_least = sum(e >= error for e in errors)
    assert Anomaly(errors=tuple(errors)).p_value(error) == (1 + at_least) / (1 + len(errors))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Conformal(method="split", scores=(2.0, 1.0)), "must rise"),
        (lambda: Anomaly(errors=(*(0.1,) * 19, 0.05)), "must rise"),
        (lambda: Latent(size=2, low=(0.0,), high=(1.0, 1.0)), "size 2, low has 1 and high 2"),
        (lambda: NumberColumn(kind="number", name="a", low=2, high=1), "column 'a': low 2.0 is above high 1.0"),
        (lambda: CategoryColumn(kind="category", name="a", categories=("x", "x")), "two categories are the same"),
        (lambda: Table(columns=(AGE, AGE)), "two have the same name"),
    ],
)
def test_a_part_that_contradicts_itself_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make()


def test_what_a_model_can_be_asked_for_follows_from_its_task() -> None:
    assert read(regressor()).tasks == ("regress",)
    assert read(coder()).tasks == ("reconstruct", "generate")
    assert read(coder(prior=None)).tasks == ("reconstruct", "generate")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (regressor(table=None), "table models declare their columns"),
        (regressor(modality="tensor"), "table models declare their columns, and only they"),
        (regressor(target=None), "a regress model names what it foretells"),
        (regressor(graphs={"classifier": regressor()["graphs"]["regressor"]}), "has a graph 'regressor', here are"),
        (
            regressor(graphs={"regressor": graph([tensor("table", "float32", 3)], [tensor("value", "float32")])}),
            r"graphs.regressor.outputs: expected .*'scale'",
        ),
        (
            regressor(
                conformal=None,
                graphs={"regressor": graph([tensor("table", "float32", 3)], [tensor("value", "float32")])},
            ),
            r"the table makes one float32 \('rows', 2\)",
        ),
        (coder(latent=None), "declares both"),
        (coder(latent={"size": 3, "low": [0.0] * 3, "high": [1.0] * 3, "prior": "normal"}), "encoder.outputs"),
        (coder(latent={"size": 2, "low": [0.0] * 2, "high": [1.0] * 2, "prior": None}), r"\('latent', 'float32'"),
        (coder(picture={"kind": "digit", "height": 20, "width": 20, "box": 20}), "decoder.outputs"),
    ],
)
def test_a_manifest_whose_graphs_do_not_fit_its_task_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        read(document)


@pytest.mark.parametrize(
    ("command", "recipe"),
    [
        ("python -m training mlp --data 'my file.csv'", "mlp"),
        ("python -m training", ""),
        ("make models", ""),
    ],
)
def test_the_recipe_is_the_commands_word(command: str, recipe: str) -> None:
    made = manifest()["made"] | {"command": command}
    assert Made.model_validate(made).recipe == recipe


def test_a_first_request_is_a_row_that_training_spans() -> None:
    assert middle_row(TABLE) == {"age": 40, "place": "north"}
    (line,) = trials(read(regressor()), "localhost:8000")
    assert line == (
        'curl -H \'Content-Type: application/json\' -d \'{"instances": [{"age": 40, "place": "north"}]}\' '
        "'localhost:8000/v1/regress?model=net'"
    )
    assert [line.partition("?")[0].rpartition("/")[2] for line in trials(read(coder()), "x")] == [
        "reconstruct",
        "generate",
    ]
