"""Boosted trees as one node of an ONNX graph, and the proof that it decides as scikit-learn does.

The node is a TreeEnsembleRegressor of ai.onnx.ml 3, written here: converters take scikit-learn's categories for
numbers, and round its thresholds to the nearest float32. Rounded down, they decide every float32 alike. ONNX Runtime
has no CUDA kernel for trees: there this node runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest.table import CategoryColumn, Table
from training.export import PublishError
from training.families.tabular.trees import Boosted
from training.metrics import onnx_model

OPERATOR: Final = "TreeEnsembleRegressor"
DOMAIN: Final = "ai.onnx.ml"
ROUNDING: Final = 16 * float(np.finfo(np.float32).eps)
"""Of the sum of the largest leaves: how far a sum in float32 may be from one in float64."""
PER_COLUMN: Final = 60  # thresholds that are tried
BASES: Final = 16  # real rows in which each value is put: one alone seldom comes to the split that it is for
MOST_HARD: Final = 40_000


class Trees(nn.Module):
    """Rows (B, F) float32, NaN where missing -> raw scores or values (B, O): the mean of the models of all folds.

    torch is answered by scikit-learn itself; the exported graph has the node.
    """

    base: Tensor  # (O,)

    def __init__(self, boosted: Boosted) -> None:
        super().__init__()
        self.boosted = boosted
        base, self.attributes = node_of(boosted.models)
        self.outputs = len(base)
        self.register_buffer("base", torch.from_numpy(base.astype(np.float32)))

    @property
    def count(self) -> int:
        """Trees, of all folds."""
        return sum(len(round_) for model in self.boosted.models for round_ in model._predictors)

    @property
    def parameters_count(self) -> int:
        """Thresholds and leaves."""
        return len(self.attributes["nodes_values"])

    def forward(self, row: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return torch.from_numpy(self.boosted.raw(row)).float()
        sums = torch.onnx.ops.symbolic(
            f"{DOMAIN}::{OPERATOR}",
            (row,),
            attrs={"n_targets": self.outputs},
            dtype=torch.float32,
            shape=(row.shape[0], self.outputs),
            version=3,
        )
        return sums + self.base

    def fill(self, graph: onnx.ModelProto) -> None:
        """Give the exported node its attributes: the exporter takes a second for each thousand numbers of them."""
        node = node_in(graph)
        del node.attribute[:]
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in self.attributes.items())


def node_of(models: Sequence[Any]) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The mean of the models' first scores (O,), and the attributes of the node that adds the mean of their trees."""
    base = np.mean([model._baseline_prediction.ravel() for model in models], axis=0)
    node = _Node(share=1 / len(models))
    for model in models:
        for round_ in model._predictors:
            for target, tree in enumerate(round_):
                if tree.nodes[0]["is_leaf"]:
                    base[target] += tree.nodes[0]["value"] / len(models)
                else:
                    node.add(tree, _Columns.of(model), target)
    return base, node.attributes(len(base))


def node_in(graph: onnx.ModelProto) -> onnx.NodeProto:
    """The trees' node of a graph that has one."""
    found: onnx.NodeProto = next(node for node in graph.graph.node if node.op_type == OPERATOR)
    return found


class _Columns:
    """Where a model has put the columns: categories first, numbered anew."""

    def __init__(self, place: list[int], categories: list[NDArray[np.float64]]) -> None:
        self.place, self.categories = place, categories

    @classmethod
    def of(cls, model: Any) -> _Columns:
        if model._preprocessor is None:
            return cls(list(range(model.n_features_in_)), [])
        marked = np.asarray(model.is_categorical_)
        known = model._preprocessor.named_transformers_["encoder"].categories_
        place = [*np.flatnonzero(marked).tolist(), *np.flatnonzero(~marked).tolist()]
        return cls(place, [found[~np.isnan(found)] for found in known])

    def members(self, tree: Any, node: Any) -> tuple[list[float], bool]:
        """The categories that a split names, and whether they go left. It names those of the side to which a missing
        value does not go: then one that the model has not seen goes where a missing value does, as in scikit-learn."""
        known = self.categories[node["feature_idx"]]
        bits = tree.raw_left_cat_bitsets[node["bitset_idx"]]
        left = np.array([bool(bits[code // 32] >> (code % 32) & 1) for code in range(len(known))], np.bool_)
        named = ~left if node["missing_go_to_left"] else left
        return known[named].tolist() or [-1.0], not node["missing_go_to_left"]


class _Node:
    def __init__(self, share: float) -> None:
        self._share = share
        self._trees = 0
        self._rows: list[tuple[int, int, int, float, str, int, int, int]] = []
        self._leaves: list[tuple[int, int, int, float]] = []

    def add(self, tree: Any, columns: _Columns, target: int) -> None:
        nodes, number = tree.nodes, self._trees
        self._trees += 1
        splits = [columns.members(tree, node) if node["is_categorical"] else None for node in nodes]
        sizes = [1 if split is None else len(split[0]) for split in splits]
        at = np.concatenate([[0], np.cumsum(sizes)]).tolist()  # a split on categories is a chain of questions
        for i, node in enumerate(nodes):
            if node["is_leaf"]:
                self._rows.append((number, at[i], 0, 0.0, "LEAF", 0, 0, 0))
                self._leaves.append((number, at[i], target, self._share * float(node["value"])))
                continue
            left, right, column = at[node["left"]], at[node["right"]], columns.place[node["feature_idx"]]
            split = splits[i]
            if split is None:
                value, missing = _down(float(node["num_threshold"])), int(node["missing_go_to_left"])
                self._rows.append((number, at[i], column, value, "BRANCH_LEQ", left, right, missing))
                continue
            members, go_left = split
            yes, no = (left, right) if go_left else (right, left)
            for k, member in enumerate(members):
                otherwise = no if k == len(members) - 1 else at[i] + k + 1
                self._rows.append((number, at[i] + k, column, member, "BRANCH_EQ", yes, otherwise, 0))

    def attributes(self, outputs: int) -> dict[str, Any]:
        if not self._rows:  # no split helped in any round
            self._rows.append((0, 0, 0, 0.0, "LEAF", 0, 0, 0))
            self._leaves.append((0, 0, 0, 0.0))
        tree, node, column, value, mode, yes, no, missing = (list(part) for part in zip(*self._rows, strict=True))
        trees, nodes, targets, weights = (list(part) for part in zip(*self._leaves, strict=True))
        return {
            "n_targets": outputs,
            "nodes_treeids": tree,
            "nodes_nodeids": node,
            "nodes_featureids": column,
            "nodes_values": value,
            "nodes_modes": mode,
            "nodes_truenodeids": yes,
            "nodes_falsenodeids": no,
            "nodes_missing_value_tracks_true": missing,
            "target_treeids": trees,
            "target_nodeids": nodes,
            "target_ids": targets,
            "target_weights": weights,
            "aggregate_function": "SUM",
            "post_transform": "NONE",
        }


def _down(threshold: float) -> float:
    """The greatest float32 that is not above it."""
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def check_trees(path: Path, trees: Trees, table: Table, x: NDArray[np.float32], *, seed: int = 0) -> float:
    """Compare the trees in the written graph with scikit-learn's own answers, on rows that `hard_rows` makes.

    Args:
        x: (N, F) training rows.

    Returns: the largest difference.
    Raises: PublishError where one is more than float32 rounds.
    """
    rows, what = hard_rows(trees.attributes, table, x, seed=seed)
    expected = trees.boosted.raw(torch.from_numpy(rows))
    given = _run(path, rows).astype(np.float64) + trees.base.double().numpy()
    apart = np.abs(given - expected).max(axis=1)
    allowed = ROUNDING * (_largest_sum(trees.attributes) + np.abs(trees.base.numpy()).max())
    apart = np.nan_to_num(apart, nan=np.inf)
    worst = int(apart.argmax())
    if apart[worst] > allowed:
        raise PublishError(
            f"{path.name}: its trees answer otherwise than scikit-learn in "
            f"{(apart > allowed).sum()} of {len(rows)} rows, "
            f"{given[worst].tolist()} for {expected[worst].tolist()} in one with {what[worst]}; "
            f"expected {allowed:.2g} apart at most"
        )
    return float(apart[worst])


def hard_rows(
    attributes: dict[str, Any], table: Table, x: NDArray[np.float32], *, seed: int
) -> tuple[NDArray[np.float32], list[str]]:
    """Real rows (N, F) with one value replaced each, and in what words: a missing value, whether or not training had
    one; a category that is none; a threshold and the numbers next to it; what is beyond the range. Last, real rows."""
    rng = np.random.default_rng(seed)
    column, value, mode = (attributes[f"nodes_{name}"] for name in ("featureids", "values", "modes"))
    numbers: dict[int, set[float]] = {}
    for j, threshold, kind in zip(column, value, mode, strict=True):
        if kind == "BRANCH_LEQ" and np.isfinite(threshold):
            numbers.setdefault(j, set()).add(threshold)
    replaced: list[tuple[int, np.float32, str]] = []
    for j, one in enumerate(table.columns):
        named = f"'{one.name}'"
        replaced.append((j, np.float32(np.nan), f"{named} missing"))
        if isinstance(one, CategoryColumn):
            replaced += [
                (j, np.float32(k), f"{named} = '{name}'") for k, name in enumerate(one.categories[:PER_COLUMN])
            ]
            replaced += [
                (j, np.float32(k), f"{named} a category of no name, {k}") for k in (len(one.categories), 255, 256, 5000)
            ]
            continue
        some = rng.permutation(sorted(numbers.get(j, ())))[:PER_COLUMN].astype(np.float32)
        for word, near in (
            ("at the threshold", some),
            ("just above the threshold", np.nextafter(some, np.float32(np.inf))),
            ("just below the threshold", np.nextafter(some, np.float32(-np.inf))),
            ("beyond its range,", np.array([-3e38, -1e6, 0.0, 1e6, 3e38, np.inf, -np.inf], np.float32)),
        ):
            replaced += [(j, found, f"{named} {word} {found!s}") for found in near]
    replaced *= max(1, min(BASES, MOST_HARD // len(replaced)))
    rows = x[rng.integers(len(x), size=len(replaced))]
    for row, (j, found, _) in zip(rows, replaced, strict=True):
        row[j] = found
    whole = x[rng.permutation(len(x))[:256]]
    return np.concatenate([rows, whole]), [*(word for _, _, word in replaced), *["nothing replaced"] * len(whole)]


def _largest_sum(attributes: dict[str, Any]) -> float:
    largest: dict[int, float] = {}
    for tree, weight in zip(attributes["target_treeids"], attributes["target_weights"], strict=True):
        largest[tree] = max(largest.get(tree, 0.0), abs(weight))
    return sum(largest.values())


def _run(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the node of the written file gives, alone."""
    written = onnx.load(path)
    node = node_in(written)
    rows_in, sums = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in (node.input[0], node.output[0])
    )
    alone = onnx.helper.make_model(
        onnx.helper.make_graph([node], "trees", [rows_in], [sums]),
        opset_imports=list(written.opset_import),
        ir_version=written.ir_version,
    )
    session = onnx_model.open_bytes(alone.SerializeToString())
    found: NDArray[np.float32] = session.run(None, {node.input[0]: rows})[0]
    return found
