"""The models that are served in the bench: graphs made here with fixed weights, in folders as training writes them.

| name  | what | cost of a row on one core |
|-------|------|------|
| cnn   | four convolutions and two layers, 37.4 MFLOP, as small image classifiers are | about 160 us |
| mlp   | 784-32-10 | a few us: what is left is the server |
| heavy | twenty convolutions behind eight numbers: a small body, much work | about 5 ms |

The environment variable LECTERN_BENCH_ONNX names a file to be served as `cnn` instead: `image` uint8 (n, 1, 28, 28)
-> `probabilities` float32 (n, 10).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import DigitPicture
from tests.made_models import classifier_manifest, onnx_bytes, write_folder

EXTERNAL: Final = "LECTERN_BENCH_ONNX"
DIGITS: Final = tuple("0123456789")
PICTURE: Final = DigitPicture(kind="digit", height=28, width=28, channels=1, box=20, layout="chw")
IMAGE: Final = (1, 28, 28)
NUMBERS: Final = 8  # inputs of `heavy`
MAX_ROWS: Final = {"cnn": 64, "mlp": 64, "heavy": 8}


class WrongModel(Exception):
    """A graph that the bench cannot use; the message says why."""


def images(count: int) -> NDArray[np.uint8]:
    """(count, 1, 28, 28): strokes on black, no two alike, the same at every call."""
    rng = np.random.default_rng(0)
    made = np.zeros((count, 28, 28), np.uint8)
    for picture in made:
        for _ in range(3):
            top, left = rng.integers(3, 18, 2)
            high, wide = rng.integers(2, 9, 2)
            picture[top : top + high, left : left + wide] = rng.integers(90, 256)
    return made[:, None]


def numbers(count: int) -> NDArray[np.float32]:
    """(count, NUMBERS) for `heavy`."""
    return np.random.default_rng(0).standard_normal((count, NUMBERS)).astype(np.float32)


def cnn_onnx() -> bytes:
    """The CNN, or the file that LECTERN_BENCH_ONNX names.

    Raises:
        WrongModel: that file is not there or has other inputs and outputs.
    """
    file = os.environ.get(EXTERNAL)
    if file:
        return external_onnx(Path(file))
    weight = Weights()
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", weight.constant("white", np.float32(255))], ["x0"]),
        *convolution("x0", "x1", weight.normal("c1", 32, 1, 3, 3)),
        *convolution("x1", "x2", weight.normal("c2", 32, 32, 3, 3)),
        helper.make_node("MaxPool", ["x2"], ["x3"], kernel_shape=[2, 2], strides=[2, 2]),
        *convolution("x3", "x4", weight.normal("c3", 64, 32, 3, 3)),
        *convolution("x4", "x5", weight.normal("c4", 64, 64, 3, 3)),
        helper.make_node("MaxPool", ["x5"], ["x6"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["x6"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", *weight.layer("f1", 3136, 128)], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["rectified"]),
        helper.make_node("Gemm", ["rectified", *weight.layer("f2", 128, 10)], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return graph(nodes, weight, ("image", TensorProto.UINT8, IMAGE), 10)


def mlp_onnx() -> bytes:
    """784-32-10."""
    weight = Weights()
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", weight.constant("white", np.float32(255))], ["x0"]),
        helper.make_node("Flatten", ["x0"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", *weight.layer("f1", 784, 32)], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["rectified"]),
        helper.make_node("Gemm", ["rectified", *weight.layer("f2", 32, 10)], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return graph(nodes, weight, ("image", TensorProto.UINT8, IMAGE), 10)


def heavy_onnx(layers: int = 20) -> bytes:
    """`x` float32 (rows, 8) -> two probabilities, `layers` convolutions of 58 MFLOP between them."""
    weight = Weights()
    shape = weight.constant("shape", np.array([-1, *IMAGE], np.int64))
    nodes = [
        helper.make_node("Gemm", ["x", *weight.layer("spread", NUMBERS, 784)], ["flat"]),
        helper.make_node("Reshape", ["flat", shape], ["picture"]),
        *convolution("picture", "x0", weight.normal("first", 64, 1, 3, 3)),
    ]
    again = weight.normal("again", 64, 64, 3, 3)  # the same weights each time: the file stays small
    for i in range(layers):
        nodes += convolution(f"x{i}", f"x{i + 1}", again)
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{layers}"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["means"], axis=1),
        helper.make_node("Gemm", ["means", *weight.layer("last", 64, 2)], ["logits"], alpha=0.1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return graph(nodes, weight, ("x", TensorProto.FLOAT, (NUMBERS,)), 2)


class Weights:
    """The constants of one graph, drawn in order from one seed, scaled after He et al. 2015."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def normal(self, name: str, *shape: int) -> str:
        """(out, in, ...)"""
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return self.constant(name, (self._rng.standard_normal(shape) * scale).astype(np.float32))

    def layer(self, name: str, wide: int, out: int) -> list[str]:
        """Weight (in, out) and bias (out)."""
        weight = (self._rng.standard_normal((wide, out)) * np.sqrt(2 / wide)).astype(np.float32)
        return [self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", np.zeros(out, np.float32))]


def convolution(source: str, target: str, weight: str) -> list[onnx.NodeProto]:
    """3x3 with the size kept, then Relu."""
    return [
        helper.make_node("Conv", [source, weight], [f"{target}.sum"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [f"{target}.sum"], [target]),
    ]


def graph(
    nodes: Sequence[onnx.NodeProto], weight: Weights, taken: tuple[str, int, tuple[int, ...]], classes: int
) -> bytes:
    name, kind, shape = taken
    return onnx_bytes(
        nodes,
        [helper.make_tensor_value_info(name, kind, ["rows", *shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", classes])],
        weight.constants,
    )


def external_onnx(file: Path) -> bytes:
    try:
        data = file.read_bytes()
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise WrongModel(f"{EXTERNAL}={file}: {error}") from None
    got = [
        (value.name, value.type.tensor_type.elem_type, tuple(d.dim_value for d in value.type.tensor_type.shape.dim))
        for value in (*model.graph.input, *model.graph.output)
    ]
    want = [("image", int(TensorProto.UINT8), (0, *IMAGE)), ("probabilities", int(TensorProto.FLOAT), (0, 10))]
    if got != want:
        raise WrongModel(f"{EXTERNAL}={file}: inputs and outputs are {got}, expected {want} (0 is the axis of rows)")
    return data


def made(name: str) -> bytes:
    """The ONNX file of one of the three."""
    return {"cnn": cnn_onnx, "mlp": mlp_onnx, "heavy": heavy_onnx}[name]()


def publish(root: Path, name: str) -> bytes:
    """Write `<root>/<name>/1/`; returns its ONNX file."""
    data = made(name)
    manifest = classifier_manifest(data, name=name, labels=DIGITS, picture=PICTURE, max_rows=MAX_ROWS[name])
    if name == "heavy":
        manifest |= {"modality": "tensor", "picture": None, "labels": ["no", "yes"]}
        manifest["graphs"]["classifier"] |= {
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["rows", NUMBERS]}],
            "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["rows", 2]}],
        }
    write_folder(root, manifest, {"classifier.onnx": data})
    return data
