"""Tiny real models that hear: ONNX graphs made here, sounds of which the words are known, and their folders.

A sound is a square wave, whose loudness in each frame of 50 ms is the word: about `SOFT`, about `LOUD`, or silence. So
`sound_of("soft", None, "loud")` says "soft loud". Half way between two words a graph is half sure of each.

    recogniser   whole recordings at once                            "hearer"
    streamer     pieces of 250 ms; its state is the last frame, so that its outputs are one frame late    "listener"
    classifier   the loudness of the whole recording                 "meter"
"""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.made_models import classifier_manifest, npz, onnx_bytes, sha256, write_folder

RATE = 8000
FRAME = 400
FRAME_S = FRAME / RATE
PIECE_FRAMES = 5
PIECE = PIECE_FRAMES * FRAME
WORD_FRAMES = 4
WORDS = ("soft", "loud")
SOFT, LOUD = 0.3, 0.7
LEVELS = (SOFT, LOUD, 0.0)  # the blank last
SHARPNESS = 400.0
MAX_S = 4.0
DOUBT = 0.6


def level(loudness: float, frames: int) -> NDArray[np.float32]:
    """So many frames of a square wave of that loudness."""
    signs = np.where(np.arange(frames * FRAME) % 20 < 10, 1, -1)
    return (loudness * signs).astype(np.float32)


def sound_of(*words: str | None, frames: int = WORD_FRAMES) -> NDArray[np.float32]:
    """Samples in which these words follow each other, None for silence, each for so many frames."""
    loudness = {"soft": SOFT, "loud": LOUD, None: 0.0}
    return np.concatenate([level(loudness[word], frames) for word in words])


def wav(samples: NDArray[np.floating[Any]], rate: int = RATE) -> bytes:
    """A WAV file of 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(pcm(samples))
    return file.getvalue()


def pcm(samples: NDArray[np.floating[Any]]) -> bytes:
    """Little-endian samples of 16 bits."""
    return np.rint(samples * 32767).astype("<i2").tobytes()


def _scores(loudness: str) -> list[onnx.NodeProto]:
    """`loudness` (rows, frames) -> `log_probabilities` (rows, frames, words + 1)."""
    return [
        helper.make_node("Unsqueeze", [loudness, "last"], ["column"]),
        helper.make_node("Sub", ["column", "levels"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "sharpness"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_probabilities"], axis=2),
    ]


def _loudness(sound: str) -> list[onnx.NodeProto]:
    """`sound` (rows, samples) -> `loudness` (rows, frames)."""
    return [
        helper.make_node("Abs", [sound], ["magnitude"]),
        helper.make_node("Unsqueeze", ["magnitude", "middle"], ["channel"]),
        helper.make_node("AveragePool", ["channel"], ["pooled"], kernel_shape=[FRAME], strides=[FRAME]),
        helper.make_node("Squeeze", ["pooled", "middle"], ["loudness"]),
    ]


CONSTANTS: dict[str, NDArray[Any]] = {
    "last": np.array([2], np.int64),
    "middle": np.array([1], np.int64),
    "levels": np.array(LEVELS, np.float32),
    "sharpness": np.float32([-SHARPNESS]),
}


def recognizer_onnx() -> bytes:
    """`sound` (rows, samples), `length` (rows) -> `log_probabilities` (rows, frames, words + 1), `steps` (rows)."""
    width = len(LEVELS)
    return onnx_bytes(
        [
            helper.make_node("Pad", ["sound", "more"], ["padded"]),
            *_loudness("padded"),
            *_scores("loudness"),
            helper.make_node("Add", ["length", "short"], ["rounded"]),
            helper.make_node("Div", ["rounded", "frame"], ["steps"]),
        ],
        [
            helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["rows", "samples"]),
            helper.make_tensor_value_info("length", TensorProto.INT64, ["rows"]),
        ],
        [
            helper.make_tensor_value_info("log_probabilities", TensorProto.FLOAT, ["rows", "frames", width]),
            helper.make_tensor_value_info("steps", TensorProto.INT64, ["rows"]),
        ],
        CONSTANTS
        | {
            "more": np.array([0, 0, 0, FRAME - 1], np.int64),
            "short": np.array([FRAME - 1], np.int64),
            "frame": np.array([FRAME], np.int64),
        },
    )


def streamer_onnx() -> bytes:
    """`sound` (rows, PIECE), `before` (rows, 1) -> `log_probabilities` (rows, PIECE_FRAMES, ...), `next_before`."""
    width = len(LEVELS)
    return onnx_bytes(
        [
            *_loudness("sound"),
            helper.make_node("Concat", ["before", "loudness"], ["all"], axis=1),
            helper.make_node("Split", ["all", "parts"], ["now", "next_before"], axis=1),
            *_scores("now"),
        ],
        [
            helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["rows", PIECE]),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["rows", 1]),
        ],
        [
            helper.make_tensor_value_info("log_probabilities", TensorProto.FLOAT, ["rows", PIECE_FRAMES, width]),
            helper.make_tensor_value_info("next_before", TensorProto.FLOAT, ["rows", 1]),
        ],
        CONSTANTS | {"parts": np.array([PIECE_FRAMES, 1], np.int64)},
    )


def classifier_onnx() -> bytes:
    """`sound` (rows, samples), `length` (rows) -> `probabilities` (rows, words): which of the two it is as loud as."""
    return onnx_bytes(
        [
            helper.make_node("Abs", ["sound"], ["magnitude"]),
            helper.make_node("ReduceSum", ["magnitude", "middle"], ["sum"], keepdims=1),
            helper.make_node("Cast", ["length"], ["samples"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["samples", "middle"], ["divisor"]),
            helper.make_node("Div", ["sum", "divisor"], ["mean"]),
            helper.make_node("Sub", ["mean", "levels"], ["distance"]),
            helper.make_node("Mul", ["distance", "distance"], ["squared"]),
            helper.make_node("Mul", ["squared", "sharpness"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        [
            helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["rows", "samples"]),
            helper.make_tensor_value_info("length", TensorProto.INT64, ["rows"]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(WORDS)])],
        {
            "middle": CONSTANTS["middle"],
            "levels": np.array(LEVELS[:2], np.float32),
            "sharpness": CONSTANTS["sharpness"],
        },
    )


def manifest_of(
    name: str, task: str, key: str, data: bytes, inputs: Sequence[Any], outputs: Sequence[Any], **more: Any
) -> dict[str, Any]:
    """A manifest, as JSON values; inputs and outputs as (name, type, axes)."""

    def specs(tensors: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in tensors]

    graph = {"file": f"{key}.onnx", "sha256": sha256(data), "inputs": specs(inputs), "outputs": specs(outputs)}
    return classifier_manifest(data, name=name, labels=WORDS) | {
        "task": task,
        "modality": "audio",
        "title": name.capitalize(),
        "summary": "Hears how loud it is. Made for tests.",
        "picture": None,
        "sound": {"rate": RATE, "max_s": MAX_S},
        "graphs": {key: graph},
        **more,
    }


def make_hearer_folder(root: Path, name: str = "hearer", twin: str | None = "listener") -> Path:
    """Publish the recogniser, with two recordings as its golden rows; returns its folder."""
    data, width = recognizer_onnx(), len(LEVELS)
    sounds = [sound_of(None, "soft", None), sound_of("loud", None, "soft")]
    rows = np.stack(sounds)
    levels = np.abs(rows).reshape(2, -1, FRAME).mean(axis=2)[..., None]
    scores = -SHARPNESS * (levels - np.array(LEVELS)) ** 2
    answers = (scores - np.logaddexp.reduce(scores, axis=2, keepdims=True)).astype(np.float32)
    length = np.array([rows.shape[1]] * 2, np.int64)
    golden = npz(sound=rows, length=length, log_probabilities=answers, steps=np.array([rows.shape[1] // FRAME] * 2))
    manifest = manifest_of(
        name,
        "transcribe",
        "recognizer",
        data,
        [("sound", "float32", ("rows", "samples")), ("length", "int64", ("rows",))],
        [("log_probabilities", "float32", ("rows", "frames", width)), ("steps", "int64", ("rows",))],
        transcription={"step_s": FRAME_S, "doubt": DOUBT, "twin": twin},
        golden={"file": "golden.npz", "sha256": sha256(golden), "graph": "recognizer", "rows": 2, "atol": 1e-3},
    )
    return write_folder(root, manifest, {"recognizer.onnx": data, "golden.npz": golden})


def make_listener_folder(root: Path, name: str = "listener") -> Path:
    """Publish the streamer; returns its folder."""
    data, width = streamer_onnx(), len(LEVELS)
    manifest = manifest_of(
        name,
        "transcribe",
        "streamer",
        data,
        [("sound", "float32", ("rows", PIECE)), ("before", "float32", ("rows", 1))],
        [("log_probabilities", "float32", ("rows", PIECE_FRAMES, width)), ("next_before", "float32", ("rows", 1))],
        transcription={"step_s": FRAME_S, "delay_s": FRAME_S, "doubt": DOUBT},
    )
    return write_folder(root, manifest, {"streamer.onnx": data})


def make_meter_folder(root: Path, name: str = "meter") -> Path:
    """Publish the classifier; returns its folder."""
    data = classifier_onnx()
    manifest = manifest_of(
        name,
        "classify",
        "classifier",
        data,
        [("sound", "float32", ("rows", "samples")), ("length", "int64", ("rows",))],
        [("probabilities", "float32", ("rows", len(WORDS)))],
    )
    return write_folder(root, manifest, {"classifier.onnx": data})


def make_hearers(root: Path) -> None:
    """One of each."""
    make_hearer_folder(root)
    make_listener_folder(root)
    make_meter_folder(root)
