"""Boosted trees in the graph decide as scikit-learn does, row by row; and they weigh what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingRegressor

from app.core.manifest.table import Table
from training.data.table import category, number
from training.families.tabular import nested, tree_graph
from training.families.tabular.crossfit import Folds, calibrate
from training.families.tabular.ensemble import Schedule, Setting, Task
from training.families.tabular.nested import Plan
from training.families.tabular.pooling import pool_labels
from training.families.tabular.tree_graph import Trees, check_trees, hard_rows
from training.families.tabular.trees import Boosted, Boosting, boost
from training.networks.dense import Layout
from training.parity import PublishError

ROWS = 400
FEW = Boosting(leaves=12, rounds=12)


def table(rng: np.random.Generator, *, words: int = 5) -> tuple[Table, NDArray[np.float32], NDArray[np.float32]]:
    """Columns, rows (ROWS, 4) with gaps, and what they sum up to: numbers of one decimal, words, words, numbers."""
    a = (rng.integers(-30, 30, ROWS) / 10).astype(np.float32)  # fewer than the bins: thresholds lie between neighbours
    b, c = rng.integers(0, 5, ROWS).astype(np.float32), rng.integers(0, words, ROWS).astype(np.float32)
    d = rng.normal(size=ROWS).astype(np.float32)
    y = a + np.where(b % 2 == 1, 2.0, -1.0) + np.sin(c) + rng.normal(size=ROWS) * 0.1
    a[::9], b[::11] = np.nan, np.nan
    columns = (
        number("a", a),
        category("b", b, [f"b{k}" for k in range(5)]),
        category("c", c, [f"c{k}" for k in range(words)]),
        number("d", d),
    )
    return Table(columns=columns), np.stack([a, b, c, d], axis=1), y.astype(np.float32)


def grown(t: Table, x: NDArray[np.float32], y: NDArray[np.float32], classes: int) -> Boosted:
    edges = np.quantile(y, np.linspace(0, 1, max(classes, 1) + 1)[1:-1])
    target = torch.from_numpy(np.digitize(y, edges) if classes else y)
    folds = Folds.of(target, torch.arange(len(y)), count=3, repeats=1, seed=0)
    task = Task(layout=Layout.of(t), classes=classes)
    return boost(torch.from_numpy(x), target, folds.learns, folds.judges, FEW, task, seed=0)


def written(folder: Path, trees: Trees) -> Path:
    """A file with the node alone."""
    node = helper.make_node(tree_graph.OPERATOR, ["row"], ["sums"], domain=tree_graph.DOMAIN, **trees.attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("row", "sums")]
    graph = helper.make_graph([node], "trees", ends[:1], ends[1:])
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(tree_graph.DOMAIN, 3)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=10), folder / "some.onnx")
    return folder / "some.onnx"


@pytest.mark.parametrize("words", [2, 5, 40, 300])  # of 300 a split cannot tell all apart
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_the_graph_decides_as_scikit_learn_does(tmp_path: Path, classes: int, words: int) -> None:
    t, x, y = table(np.random.default_rng(words), words=words)
    trees = Trees(grown(t, x, y, classes))
    assert set(trees.attributes["nodes_modes"]) == {"BRANCH_LEQ", "BRANCH_EQ", "LEAF"}
    assert check_trees(written(tmp_path, trees), trees, t, x) < 1e-5


def test_every_kind_of_hard_row_is_tried() -> None:
    t, x, y = table(np.random.default_rng(0))
    trees = Trees(grown(t, x, y, 0))
    rows, what = hard_rows(trees.attributes, t, x, seed=0)
    assert len(rows) == len(what)
    for words in (
        "'d' missing",
        "'b' = 'b3'",
        "'c' a category of no name, 5",
        "'a' at the threshold",
        "beyond its range",
    ):
        assert any(words in one for one in what), words
    places = zip(trees.attributes["nodes_featureids"], trees.attributes["nodes_values"], strict=True)
    thresholds = {value for column, value in places if column == 0}
    assert {float(row[0]) for row, word in zip(rows, what, strict=True) if "'a' at the" in word} <= thresholds


def nearest(threshold: float) -> float:
    return float(np.float32(threshold))


def test_thresholds_that_are_rounded_to_the_nearest_are_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What converters do: a value between the threshold and its float32 goes to the other side."""
    t, x, y = table(np.random.default_rng(0))
    monkeypatch.setattr(tree_graph, "_down", nearest)
    trees = Trees(grown(t, x, y, 0))
    with pytest.raises(
        PublishError, match=r"some.onnx: .* otherwise than scikit-learn .* with '[ad]' at the threshold"
    ):
        check_trees(written(tmp_path, trees), trees, t, x)


@pytest.mark.parametrize(
    ("attribute", "of", "wrong"),
    [
        ("nodes_missing_value_tracks_true", "BRANCH_LEQ", lambda old: 1 - old),
        ("nodes_modes", "BRANCH_EQ", lambda _: "BRANCH_LEQ"),  # categories taken for numbers
        ("nodes_modes", "BRANCH_LEQ", lambda _: "BRANCH_LT"),
    ],
)
def test_other_conversions_are_not_published(tmp_path: Path, attribute: str, of: str, wrong: Any) -> None:
    t, x, y = table(np.random.default_rng(0))
    trees = Trees(grown(t, x, y, 0))
    modes, old = list(trees.attributes["nodes_modes"]), trees.attributes[attribute]
    trees.attributes[attribute] = [wrong(v) if mode == of else v for v, mode in zip(old, modes, strict=True)]
    with pytest.raises(PublishError, match=r"otherwise than scikit-learn in \d+ of \d+ rows"):
        check_trees(written(tmp_path, trees), trees, t, x)


def test_the_trees_are_those_of_scikit_learn() -> None:
    """One fold and no other option than ours: the same as its public predict, also behind the chosen rounds."""
    t, x, y = table(np.random.default_rng(0))
    found = grown(t, x, y, 0)
    assert found.rounds <= FEW.rounds
    model = found.models[0]
    assert isinstance(model, HistGradientBoostingRegressor)
    assert model.n_iter_ == found.rounds
    expected = np.mean([one.predict(x.astype(np.float64)) for one in found.models], axis=0)
    assert np.array_equal(found.raw(torch.from_numpy(x))[:, 0], expected)


def test_a_row_is_judged_by_models_that_did_not_see_it() -> None:
    """Numbers at random: only who has seen a row can know its number."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)).astype(np.float32), rng.normal(size=200).astype(np.float32)
    t = Table(columns=tuple(number(name, x[:, j]) for j, name in enumerate("abc")))
    found = grown(t, x, y, 0)
    assert np.corrcoef(found.judged[:, 0], y)[0, 1] < 0.2
    assert np.corrcoef(found.raw(torch.from_numpy(x))[:, 0], y)[0, 1] > 0.2


def test_a_fold_without_a_label_still_answers_every_label() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    y = torch.from_numpy((x[:, 0] > 0).astype(np.int64))
    y[:2] = 2
    learns = torch.ones(2, 60, dtype=torch.bool)
    learns[0, :2] = False
    learns[1, :5] = False
    t = Table(columns=(number("a", x[:, 0]), number("b", x[:, 1])))
    task = Task(layout=Layout.of(t), classes=3)
    found = boost(torch.from_numpy(x), y, learns, ~learns, FEW, task, seed=0)
    assert found.raw(torch.from_numpy(x)).shape == (60, 3)
    assert np.isfinite(found.raw(torch.from_numpy(x))).all()


def calibrated(nets: NDArray[np.float64], trees: NDArray[np.float64], y: torch.Tensor, classes: int) -> Any:
    rows = torch.arange(len(y))
    folds = Folds.of(y, rows, count=5, repeats=1, seed=0)
    answers = torch.from_numpy(nets).expand(1, len(folds), *nets.shape)
    return calibrate(answers, y, folds, rows, classes=classes, terms=torch.zeros(len(y), 0), trees=[trees])


def test_the_weight_is_that_of_least_squared_error() -> None:
    """Two unbiased answers with errors of 1 and 2: the weights are as 4 to 1 (inverse variances)."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=4000)
    trees = (y + rng.normal(size=4000))[:, None]
    nets = np.stack([y + 2 * rng.normal(size=4000), np.full(4000, 2.0)], axis=1)
    found = calibrated(nets, trees, torch.from_numpy(y), 0)
    assert found.share.trees == 0.8
    assert found.share.ratio == pytest.approx(0.5, abs=0.03)
    value = 0.2 * nets[:, 0] + 0.8 * trees[:, 0]
    assert found.held[:, 0].numpy() == pytest.approx(value)
    # The mixture's variance, by its definition: 0.2 of N(nets, 2) and 0.8 of N(trees, 2 x ratio).
    second = 0.2 * (nets[:, 0] ** 2 + 4) + 0.8 * (trees[:, 0] ** 2 + (2 * found.share.ratio) ** 2)
    assert found.held[:, 1].numpy() == pytest.approx(np.sqrt(second - value**2))


def test_trees_that_know_the_label_outweigh_nets_that_do_not() -> None:
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 2, 200))
    right = np.where(y.numpy() == 1, 2.0, -2.0)[:, None] * np.where(rng.random((200, 1)) < 0.9, 1, -1)
    found = calibrated(np.log(np.full((200, 2), 0.5)), right, y, 2)
    assert found.share.trees > 0
    # Whatever the weight, nets that say nothing leave what the trees say: the temperature makes up for it.
    said = torch.log_softmax(pool_labels(None, torch.from_numpy(right), 1.0) / found.alone[1], dim=-1)
    assert torch.allclose(found.held, said, atol=1e-3)
    assert torch.allclose(found.held.exp().sum(1), torch.ones(200, dtype=torch.float64))
    half = torch.log(torch.full((1, 1, 200, 2), 0.5, dtype=torch.float64))
    alone = found.trees_alone()(half, torch.zeros(200, 0), torch.from_numpy(right))
    assert float((alone.argmax(1) == y).double().mean()) == pytest.approx(0.9, abs=0.05)


def test_an_ensemble_without_trees_is_the_nets() -> None:
    nets = np.stack([np.zeros(40), np.ones(40)], axis=1)
    y = torch.linspace(-1, 1, 40, dtype=torch.float64)
    folds = Folds.of(y, torch.arange(40), count=5, repeats=1, seed=0)
    found = calibrate(
        torch.from_numpy(nets).expand(1, 5, 40, 2), y, folds, torch.arange(40), classes=0, terms=torch.zeros(40, 0)
    )
    assert found.share.trees == 0
    assert torch.equal(found(torch.from_numpy(nets).expand(1, 5, 40, 2), torch.zeros(40, 0)), torch.from_numpy(nets))


def test_nested_rounds_choose_and_weigh_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A straight line is for the nets."""
    monkeypatch.setattr(Schedule, "for_rows", classmethod(lambda cls, rows: cls(steps=60, lr=0.1, batch=rows)))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(60, 2)).astype(np.float32))
    y = 3 * x[:, 0] + x[:, 1]
    task = Task(layout=Layout(numbers=(0, 1), categories=(), missing=()), classes=0)
    plan = Plan(grid=(Setting(decay=1.0),), trees=(FEW,))
    found = nested.repeat(x, y, task, plan, seed=0)
    assert found.kept.shape == (nested.OUTER, 2)
    assert (found.weight < 0.3).all()
    error = [float(np.square(one[:, 0] - y.numpy()).mean()) for one in (found.answers, found.nets, found.trees)]
    assert error[0] <= error[2] / 10
    assert not np.array_equal(found.nets, found.trees)


def test_few_rows_that_trees_have_right_do_not_let_them_answer_alone() -> None:
    # Nets and trees are right about the same rows; one row that only the trees have right may be chance.
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 2, 60))
    sign = np.where(y.numpy() == 1, 1.0, -1.0)
    of_nets, of_trees = sign * 2.0, sign * 2.0
    of_nets[:1] *= -0.2
    nets = np.stack([-np.logaddexp(0, of_nets), -np.logaddexp(0, -of_nets)], axis=1)
    assert calibrated(nets, of_trees[:, None], y, 2).share.trees == 0
    # A third of the rows is not.
    of_nets[:20] = sign[:20] * -2.0
    nets = np.stack([-np.logaddexp(0, of_nets), -np.logaddexp(0, -of_nets)], axis=1)
    assert calibrated(nets, of_trees[:, None], y, 2).share.trees >= 0.5
