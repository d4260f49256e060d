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

from app.core.example_commands import example_commands
from app.core.manifest import Made, Manifest
from app.core.manifest.latent import Anomaly, Latent
from app.core.manifest.table import CategoryColumn, Conformal, NumberColumn, Table

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
        (regressor(target=None), "a regress model names what it predicts"),
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
    assert TABLE.middle_row() == {"age": 40, "place": "north"}
    (line,) = example_commands(read(regressor()), "localhost:8000")
    assert line == (
        'curl -H \'Content-Type: application/json\' -d \'{"instances": [{"age": 40, "place": "north"}]}\' '
        "'localhost:8000/v1/regress?model=net'"
    )
    assert [line.partition("?")[0].rpartition("/")[2] for line in example_commands(read(coder()), "x")] == [
        "reconstruct",
        "generate",
    ]


PICTURE = {"kind": "digit", "height": 28, "width": 28, "box": 20}
IMAGE = tensor("image", "float32", 28, 28, 1)
X, SIGMA, LABEL = tensor("x", "float32", 28, 28, 1), tensor("sigma", "float32"), tensor("label", "int64")


def generator(**fields: Any) -> dict[str, Any]:
    return (
        manifest(
            task="generate",
            modality="image",
            picture=PICTURE,
            labels=["0", "1"],
            latent={"size": 2, "low": [-2.3, -2.3], "high": [2.3, 2.3], "prior": "normal"},
            graphs={"generator": graph([tensor("latent", "float32", 2), LABEL], [IMAGE])},
        )
        | fields
    )


def sampled(**fields: Any) -> dict[str, Any]:
    denoiser = graph([X, SIGMA, LABEL], [tensor("denoised", "float32", 28, 28, 1)])
    return (
        manifest(
            task="generate",
            modality="image",
            picture=PICTURE,
            labels=["0", "1"],
            sampling={
                "sigma_min": 0.002,
                "sigma_max": 80.0,
                "samplers": [{"name": "heun", "steps": 8, "max_steps": 64}],
                "guidance": {"weight": 1.0, "max_weight": 8.0},
            },
            graphs={"denoiser": denoiser, "estimator": graph([X], [SIGMA])},
        )
        | fields
    )


def plane_denoiser(**fields: Any) -> dict[str, Any]:
    x, denoised = (tensor(name, "float32", 64, 64, 1) for name in ("x", "denoised"))
    graphs = {"denoiser": graph([x, SIGMA], [denoised]), "estimator": graph([x], [SIGMA])}
    plane = {"tile": 64, "overlap": 16}
    return manifest(task="denoise", modality="image", plane=plane, graphs=graphs) | fields


def translator(**fields: Any) -> dict[str, Any]:
    pixels = tensor("image", "uint8", 28, 28, 1)
    cycle = {"errors": [0.01] * 20}
    ways = [("thin", "thick"), ("thick", "thin")]
    return (
        manifest(
            task="translate",
            modality="image",
            domains=[{"name": name, "title": name, "picture": PICTURE} for name in ("thin", "thick")],
            translations=[{"graph": f"{a}_to_{b}", "source": a, "target": b, "cycle": cycle} for a, b in ways],
            graphs={f"{a}_to_{b}": graph([pixels], [tensor("translated", "float32", 28, 28, 1)]) for a, b in ways},
        )
        | fields
    )


def test_what_can_be_asked_of_the_models_that_make_pictures() -> None:
    documents = (generator(), sampled(), plane_denoiser(), translator())
    assert [read(document).tasks for document in documents] == [
        ("generate",),
        ("generate", "denoise"),
        ("denoise",),
        ("translate",),
    ]
    without = sampled()
    del without["graphs"]["estimator"]  # nothing tells how much noise there is
    assert read(without).tasks == ("generate",)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (generator(latent=None), "latent, sampling: a generate model declares one of them"),
        (generator(labels=[]), r"generator.inputs: expected \[\('latent', 'float32', \('rows', 2\)\)\], got"),
        (generator(picture=None), "picture: image models declare"),
        (generator(plane={"tile": 64, "overlap": 0}), "one of picture, plane, domains"),
        (sampled(labels=[], graphs={"denoiser": graph([X, SIGMA], [IMAGE])}), "guides towards a label"),
        (sampled(graphs={"denoiser": graph([X, SIGMA], [IMAGE])}), "denoiser.inputs: expected"),
        (plane_denoiser(plane={"tile": 64, "overlap": 33}), "overlap 33 is more than half of tile 64"),
        (plane_denoiser(plane={"tile": 32, "overlap": 8}), "denoiser.inputs: expected"),
        (translator(translations=translator()["translations"][:1]), "expected one each way between thin and thick"),
        (translator(domains=translator()["domains"][:1]), r"has two of different names, here are \['thin'\]"),
    ],
)
def test_a_maker_of_pictures_that_does_not_hang_together_is_refused(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        read(document)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sigma_min": 80.0}, "sigma_min 80.0 is not below sigma_max 80.0"),
        ({"samplers": [{"name": "heun", "steps": 65, "max_steps": 64}]}, "65 steps, max_steps is 64"),
        ({"samplers": [{"name": "heun", "steps": 1, "max_steps": 2}] * 2}, "one is there twice: heun, heun"),
        ({"guidance": {"weight": 9.0, "max_weight": 8.0}}, "weight 9.0, max_weight is 8.0"),
        ({"ladder": [80.0, 0.02]}, "ladder does not lead from sigma_max to sigma_min"),
        ({"ladder": [80.0, 1.0, 1.0, 0.002]}, "ladder does not fall from each level to the next"),
    ],
)
def test_a_sampling_that_contradicts_itself_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        read(sampled(sampling=sampled()["sampling"] | fields))


def test_the_first_sampler_is_the_default() -> None:
    sampling = read(sampled()).sampling
    assert sampling is not None
    assert sampling.sampler(None) == sampling.sampler("heun") == sampling.samplers[0]
    assert sampling.sampler("euler") is None
