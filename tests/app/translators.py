"""Translators for tests, whose every answer is known, and the folders that publish them.

`inverter`: "positive" and "negative", white for black; what comes back is what was sent.
`printer`: a "photo" becomes a "print" of four levels a colour; a print stays what it is as a photo: the cycle loses
what four levels cannot hold.
`enlarger`: "small" grey pictures become "large" coloured ones with their channels first, twice as high and wide; on the
way back, the mean of four pixels and of three channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import PhotoPicture
from tests.made_models import classifier_manifest, make_classifier_folder, npz, onnx_bytes, sha256, write_folder

SIDE = 8
STEPS = 3  # between black and white of a print
MOST = 24  # pictures in one request
PIXELS = 20 * (2 * SIDE) ** 2  # that are made for one
ERRORS = tuple(0.01 * k for k in range(1, 41))
SMALL = PhotoPicture(kind="photo", height=SIDE, width=SIDE, channels=1)
COLOURED = PhotoPicture(kind="photo", height=SIDE, width=SIDE, channels=3)
LARGE = PhotoPicture(kind="photo", height=2 * SIDE, width=2 * SIDE, channels=3, layout="chw")


def make_translators(root: Path) -> None:
    """All three, the inverter with golden rows of its first graph; and a classifier."""
    graphs = inverter()
    golden = {"image": ramps(3), "translated": inverted(ramps(3))}
    make_folder(root, "inverter", {"positive": SMALL, "negative": SMALL}, graphs, golden=golden)
    make_folder(root, "printer", {"photo": COLOURED, "print": COLOURED}, printer())
    make_folder(root, "enlarger", {"small": SMALL, "large": LARGE}, enlarger())
    make_classifier_folder(root, "shades")


def ramps(n: int) -> NDArray[np.uint8]:
    """Pictures that rise from left to right and differ from each other: (n, SIDE, SIDE, 1)."""
    levels = np.arange(SIDE) * 30 + np.arange(n)[:, None]
    return np.ascontiguousarray(np.broadcast_to(levels[:, None, :, None], (n, SIDE, SIDE, 1)), np.uint8)


def inverted(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(1 - images / 255, np.float32)


def printed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The nearest of four levels."""
    return np.asarray(np.rint(images / 255 * STEPS) * (255 / STEPS), np.uint8)


def enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 1) -> (N, 2 H, 2 W, 3)"""
    return images.repeat(2, axis=1).repeat(2, axis=2).repeat(3, axis=3)


def inverter() -> tuple[bytes, bytes]:
    graph = _graph([helper.make_node("Sub", ["one", "pixels"], ["translated"])], SMALL, SMALL, {"one": np.float32(1)})
    return graph, graph


def printer() -> tuple[bytes, bytes]:
    nodes = [
        helper.make_node("Mul", ["pixels", "steps"], ["stretched"]),
        helper.make_node("Round", ["stretched"], ["rounded"]),
        helper.make_node("Div", ["rounded", "steps"], ["translated"]),
    ]
    there = _graph(nodes, COLOURED, COLOURED, {"steps": np.float32(STEPS)})
    return there, _graph([helper.make_node("Identity", ["pixels"], ["translated"])], COLOURED, COLOURED, {})


def enlarger() -> tuple[bytes, bytes]:
    there = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Concat", ["planes"] * 3, ["coloured"], axis=1),
        helper.make_node("Resize", ["coloured", "", "scales"], ["translated"], mode="nearest"),
    ]
    back = [
        helper.make_node("AveragePool", ["pixels"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMean", ["pooled"], ["grey"], axes=[1]),
        helper.make_node("Transpose", ["grey"], ["translated"], perm=[0, 2, 3, 1]),
    ]
    return _graph(there, SMALL, LARGE, {"scales": np.float32([1, 1, 2, 2])}), _graph(back, LARGE, SMALL, {})


def _graph(
    nodes: Sequence[onnx.NodeProto],
    source: PhotoPicture,
    target: PhotoPicture,
    constants: Mapping[str, NDArray[Any]],
) -> bytes:
    """`image` uint8 -> `translated` float32, by nodes that are given `pixels`, from 0 to 1."""
    return onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["levels", "white"], ["pixels"]),
            *nodes,
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", *source.shape])],
        [helper.make_tensor_value_info("translated", TensorProto.FLOAT, ["rows", *target.shape])],
        {"white": np.float32(255), **constants},
    )


def make_folder(
    root: Path,
    name: str,
    pictures: Mapping[str, PhotoPicture],
    graphs: tuple[bytes, bytes],
    *,
    version: str = "1",
    golden: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Publish a translator between two domains, the first graph from the first to the second, as
    `<root>/<name>/<version>/`; returns that folder."""
    first, second = pictures
    files: dict[str, bytes] = {}
    described, translations = {}, []
    for data, source, target in ((graphs[0], first, second), (graphs[1], second, first)):
        graph = f"{source}_to_{target}"
        files[f"{graph}.onnx"] = data
        described[graph] = {
            "file": f"{graph}.onnx",
            "sha256": sha256(data),
            "inputs": [{"name": "image", "dtype": "uint8", "shape": ["rows", *pictures[source].shape]}],
            "outputs": [{"name": "translated", "dtype": "float32", "shape": ["rows", *pictures[target].shape]}],
        }
        translations.append({"graph": graph, "source": source, "target": target, "cycle": {"errors": list(ERRORS)}})
    manifest = classifier_manifest(graphs[0], name=name, version=version) | {
        "task": "translate",
        "title": f"From {first} to {second} and back",
        "summary": "Made for tests.",
        "graphs": described,
        "labels": [],
        "picture": None,
        "domains": [
            {"name": domain, "title": domain.title(), "picture": picture.model_dump(mode="json")}
            for domain, picture in pictures.items()
        ],
        "translations": translations,
    }
    if golden is not None:
        files["golden.npz"] = npz(**golden)
        manifest["golden"] = {
            "file": "golden.npz",
            "sha256": sha256(files["golden.npz"]),
            "graph": f"{first}_to_{second}",
            "rows": len(golden["image"]),
            "atol": 1e-4,
        }
    return write_folder(root, manifest, files)
