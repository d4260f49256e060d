"""The published model of whole recordings as a net of torch again, for a streaming one to learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor

from app.core.manifest import MANIFEST_FILE, Manifest
from training.data.base import DataError
from training.export import folded
from training.families.speech.network import SpeechNet

EXPECTED: Final = "the folder of a version that `python -m training speech` published, like models/speech/1"


def load_teacher(folder: Path, words: Sequence[str], width: int) -> tuple[SpeechNet, str]:
    """The net of a published recogniser, without gradients, and 12 letters that stand for its weights.

    Raises: DataError where there is none, or it has other words or another width.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        (graph,) = manifest.graphs.values()
        weights = _weights(folder / graph.file)
        hidden = weights["layers.0.backwards.weight_hh_l0"].shape[1]
        layers = sum(name.endswith("backwards.weight_hh_l0") for name in weights)
        network = SpeechNet(len(words), width=width, hidden=hidden, layers=layers, bidirectional=True, dropout=0.0)
        network.load_state_dict(weights | {f"mel.{name}": value for name, value in network.mel.state_dict().items()})
        if list(manifest.labels) != list(words):
            raise ValueError("other words")
    except FileNotFoundError as error:
        raise DataError(f"--teacher {folder}: no such model; expected {EXPECTED}") from error
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise DataError(
            f"--teacher {folder}: is no net of the {len(words)} words and --width {width} that hears whole recordings; "
            f"expected {EXPECTED}"
        ) from error
    digest = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights)))
    return network.requires_grad_(False).eval(), digest.hexdigest()[:12]


def _weights(file: Path) -> dict[str, Tensor]:
    """What `SpeechNet` calls the weights of an exported graph, found by the order of its operators, for the exporter
    names few of them; the filter bank is left out."""
    graph = folded(file).graph
    kept = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    # A single number is a constant of the graph, no weight.
    constants = [(node.op_type, [kept[name] for name in node.input if name in kept]) for node in graph.node]
    of = {
        kind: [
            [w for w in some if w.size > 1] for op, some in constants if op == kind and any(w.size > 1 for w in some)
        ]
        for kind in ("Conv", "MatMul", "Add", "LayerNormalization", "GRU")
    }
    _, first, second = of["Conv"]
    _, dense, last = of["MatMul"]
    found = {
        "subsampling.layers.0.weight": first[0],
        "subsampling.layers.0.bias": first[1],
        "subsampling.layers.2.weight": second[0],
        "subsampling.layers.2.bias": second[1],
        "subsampling.dense.0.weight": dense[0].T,
        "subsampling.dense.0.bias": of["Add"][0][0],
        "subsampling.dense.1.weight": of["LayerNormalization"][0][0],
        "subsampling.dense.1.bias": of["LayerNormalization"][0][1],
        "words.weight": last[0].T,
        "words.bias": of["Add"][1][0],
    }
    for i, (inputs, states, biases) in enumerate(of["GRU"]):
        for direction, w, r, b in zip(("forwards", "backwards"), inputs, states, biases, strict=False):
            parts = {"weight_ih_l0": w, "weight_hh_l0": r, "bias_ih_l0": b[: len(w)], "bias_hh_l0": b[len(w) :]}
            for name, value in parts.items():
                update, reset, new = np.split(value, 3)  # ONNX's order; torch has the gates as reset, update, new
                found[f"layers.{i}.{direction}.{name}"] = np.concatenate([reset, update, new])
    return {name: torch.tensor(value) for name, value in found.items()}
