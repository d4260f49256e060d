"""What is published of a table's model: figures, each with the words that say how it was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest, Measure
from training.data import synthetic_tables
from training.data.table import TableDataset
from training.families.tabular.groups import ENOUGH, Group, farthest, groups_of
from training.families.tabular.nested import COVERAGES, OUTER, Repetition
from training.family import Measured
from training.metrics import classification, onnx_model, regression

Floats = NDArray[np.floating[Any]]
GOALS: Final[dict[str, dict[str, float]]] = {
    "breast-cancer": {"accuracy": 0.98},
    "wine": {"accuracy": 0.99},
    "diabetes": {"r2": 0.49},
}

MOST_LABELS: Final = 50
"""Of more, the first have figures of their own."""

WORDS: Final = {
    "accuracy": "share of rows whose most probable label is the true one",
    "nll": "mean negative log-likelihood of the true label, nats",
    "brier": "squared distance of the probabilities to the true label's, summed over labels, 0 to 2",
    "ece": "expected calibration error, 15 equal-mass bins",
    "r2": "share of the target's variance that is explained",
    "rmse": "root of the mean squared error",
    "mae": "mean absolute error",
    **{f"coverage_{round(100 * c)}": f"share of rows within their {100 * c:.0f} % interval" for c in COVERAGES},
    "coverage_90_group": f"share of rows within their 90 % interval in the group, of those with {ENOUGH} rows or more, "
    "where it is farthest from 90 %",
    "width_90": "mean width of the 90 % interval",
}


def figures(
    answers: Floats, y: NDArray[Any], reach: Floats, *, labels: Sequence[str] = (), groups: Sequence[Group] = ()
) -> dict[str, float]:
    """Every figure of these rows; with `labels` those of each label as well, with `groups` the coverage in them.

    Args:
        answers: (N, K) probabilities with labels `y`, or (N, 2) value and scale with numbers `y`.
        reach: (N, C), how many scales the interval of each of COVERAGES reaches; of a regression.
    """
    if y.dtype.kind == "i":
        return {
            "accuracy": classification.accuracy(answers, y),
            "nll": classification.negative_log_likelihood(answers, y),
            "brier": classification.brier_score(answers, y),
            "ece": classification.expected_calibration_error(answers, y),
            **_label_figures(answers, y, labels),
        }
    value, half = answers[:, 0], answers[:, 1:] * reach  # (N,), (N, C)
    worst = farthest(groups, within_90(answers, y, reach), 0.9)
    return {
        "r2": regression.r2(value, y),
        "rmse": regression.rmse(value, y),
        "mae": regression.mae(value, y),
        **{f"coverage_{round(100 * c)}": regression.coverage(value, half[:, j], y) for j, c in enumerate(COVERAGES)},
        **({} if worst is None else {"coverage_90_group": worst[1]}),
        "width_90": float(2 * half[:, COVERAGES.index(0.9)].mean()),
    }


def within_90(answers: Floats, y: NDArray[Any], reach: Floats) -> NDArray[np.bool_]:
    """Bool (N,): which rows of a regression lie in their 90 % interval; arguments as of `figures`."""
    half = answers[:, 1] * reach[:, COVERAGES.index(0.9)]
    return np.asarray(np.abs(answers[:, 0].astype(np.float64) - y) <= half)


def _group_remark(answers: Floats, y: NDArray[Any], reach: Floats, groups: Sequence[Group]) -> dict[str, str]:
    """Which group it is, and how many were too small to be judged."""
    if y.dtype.kind == "i":
        return {}
    worst = farthest(groups, within_90(answers, y, reach), 0.9)
    if worst is None:
        return {}
    group, (judged, small) = worst[0], (sum(one.judged is so for one in groups) for so in (True, False))
    rows = f"{int(group.rows.sum()):,} rows where {group.name}"
    return {"coverage_90_group": f"; the {rows}, of {judged} groups; {small} have too few rows to be judged."}


def label_words(labels: Sequence[str]) -> dict[str, str]:
    """The words of what `figures` has of each label."""
    if not labels:
        return {}
    words = {"share_commonest": "share of rows with the commonest label: what answering it always would get right"}
    for label, name in _named(labels).items():
        words[f"recall_{name}"] = f"share of the rows that are '{label}' which are answered so"
        words[f"precision_{name}"] = f"share of the rows that are answered '{label}' which are so"
    return words


def _label_figures(answers: Floats, y: NDArray[Any], labels: Sequence[str]) -> dict[str, float]:
    if not labels:
        return {}
    answered = answers.argmax(axis=1)
    found = {"share_commonest": float(np.bincount(y, minlength=len(labels)).max() / len(y))}
    for label, name in _named(labels).items():
        k = labels.index(label)
        right, there, said = (int(mask.sum()) for mask in ((answered == k) & (y == k), y == k, answered == k))
        if there:
            found[f"recall_{name}"] = right / there
        if said:
            found[f"precision_{name}"] = right / said
    return found


def _label_remarks(answers: Floats, y: NDArray[Any], labels: Sequence[str]) -> dict[str, str]:
    """The 95 % intervals of `_label_figures`."""
    answered = answers.argmax(axis=1)
    remarks = {}
    for label, name in _named(labels).items():
        k = labels.index(label)
        right = int(((answered == k) & (y == k)).sum())
        for kind, rows in (("recall", int((y == k).sum())), ("precision", int((answered == k).sum()))):
            if rows:
                low, high = classification.wilson_interval(right, rows)
                remarks[f"{kind}_{name}"] = f"; of {rows:,} rows, 95 % interval {100 * low:.2f} to {100 * high:.2f} %."
    return remarks


def _named(labels: Sequence[str]) -> dict[str, str]:
    """The first labels, and a name of each that a measure can have."""
    found: dict[str, str] = {}
    for k, label in enumerate(labels[:MOST_LABELS]):
        name = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:40]
        found[label] = name if name and name not in found.values() else f"{name}_{k}".lstrip("_")
    return found


def nested_figures(found: Sequence[Repetition], dataset: TableDataset) -> Measured:
    """Means over the repetitions, and their spread."""
    y, groups = dataset.train_y.numpy(), groups_of(dataset.table, dataset.train_x.numpy())
    every = [figures(one.answers, y, one.reach, labels=dataset.labels, groups=groups) for one in found]
    # A label that a round never answers has no precision there.
    names = [name for name in every[0] if all(name in one for one in every)]
    rounds = [{name: one[name] for name in names} for one in every]
    return Measured(
        rows=len(y),
        of=f"rows of {dataset.title}",
        figures={name: float(np.mean([one[name] for one in rounds])) for name in rounds[0]},
        spreads={name: float(np.std([one[name] for one in rounds], ddof=1)) for name in rounds[0]}
        if len(rounds) > 1
        else {},
        units=units(rounds[0], dataset),
        protocols=WORDS | label_words(dataset.labels),
        remarks=_label_remarks(found[0].answers, y, dataset.labels)
        | _group_remark(found[0].answers, y, found[0].reach, groups),
        how=f"; {len(found)} x {OUTER} nested cross-validation: each row is answered by members whose training, "
        "choice and calibration have not seen it.",
        claimed=True,
    )


ALONE: Final = ("accuracy", "nll", "r2", "rmse")
"""The figures that nets and trees have of their own."""


def alone_figures(nets: Floats, trees: Floats, y: NDArray[Any]) -> dict[str, float]:
    """What the nets alone reach, and the trees alone; their answers as `figures` takes them."""
    reach = np.zeros((len(y), len(COVERAGES)))
    found: dict[str, float] = {}
    for kind, answers in (("nets", nets), ("trees", trees)):
        own = figures(answers, y, reach)
        found |= {f"{name}_{kind}_alone": own[name] for name in ALONE if name in own}
    return found


def alone_measures(
    every: Sequence[tuple[Floats, Floats]], dataset: TableDataset, *, y: NDArray[Any], how: str, weight: float
) -> list[Measure]:
    """The manifest's entries of `alone_figures`, means over the rounds of answers (nets, trees).

    Args:
        how: the rows that they are measured on, in words.
        weight: of the trees in the ensemble that is published.
    """
    rounds = [alone_figures(nets, trees, y) for nets, trees in every]
    found = []
    for name in rounds[0]:
        first, kind, _ = name.rsplit("_", 2)
        values = [one[name] for one in rounds]
        share = weight if kind == "trees" else 1 - weight
        found.append(
            Measure(
                name=name,
                value=float(np.mean(values)),
                spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                unit=units([first], dataset).get(first, ""),
                protocol=f"{WORDS[first]}, of the {kind} alone, whose weight in the ensemble is {share:.1f}; {how}",
                rows=len(y),
                seeds=tuple(range(len(rounds))),
            )
        )
    return found


def test_figures(folder: Path, manifest: Manifest, dataset: TableDataset, *, truth: dict[str, float]) -> Measured:
    """Of this very model, from its ONNX file, on the test rows; `truth` are the figures of the rule that made them."""
    y = dataset.test_y.numpy()
    answers, reach = answers_of(folder, manifest, dataset.test_x.numpy())
    groups = groups_of(dataset.table, dataset.test_x.numpy())
    own = figures(answers, y, reach, labels=dataset.labels, groups=groups)
    return Measured(
        rows=len(y),
        of=f"rows of {dataset.title}",
        figures=own,
        units=units(own, dataset),
        protocols=WORDS | label_words(dataset.labels),
        how="; this model's ONNX graph in fp32, on the test rows",
        remarks={
            name: f"; the rule that made the rows has {truth[name]:.4f}." if name in truth else "." for name in own
        }
        | _label_remarks(answers, y, dataset.labels)
        | _group_remark(answers, y, reach, groups),
        claimed=True,
    )


def truth_figures(dataset: TableDataset) -> dict[str, float]:
    """What the rule that made the test rows would reach on them, where there is one that tells."""
    found = synthetic_tables.truth(dataset.name, dataset.test_x.numpy())
    if found is None or dataset.name not in synthetic_tables.SOURCES:
        return {}
    if dataset.labels:
        return figures(np.stack([1 - found, found], axis=1), dataset.test_y.numpy(), np.zeros((len(found), 0)))
    known = ~np.isnan(found[:, 0])
    reach = np.tile(synthetic_tables.NORMAL_REACH, (int(known.sum()), 1))
    return figures(found[known], dataset.test_y.numpy()[known], reach)


def answers_of(folder: Path, manifest: Manifest, x: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """The ONNX graph's answers for rows (N, F), and the reach of the intervals, as `figures` takes them."""
    if manifest.task == "classify":
        return onnx_model.probabilities(folder, x), np.zeros((len(x), 0))
    graph = manifest.graphs["regressor"]
    session, step = onnx_model.open_graph(folder, graph), manifest.max_rows
    name = graph.inputs[0].name
    answers = np.stack(onnx_model.run(session, {name: x}, ["value", "scale"], rows=step), axis=1)
    assert manifest.conformal is not None
    return answers, np.tile([manifest.conformal.quantile(c) for c in COVERAGES], (len(x), 1))


def units(names: Iterable[str], dataset: TableDataset) -> dict[str, str]:
    """Of errors and widths, the target's own."""
    own = dataset.target.unit if dataset.target is not None else ""
    return {name: own[:20] for name in names if name in ("rmse", "mae", "width_90")}
