"""Tiny real models that label frames: ONNX graphs made here, clips of which the labels are known, and their folders.

A frame is of one grey level. `whole` compares it with the mean of all frames of the clip, so that the length of a row
counts; `piecewise` compares it with the frame before (before the first one, black), which is its state.

    labeller     whole clips, with a grammar        "watcher": dark, middle, light
    streamer     pieces of three frames             "follower": darker, same, lighter
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import PhotoPicture
from tests.made_models import classifier_manifest, npz, onnx_bytes, sha256, write_folder

RATE = 25.0
SIDE = 8
MOST = 50
PIECE = 3
PICTURE = PhotoPicture(kind="photo", height=SIDE, width=SIDE, channels=1)
LABELS = ("dark", "middle", "light")
CHANGES = ("darker", "same", "lighter")
STEPS = (-100.0, 0.0, 100.0)  # of grey levels: the difference that a label stands for
SHARPNESS = 1 / 400


def frames_of(levels: Sequence[int]) -> NDArray[np.uint8]:
    """(T, SIDE, SIDE, 1)."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), SIDE, SIDE, 1)).copy()


def _softmax(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = -SHARPNESS * (differences[:, None] - np.array(STEPS)) ** 2
    scores -= scores.max(axis=1, keepdims=True)
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def whole(levels: Sequence[float]) -> NDArray[np.float64]:
    """What "watcher" knows of a clip: (T, 3)."""
    values = np.array(levels, np.float64)
    return _softmax(values - values.mean())


def piecewise(levels: Sequence[float]) -> NDArray[np.float64]:
    """What "follower" knows of a clip: (T, 3)."""
    return _softmax(np.diff(np.array(levels, np.float64), prepend=0.0))


def _brightness() -> list[onnx.NodeProto]:
    """`video` (rows, frames, H, W, C) -> `level` (rows, frames)."""
    return [
        helper.make_node("Cast", ["video"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["level"], axes=[2, 3, 4], keepdims=0),
    ]


def _scores(difference: str) -> list[onnx.NodeProto]:
    """`difference` (rows, frames) -> `probabilities` (rows, frames, 3)."""
    return [
        helper.make_node("Unsqueeze", [difference, "last"], ["column"]),
        helper.make_node("Sub", ["column", "steps"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=2),
    ]


CONSTANTS: dict[str, NDArray[Any]] = {
    "last": np.array([2], np.int64),
    "middle": np.array([1], np.int64),
    "steps": np.array(STEPS, np.float32),
    "sharpness": np.float32([-SHARPNESS]),
}


def labeller_onnx() -> bytes:
    """`video` uint8 (rows, frames, ...), `length` (rows) -> `probabilities` (rows, frames, 3)."""
    return onnx_bytes(
        [
            *_brightness(),
            helper.make_node("ReduceSum", ["level", "middle"], ["sum"], keepdims=1),
            helper.make_node("Cast", ["length"], ["frames"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["frames", "middle"], ["divisor"]),
            helper.make_node("Div", ["sum", "divisor"], ["mean"]),
            helper.make_node("Sub", ["level", "mean"], ["difference"]),
            *_scores("difference"),
        ],
        [
            helper.make_tensor_value_info("video", TensorProto.UINT8, ["rows", "frames", SIDE, SIDE, 1]),
            helper.make_tensor_value_info("length", TensorProto.INT64, ["rows"]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", "frames", 3])],
        CONSTANTS,
    )


def streamer_onnx() -> bytes:
    """`video` uint8 (rows, PIECE, ...), `before` (rows, 1) -> `probabilities` (rows, PIECE, 3), `next_before`."""
    return onnx_bytes(
        [
            *_brightness(),
            helper.make_node("Concat", ["before", "level"], ["all"], axis=1),
            helper.make_node("Split", ["all", "first_parts"], ["earlier", "next_before"], axis=1),
            helper.make_node("Sub", ["level", "earlier"], ["difference"]),
            *_scores("difference"),
        ],
        [
            helper.make_tensor_value_info("video", TensorProto.UINT8, ["rows", PIECE, SIDE, SIDE, 1]),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["rows", 1]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", PIECE, 3]),
            helper.make_tensor_value_info("next_before", TensorProto.FLOAT, ["rows", 1]),
        ],
        CONSTANTS | {"first_parts": np.array([PIECE, 1], np.int64)},
    )


def manifest_of(
    name: str, key: str, data: bytes, labels: Sequence[str], inputs: Sequence[Any], outputs: Sequence[Any], **more: Any
) -> dict[str, Any]:
    """A manifest, as JSON values; inputs and outputs as (name, type, axes)."""

    def specs(tensors: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in tensors]

    graph = {"file": f"{key}.onnx", "sha256": sha256(data), "inputs": specs(inputs), "outputs": specs(outputs)}
    return classifier_manifest(data, name=name, labels=labels) | {
        "task": "label-frames",
        "modality": "video",
        "title": name.capitalize(),
        "summary": "Sees how bright each frame is. Made for tests.",
        "picture": None,
        "video": {"picture": PICTURE.model_dump(), "rate": RATE, "max_frames": MOST},
        "graphs": {key: graph},
        **more,
    }


def make_watcher_folder(root: Path, name: str = "watcher", twin: str | None = "follower") -> Path:
    """Publish the labeller, with a clip as its golden row; its sentence has two words, and "middle" between them."""
    data, levels = labeller_onnx(), [128] * 3 + [28] * 4 + [128] * 2 + [228] * 4
    golden = npz(
        video=frames_of(levels)[None],
        length=np.array([len(levels)], np.int64),
        probabilities=whole(levels)[None].astype(np.float32),
    )
    word = ["dark", "light"]
    manifest = manifest_of(
        name,
        "labeller",
        data,
        LABELS,
        [("video", "uint8", ("rows", "frames", SIDE, SIDE, 1)), ("length", "int64", ("rows",))],
        [("probabilities", "float32", ("rows", "frames", 3))],
        frame_labels={"background": "middle", "grammar": [word, word], "twin": twin},
        golden={"file": "golden.npz", "sha256": sha256(golden), "graph": "labeller", "rows": 1, "atol": 1e-4},
    )
    return write_folder(root, manifest, {"labeller.onnx": data, "golden.npz": golden})


def make_follower_folder(root: Path, name: str = "follower") -> Path:
    """Publish the streamer; it has no grammar."""
    data = streamer_onnx()
    manifest = manifest_of(
        name,
        "streamer",
        data,
        CHANGES,
        [("video", "uint8", ("rows", PIECE, SIDE, SIDE, 1)), ("before", "float32", ("rows", 1))],
        [("probabilities", "float32", ("rows", PIECE, 3)), ("next_before", "float32", ("rows", 1))],
        frame_labels={"background": "same"},
    )
    return write_folder(root, manifest, {"streamer.onnx": data})


def make_watchers(root: Path) -> None:
    """One of each."""
    make_watcher_folder(root)
    make_follower_folder(root)
