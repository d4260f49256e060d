"""The perceptron: the lecture's example to the last digit, and learning against scikit-learn's regressions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from app.core.manifest import Manifest
from training.__main__ import main
from training.data.base import ImageDataset
from training.data.mnist import PICTURE
from training.families.perceptron.image_network import (
    LinearClassifier,
    LinearHyperparameters,
    generalised_cross_entropy,
)
from training.families.perceptron.network import TwoClasses, Unit, train_unit
from training.loop import Run, fit
from training.metrics import onnx_model

# As in all tests: Accelerate is set up once per process, with one precision.
PLAIN = ["--threads", "1", "--precision", "fp32", "--device", "cpu"]


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    command = ["perceptron", "--weights", "3,-2", "--bias", "1", "--models", str(models), *PLAIN]
    assert main(command) == 0
    return models / "perceptron" / "1"


def run_graph(folder: Path, graph: str, output: str, rows: list[list[float]]) -> np.ndarray:
    manifest = onnx_model.load_manifest(folder)
    session = onnx_model.open_graph(folder, manifest.graphs[graph], threads=1)
    found: np.ndarray = session.run([output], {"row": np.array(rows, np.float32)})[0]
    return found


def test_the_lectures_example_comes_out_exactly(lecture: Path) -> None:
    unit = Unit(torch.tensor([3.0, -2.0]), torch.tensor(1.0), "sigmoid")
    x = torch.tensor([[-1.0, 2.0]])
    assert float(unit.net_input(x)) == -6.0
    assert float(unit(x)) == pytest.approx(1 / (1 + math.exp(6)), abs=1e-9)
    assert run_graph(lecture, "net_input", "z", [[-1, 2]]).tolist() == [-6.0]
    assert run_graph(lecture, "regressor", "value", [[-1, 2]])[0] == pytest.approx(0.0024726231566347743, abs=1e-6)


def test_it_is_published_as_a_regression_of_two_columns_with_its_net_input_beside_it(lecture: Path) -> None:
    manifest = Manifest.model_validate_json((lecture / "manifest.json").read_bytes())
    assert (manifest.name, manifest.task, manifest.modality) == ("perceptron", "regress", "table")
    assert manifest.table is not None
    assert [column.name for column in manifest.table.columns] == ["x1", "x2"]
    assert manifest.target is not None
    assert manifest.target.name == "y"
    assert manifest.conformal is None
    assert set(manifest.graphs) == {"regressor", "net_input"}


def test_its_report_works_the_example_through_and_draws_the_line(lecture: Path) -> None:
    page = (lecture / "report" / "index.html").read_text(encoding="utf-8")
    assert "sigmoid(1 + 3 x1 − 2 x2)" in page
    assert "z = −6" in page
    assert "0.00247" in page
    assert 'class="border"' in page, "the line z = 0"
    assert "http" not in page.split("<body>")[1].replace("http-equiv", ""), "nothing is fetched"


def test_evaluate_and_report_work_from_the_published_folder(
    lecture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = str(lecture.parents[1])
    assert main(["evaluate", "perceptron", "--models", models]) == 0
    assert "The manifest says the same." in capsys.readouterr().out
    assert main(["report", "perceptron", "--models", models, "--to", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "report" / "index.html").read_text(encoding="utf-8")
    assert again == (lecture / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("tanh", math.tanh(-6)), ("relu", 0.0), ("identity", -6.0), ("sigmoid", 1 / (1 + math.e**6))],
)
def test_every_activation_is_the_function_of_its_name(activation: str, expected: float) -> None:
    unit = Unit(torch.tensor([3.0, -2.0]), torch.tensor(1.0), activation)  # type: ignore[arg-type]
    assert float(unit(torch.tensor([[-1.0, 2.0]]))) == pytest.approx(expected, abs=1e-7)


def overlapping(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds that overlap, on columns of very different scale."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    x = rng.normal(size=(rows, 3)) + 0.8 * y[:, None] * np.array([1.0, -1.0, 0.0])
    return x * np.array([1.0, 100.0, 0.01]) + np.array([5.0, -300.0, 0.0]), y


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_a_learnt_sigmoid_is_scikit_learns_logistic_regression(l2: float) -> None:
    x, y = overlapping()
    found = train_unit(torch.from_numpy(x), torch.from_numpy(y), "sigmoid", l2=l2)
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=1000).fit(scaler.transform(x), y)
    weights = expected.coef_[0] / scaler.scale_
    assert np.allclose(found.weights.numpy(), weights, rtol=1e-4)
    assert float(found.bias) == pytest.approx(float(expected.intercept_[0] - weights @ scaler.mean_), rel=1e-4)


def test_a_learnt_tanh_says_what_a_learnt_sigmoid_says() -> None:
    x, y = (torch.from_numpy(part) for part in overlapping())
    probabilities = [
        TwoClasses(Unit(found.weights, found.bias, activation))(x.float())
        for activation in ("sigmoid", "tanh")
        for found in [train_unit(x, y, activation, l2=0.0)]  # type: ignore[arg-type]
    ]
    assert torch.allclose(*probabilities, atol=1e-4)


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_a_learnt_identity_is_linear_regression(l2: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 4)) * np.array([1, 10, 0.1, 3])
    y = x @ np.array([1.0, -0.2, 5.0, 0.0]) + 7 + rng.normal(size=80)
    found = train_unit(torch.from_numpy(x), torch.from_numpy(y), "identity", l2=l2)
    scaler = StandardScaler().fit(x)
    # The loss here is half the mean square, scikit-learn's is the sum.
    expected = (LinearRegression() if l2 == 0 else Ridge(alpha=l2 * len(x))).fit(scaler.transform(x), y)
    assert np.allclose(found.weights.numpy(), expected.coef_ / scaler.scale_, rtol=1e-5, atol=1e-7)


def test_a_learnt_relu_finds_the_ramp_that_made_its_rows() -> None:
    x = torch.linspace(-3, 3, 121, dtype=torch.float64)[:, None]
    found = train_unit(x, torch.relu(2 * x[:, 0] - 1), "relu", l2=0.0)
    assert float(found.weights[0]) == pytest.approx(2, abs=1e-3)
    assert float(found.bias) == pytest.approx(-1, abs=1e-3)


@pytest.mark.slow  # two more exports
def test_a_csv_file_becomes_a_published_unit_that_knows_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = overlapping()
    lines = [
        "a,b,c,answer",
        *(f"{r[0]:.6f},{r[1]:.4f},{r[2]:.6f},{'yes' if k else 'no'}" for r, k in zip(x, y, strict=True)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    where = ["--models", str(tmp_path / "models")]
    command = ["perceptron", "--data", str(tmp_path / "t.csv"), "--target", "answer", "--name", "unit"]
    assert main([*command, *PLAIN, *where]) == 0
    folder = tmp_path / "models" / "unit" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert set(manifest.labels) == {"no", "yes"}
    accuracy = next(m for m in manifest.quality if m.name == "accuracy")
    assert accuracy.value > 0.6, "the rule of the best line is right on 71 % of such rows"
    z = run_graph(folder, "net_input", "z", x[:5].tolist())
    p = run_graph(folder, "classifier", "probabilities", x[:5].tolist())
    assert p[:, 1] == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)
    assert 'class="border"' in (folder / "report" / "index.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", "unit", *where]) == 0
    assert "The manifest says the same." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected either --weights (given) or --data"),
        (["--weights", "1,2", "--data", "iris"], "expected either --weights (given) or --data"),
        (["--data", "iris"], "'species' has 3"),
        (["--data", "breast-cancer", "--activation", "relu"], "got relu"),
        (["--data", "diabetes"], "is a number, which takes --activation identity or relu"),
    ],
)
def test_what_one_unit_cannot_do_is_said_before_anything_is_learnt(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["perceptron", *arguments, *PLAIN, "--models", str(tmp_path / "models")]) == 1
    assert says in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["perceptron", "--weights", "3,two"])
    assert "'3,two'" in capsys.readouterr().err


def test_the_generalised_cross_entropy_lies_between_cross_entropy_and_lost_probability() -> None:
    logits, y = (
        torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.arange(50) % 4,
    )
    p = logits.softmax(1)[torch.arange(50), y]
    assert generalised_cross_entropy(logits, y, q=0.0) == pytest.approx(float(-p.log().mean()))
    assert generalised_cross_entropy(logits, y, q=1.0) == pytest.approx(float((1 - p).mean()))
    assert generalised_cross_entropy(logits, y, q=0.3) == pytest.approx(float(((1 - p**0.3) / 0.3).mean()))
    assert generalised_cross_entropy(logits, y, q=1e-6) == pytest.approx(float(-p.log().mean()), rel=1e-4)


def test_one_unit_per_class_learns_templates_and_smoothness_draws_neighbours_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = np.zeros((200, 28, 28, 1), np.uint8)
    x[y == 0, 4:12, 4:12] = rng.integers(100, 256, (100, 8, 8, 1))
    x[y == 1, 16:24, 16:24] = rng.integers(100, 256, (100, 8, 8, 1))
    pictures, labels = torch.from_numpy(x), torch.from_numpy(y)
    dataset = ImageDataset(
        name="squares", title="Squares", labels=("0", "1"), picture=PICTURE, train_x=pictures, train_y=labels,
        held_x=pictures, held_y=labels, test_x=pictures, test_y=labels, source="drawn", licence="none",
    )  # fmt: skip
    roughness = []
    for smooth in (0.0, 0.1):
        accelerator = Accelerator(cpu=True, mixed_precision="no")
        h = LinearHyperparameters(epochs=4, batch_size=50, smooth=smooth)
        recipe = LinearClassifier(dataset, h, accelerator=accelerator)
        run = Run(folder=tmp_path / str(smooth), epochs=4, batch_size=50, seed=0, title="", quiet=True)
        history = fit(recipe, pictures, labels, run=run, accelerator=accelerator)
        assert history[-1]["held_accuracy"] == 1.0
        served = recipe.served()
        weight = served.weight.detach()[:, :, :, 0]
        assert weight[0, 4:12, 4:12].mean() > 0 > weight[1, 4:12, 4:12].mean()
        roughness.append(float((served.roughness() / served.weight.square().sum()).detach()))
    assert roughness[1] < roughness[0]
