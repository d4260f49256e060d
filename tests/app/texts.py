"""Models of text for tests: word tokenizers, and tiny graphs whose every answer is known.

`teller` classifies: each word has a weight, the sum of a text's weights is the logit of "good" against "bad".
`turner` translates word by word: it looks at one source word after the other (its attention is 1 there), and of the
target words the likeliest is the best sum of what fits that source word and of what fits the word just written. So a
chain of words has a probability that brute force finds as well.
`namer` captions pictures of GRID cells: it looks at one cell after the other and names how light it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from app.core.manifest import PhotoPicture
from tests.app.translators import SMALL, inverter
from tests.app.translators import make_folder as inverter_folder
from tests.made_models import classifier_manifest, make_classifier_folder, onnx_bytes, sha256, write_folder

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<s>", "</s>"
SPECIAL = (PAD, UNKNOWN, START, END)
SOURCE = ("the", "man", "dog", "sees", "red", "train")
TARGET = ("o", "homem", "cão", "vê", "vermelho", "trem")
WEIGHTS = {"good": 2.0, "bad": -2.0, "fine": 1.0, "not": -0.5, "film": 0.25, "a": 0.0}
GRID = (2, 2)
SHADES = ("black", "dark", "light", "white")
PARTS = ("dark", "##ish", "##xish", "light")  # the same shades; the third is written as the second
LEVELS, SHARP = (0.0, 85.0, 170.0, 255.0), 1e-3  # of the shades; sharpness of the namer's opinion
SCENE = PhotoPicture(kind="photo", height=4, width=4, channels=1)


def word_tokenizer(words: Sequence[str], *, normalized: bool = True) -> bytes:
    """A tokenizer of whole words: ids 0 to 3 are padding, unknown, start and end."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, *words))}, unk_token=UNKNOWN))
    if normalized:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer.to_str().encode()


def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["rows", *shape])


def teller_onnx(weights: Mapping[str, float] = WEIGHTS) -> bytes:
    """`tokens`, `length` -> `probabilities` of "bad" and "good": softmax of minus and plus half the sum of weights.
    Behind `length` nothing counts: there the weight of padding is large and wrong."""
    table = np.array([99.0, 0.0, 0.0, 0.0, *weights.values()], np.float32)
    return onnx_bytes(
        [
            helper.make_node("Gather", ["table", "tokens"], ["of_token"]),
            *mask_nodes("tokens"),
            helper.make_node("Where", ["real", "of_token", "zero"], ["counted"]),
            helper.make_node("ReduceSum", ["counted", "axis"], ["sum"], keepdims=1),
            helper.make_node("Mul", ["sum", "halves"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [value("tokens", TensorProto.INT64, "tokens"), value("length", TensorProto.INT64)],
        [value("probabilities", TensorProto.FLOAT, 2)],
        {
            "table": table, "zero": np.float32(0), "axis": np.array([1]), "halves": np.float32([[-0.5, 0.5]]), **MASK,
        },
    )  # fmt: skip


MASK: dict[str, NDArray[Any]] = {"first": np.array(0), "one": np.array(1), "last": np.array([1])}


def mask_nodes(of: str) -> list[onnx.NodeProto]:
    """`real` bool (rows, tokens): before `length`; and `places` int64 (tokens,)."""
    return [
        helper.make_node("Shape", [of], ["sizes"], start=1, end=2),
        helper.make_node("Squeeze", ["sizes"], ["size"]),
        helper.make_node("Range", ["first", "size", "one"], ["places"]),
        helper.make_node("Unsqueeze", ["length", "last"], ["ends"]),
        helper.make_node("Less", ["places", "ends"], ["real"]),
    ]


def encoder_onnx(words: int) -> bytes:
    """`tokens`, `length` -> `memory`, one-hot of each token, and `place` (rows, 1), where the decoder looks first."""
    return onnx_bytes(
        [
            helper.make_node("Gather", ["eye", "tokens"], ["memory"]),
            helper.make_node("Cast", ["length"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["floats", "last"], ["column"]),
            helper.make_node("Mul", ["column", "zero"], ["place"]),
        ],
        [value("tokens", TensorProto.INT64, "tokens"), value("length", TensorProto.INT64)],
        [value("memory", TensorProto.FLOAT, "tokens", words), value("place", TensorProto.FLOAT, 1)],
        {"eye": np.eye(words, dtype=np.float32), "zero": np.float32(0), "last": np.array([1])},
    )


def step_onnx(fits: NDArray[np.float32], follows: NDArray[np.float32], best: int, end: int = 3) -> bytes:
    """One step: logits = fits[source word at `place`] + follows[token]; behind the last source word it is `end`.

    Args:
        fits: (source ids, target ids).
        follows: (target ids, target ids).
        best: K.
    """
    source, target = fits.shape
    stop = np.zeros((1, target), np.float32)
    stop[0, end] = 100.0
    return onnx_bytes(
        [
            *mask_nodes("memory"),
            helper.make_node("Cast", ["places"], ["at"], to=TensorProto.FLOAT),
            helper.make_node("Equal", ["at", "place"], ["here"]),
            helper.make_node("And", ["here", "real"], ["seen"]),
            helper.make_node("Cast", ["seen"], ["attention"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["attention", "last"], ["looking"]),
            helper.make_node("MatMul", ["looking", "memory"], ["looked"]),
            helper.make_node("Squeeze", ["looked", "last"], ["word"]),
            helper.make_node("MatMul", ["word", "fits"], ["fitting"]),
            helper.make_node("Gather", ["follows", "token"], ["following"]),
            helper.make_node("Add", ["fitting", "following"], ["wanted"]),
            helper.make_node("Cast", ["ends"], ["end_floats"], to=TensorProto.FLOAT),
            helper.make_node("GreaterOrEqual", ["place", "end_floats"], ["over"]),
            helper.make_node("Where", ["over", "stop", "wanted"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["all"], axis=1),
            helper.make_node("TopK", ["all", "k"], ["log_probabilities", "best"], axis=1),
            helper.make_node("Add", ["place", "step"], ["next_place"]),
        ],
        [
            value("token", TensorProto.INT64), value("memory", TensorProto.FLOAT, "tokens", source),
            value("length", TensorProto.INT64), value("place", TensorProto.FLOAT, 1),
        ],
        [
            value("best", TensorProto.INT64, best), value("log_probabilities", TensorProto.FLOAT, best),
            value("attention", TensorProto.FLOAT, "tokens"), value("next_place", TensorProto.FLOAT, 1),
        ],
        {"fits": fits, "follows": follows, "stop": stop, "k": np.array([best]), "step": np.float32(1), **MASK},
    )  # fmt: skip


def tables(seed: int = 0, *, sharp: float = 8.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`fits` and `follows` of the turner: the word of the same place fits best, and some noise decides the rest.
    Padding, unknown and start are never written; the end only behind the last word."""
    rng = np.random.default_rng(seed)
    size = len(SPECIAL) + len(SOURCE)
    fits = rng.normal(size=(size, size)).astype(np.float32) + sharp * np.eye(size, dtype=np.float32)
    follows = rng.normal(size=(size, size)).astype(np.float32)
    follows[:, : len(SPECIAL)] -= 100.0
    return fits, follows


def spec(name: str, dtype: str, *shape: str | int) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": ["rows", *shape]}


TOKENS = [spec("tokens", "int64", "tokens"), spec("length", "int64")]


def described(file: str, data: bytes, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"file": file, "sha256": sha256(data), "inputs": inputs, "outputs": outputs}


def text_fields(tokenizer: bytes, *, file: str = "tokenizer.json", **fields: Any) -> dict[str, Any]:
    """`Text` of a manifest."""
    tokens = {"tokenizer": {"file": file, "sha256": sha256(tokenizer)}}
    return {**tokens, "max_tokens": 16, "max_characters": 200, "example": "a good film"} | fields


def make_teller(root: Path, name: str = "teller", *, version: str = "1", **fields: Any) -> Path:
    """Publish the classifier of texts; `fields` change its `text`."""
    data, tokenizer = teller_onnx(), word_tokenizer(tuple(WEIGHTS))
    manifest = classifier_manifest(data, name=name, version=version, labels=("bad", "good")) | {
        "modality": "text",
        "picture": None,
        "title": "Good or bad",
        "graphs": {"classifier": described("classifier.onnx", data, TOKENS, [spec("probabilities", "float32", 2)])},
        "text": text_fields(tokenizer, **fields),
    }
    return write_folder(root, manifest, {"classifier.onnx": data, "tokenizer.json": tokenizer})


def make_turner(
    root: Path,
    name: str = "turner",
    *,
    version: str = "1",
    languages: tuple[str, str] = ("en", "pt"),
    best: int = 4,
    seed: int = 0,
    sharp: float = 8.0,
    changes: Mapping[str, Any] | None = None,
    **writing: Any,
) -> Path:
    """Publish the translator of texts; `writing` and `changes` are of its manifest."""
    encoder, step = encoder_onnx(len(SPECIAL) + len(SOURCE)), step_onnx(*tables(seed, sharp=sharp), best)
    source, target = word_tokenizer(SOURCE), word_tokenizer(TARGET)
    size = len(SPECIAL) + len(SOURCE)
    memory, place = spec("memory", "float32", "tokens", size), spec("place", "float32", 1)
    manifest = classifier_manifest(encoder, name=name, version=version) | {
        "task": "translate",
        "modality": "text",
        "picture": None,
        "labels": [],
        "title": "Word by word",
        "graphs": {
            "encoder": described("encoder.onnx", encoder, TOKENS, [memory, place]),
            "step": described(
                "step.onnx",
                step,
                [spec("token", "int64"), memory, TOKENS[1], place],
                [
                    spec("best", "int64", best),
                    spec("log_probabilities", "float32", best),
                    spec("attention", "float32", "tokens"),
                    spec("next_place", "float32", 1),
                ],
            ),
        },
        "text": text_fields(source, file="source.json", example="the man sees the dog"),
        "writing": {
            "tokenizer": {"file": "target.json", "sha256": sha256(target)},
            "start": 2,
            "end": 3,
            "max_tokens": 20,
            "best": best,
        }
        | writing,
        "languages": {"source": languages[0], "target": languages[1]},
    }
    files = {"encoder.onnx": encoder, "step.onnx": step, "source.json": source, "target.json": target}
    return write_folder(root, manifest | dict(changes or {}), files)


def read_manifest(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return read


def namer_onnx(best: int) -> tuple[bytes, bytes]:
    """Encoder and step of the namer: memory (rows, cells, shades) is -SHARP (mean - shade)^2 of each cell, the log
    probabilities of shades are proportional to it."""
    cells, shades = GRID[0] * GRID[1], len(SHADES)
    fits = np.full((shades, len(SPECIAL) + shades), 0.0, np.float32)
    fits[:, len(SPECIAL) :] = np.eye(shades)
    bias = np.float32([[-1000.0] * len(SPECIAL) + [0.0] * shades])
    stop = np.full_like(bias, -1000.0)
    stop[0, 3] = 0.0
    encoder = onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Reshape", ["pooled", "shape"], ["levels"]),
            helper.make_node("Sub", ["levels", "shades"], ["off"]),
            helper.make_node("Mul", ["off", "off"], ["squared"]),
            helper.make_node("Mul", ["squared", "sharp"], ["memory"]),
            helper.make_node("ReduceSum", ["memory", "axes"], ["sum"], keepdims=0),
            helper.make_node("Unsqueeze", ["sum", "last"], ["column"]),
            helper.make_node("Mul", ["column", "zero"], ["place"]),
        ],
        [value("image", TensorProto.UINT8, *SCENE.shape)],
        [value("memory", TensorProto.FLOAT, cells, shades), value("place", TensorProto.FLOAT, 1)],
        {
            "shape": np.array([-1, cells, 1]), "shades": np.float32(LEVELS), "sharp": np.array(-SHARP, np.float32),
            "axes": np.array([1, 2]), "last": np.array([1]), "zero": np.array(0, np.float32),
        },
    )  # fmt: skip
    step = onnx_bytes(
        [
            helper.make_node("Equal", ["places", "place"], ["here"]),
            helper.make_node("Cast", ["here"], ["attention"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["attention", "last"], ["looking"]),
            helper.make_node("MatMul", ["looking", "memory"], ["looked"]),
            helper.make_node("Squeeze", ["looked", "last"], ["shade"]),
            helper.make_node("MatMul", ["shade", "fits"], ["fitting"]),
            helper.make_node("Add", ["fitting", "bias"], ["wanted"]),
            helper.make_node("Gather", ["nothing", "token"], ["none"]),
            helper.make_node("Add", ["wanted", "none"], ["named"]),
            helper.make_node("GreaterOrEqual", ["place", "cells"], ["over"]),
            helper.make_node("Where", ["over", "stop", "named"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["all"], axis=1),
            helper.make_node("TopK", ["all", "k"], ["log_probabilities", "best"], axis=1),
            helper.make_node("Add", ["place", "one"], ["next_place"]),
        ],
        [
            value("token", TensorProto.INT64), value("memory", TensorProto.FLOAT, cells, shades),
            value("place", TensorProto.FLOAT, 1),
        ],
        [
            value("best", TensorProto.INT64, best), value("log_probabilities", TensorProto.FLOAT, best),
            value("attention", TensorProto.FLOAT, cells), value("next_place", TensorProto.FLOAT, 1),
        ],
        {
            "places": np.arange(cells, dtype=np.float32), "last": np.array([1]), "fits": fits, "bias": bias,
            "nothing": np.zeros((fits.shape[1], 1), np.float32), "cells": np.array(cells, np.float32), "stop": stop,
            "k": np.array([best]), "one": np.array(1, np.float32),
        },
    )  # fmt: skip
    return encoder, step


def parts_tokenizer(parts: Sequence[str]) -> bytes:
    """As `word_tokenizer`, but what begins with ## goes on with the word before it, and an x is not written."""
    tokenizer = Tokenizer.from_str(word_tokenizer(parts).decode())
    tokenizer.decoder = decoders.Sequence([decoders.Replace("x", ""), decoders.WordPiece("##", cleanup=False)])
    return tokenizer.to_str().encode()


def make_namer(
    root: Path,
    name: str = "namer",
    *,
    version: str = "1",
    best: int = 5,
    tokenizer: bytes | None = None,
    **writing: Any,
) -> Path:
    """Publish the captioner of pictures; `writing` is of its manifest."""
    encoder, step = namer_onnx(best)
    tokenizer, cells = tokenizer or word_tokenizer(SHADES), GRID[0] * GRID[1]
    memory, place = spec("memory", "float32", cells, len(SHADES)), spec("place", "float32", 1)
    manifest = classifier_manifest(encoder, name=name, version=version, picture=SCENE) | {
        "task": "caption",
        "labels": [],
        "title": "Shades",
        "graphs": {
            "encoder": described("encoder.onnx", encoder, [spec("image", "uint8", *SCENE.shape)], [memory, place]),
            "step": described(
                "step.onnx",
                step,
                [spec("token", "int64"), memory, place],
                [
                    spec("best", "int64", best),
                    spec("log_probabilities", "float32", best),
                    spec("attention", "float32", cells),
                    spec("next_place", "float32", 1),
                ],
            ),
        },
        "writing": {
            "tokenizer": {"file": "tokenizer.json", "sha256": sha256(tokenizer)},
            "start": 2,
            "end": 3,
            "max_tokens": 6,
            "best": best,
            "grid": list(GRID),
        }
        | writing,
    }
    return write_folder(root, manifest, {"encoder.onnx": encoder, "step.onnx": step, "tokenizer.json": tokenizer})


def make_writers(root: Path) -> None:
    """A classifier of texts and one of pictures, three translators of texts (one with a list of words), and one of
    pictures."""
    make_teller(root)
    make_classifier_folder(root, "shades")
    make_namer(root)
    make_namer(root, "parts", tokenizer=parts_tokenizer(PARTS))
    make_turner(root)
    make_turner(root, "wide", languages=("de", "en"), beam=2, seed=1)
    inverter_folder(root, "inverter", {"positive": SMALL, "negative": SMALL}, inverter())
