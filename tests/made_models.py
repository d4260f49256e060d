"""Tiny real models for tests: ONNX graphs made here, and the folders that publish them.

The classifier tells brightness: label `k` of `K` stands for a mean grey level near `(k + 0.5) / K`. Its answer is
known without running it (`brightness_probabilities`), and a uniform picture of level `grey_of(k, K)` is label `k`.

The coder keeps the mean brightness of horizontal bands (`coder_onnx`): a picture of even bands comes back as it was.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.core.manifest import MANIFEST_FILE, DigitPicture, PhotoPicture

DIGIT = DigitPicture(kind="digit", height=28, width=28, channels=1, box=20)
PHOTO = PhotoPicture(kind="photo", height=32, width=32, channels=3)
LABELS = ("dark", "middle", "light")
SHARPNESS = 100.0
PRIOR_MEAN, PRIOR_SCALE, LOGVAR = 0.5, 0.25, -3.0
LOW, HIGH = 0.125, 0.875


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def npz(**arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def onnx_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[Any]] | None = None,
) -> bytes:
    """A serialised graph of opset 17."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "made", list(inputs), list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def classifier_onnx(labels: int, picture: DigitPicture | PhotoPicture = DIGIT) -> bytes:
    """`image` uint8 (rows, *picture.shape) -> `probabilities` float32 (rows, labels)."""
    pixels = int(np.prod(picture.shape))
    centres = (np.arange(labels) + 0.5) / labels
    ones = np.ones((pixels, 1), np.float32)  # the sum of uint8 is exact in float32, whatever the order
    slope = (2 * SHARPNESS * centres / (255 * pixels)).astype(np.float32)[None]
    bias = (-SHARPNESS * centres**2).astype(np.float32)
    return onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "ones"], ["sum"]),
            helper.make_node("Gemm", ["sum", "slope", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", *picture.shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", labels])],
        {"ones": ones, "slope": slope, "bias": bias},
    )


def brightness_probabilities(images: NDArray[np.uint8], labels: int) -> NDArray[np.float64]:
    """What the classifier must answer: softmax of -SHARPNESS (mean - centre)^2, in float64. (rows, labels)"""
    mean = images.reshape(len(images), -1).mean(axis=1)[:, None] / 255
    centres = (np.arange(labels) + 0.5) / labels
    weight = np.exp(-SHARPNESS * (mean - centres) ** 2)
    answer: NDArray[np.float64] = weight / weight.sum(axis=1, keepdims=True)
    return answer


def grey_of(label: int, labels: int) -> int:
    """The grey level, 0 to 255, in the middle of a label's band."""
    return round(255 * (label + 0.5) / labels)


def classifier_manifest(
    data: bytes,
    *,
    name: str = "tiny",
    version: str = "1",
    labels: Sequence[str] = LABELS,
    picture: DigitPicture | PhotoPicture = DIGIT,
    max_rows: int = 8,
) -> dict[str, Any]:
    """A manifest, as JSON values, for `classifier_onnx` under the file name `classifier.onnx`."""
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "task": "classify",
        "modality": "image",
        "title": "Brightness",
        "summary": "Tells how bright a picture is. Made for tests.",
        "graphs": {
            "classifier": {
                "file": "classifier.onnx",
                "sha256": sha256(data),
                "inputs": [{"name": "image", "dtype": "uint8", "shape": ["rows", *picture.shape]}],
                "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["rows", len(labels)]}],
            }
        },
        "labels": list(labels),
        "picture": picture.model_dump(mode="json"),
        "max_rows": max_rows,
        "quality": [
            {"name": "accuracy", "value": 1.0, "unit": "", "protocol": "by its making", "rows": 3, "seeds": [0]}
        ],
        "data": {
            "name": "grey levels",
            "source": "computed",
            "licence": "CC0-1.0",
            "rows_train": 1,
            "rows_held_out": 0,
            "rows_test": 3,
        },
        "made": {
            "command": "tests/made_models.py",
            "at": "2026-01-01T00:00:00Z",
            "train_s": 0.0,
            "machine": "any",
            "precision": "float32",
            "parameters": len(labels) * (int(np.prod(picture.shape)) + 1),
            "parity_max_abs": 0.0,
            "parity_rows": 1,
            "packages": {},
        },
    }


def golden_npz(labels: int, picture: DigitPicture | PhotoPicture = DIGIT) -> bytes:
    """One uniform picture for each label, and what the classifier must answer to it."""
    greys = np.array([grey_of(k, labels) for k in range(labels)], np.uint8)
    images = np.ascontiguousarray(np.broadcast_to(greys[:, None, None, None], (labels, *picture.shape)))
    file = io.BytesIO()
    np.savez(file, image=images, probabilities=brightness_probabilities(images, labels).astype(np.float32))
    return file.getvalue()


def write_folder(root: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Write `<root>/<name>/<version>/` with its files and its manifest; returns that folder."""
    folder = root / str(manifest["name"]) / str(manifest["version"])
    folder.mkdir(parents=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def make_classifier_folder(
    root: Path,
    name: str = "tiny",
    version: str = "1",
    labels: Sequence[str] = LABELS,
    picture: DigitPicture | PhotoPicture = DIGIT,
    max_rows: int = 8,
) -> Path:
    """Publish the brightness classifier as `<root>/<name>/<version>/`; returns that folder."""
    data = classifier_onnx(len(labels), picture)
    golden = golden_npz(len(labels), picture)
    manifest = classifier_manifest(
        data, name=name, version=version, labels=labels, picture=picture, max_rows=max_rows
    ) | {
        "golden": {
            "file": "golden.npz",
            "sha256": sha256(golden),
            "graph": "classifier",
            "rows": len(labels),
            "atol": 1e-4,
        }
    }
    return write_folder(root, manifest, {"classifier.onnx": data, "golden.npz": golden})


def coder_onnx(bands: int, picture: DigitPicture | PhotoPicture, *, prior: bool) -> tuple[bytes, bytes]:
    """Encoder and decoder whose code is the picture's mean brightness in horizontal bands, top to bottom.

    Encoder: `image` uint8 -> `latent` (rows, bands), a band's mean from 0 to 1; with a prior `mu`, that mean shifted
    and stretched so that PRIOR_MEAN is 0 and PRIOR_SCALE is 1, and `logvar`, LOGVAR everywhere. The decoder fills each
    band with what its number stands for, cut to [0, 1].
    """
    pixels = int(np.prod(picture.shape))
    blocks = bands_of(bands, picture).reshape(bands, pixels).astype(np.float32)
    offset, scale = (PRIOR_MEAN, PRIOR_SCALE) if prior else (0.0, 1.0)
    means = (1 / (255 * scale * blocks.sum(axis=1, keepdims=True))).astype(np.float32)
    code = "mu" if prior else "latent"
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "blocks"], ["sums"]),  # exact, whatever the order
        helper.make_node("Mul", ["sums", "means"], ["stretched"]),
        helper.make_node("Sub", ["stretched", "offset"], [code]),
    ]
    outputs = [helper.make_tensor_value_info(code, TensorProto.FLOAT, ["rows", bands])]
    constants = {"blocks": blocks.T.copy(), "means": means.T.copy(), "offset": np.float32([offset / scale])}
    if prior:
        nodes += [
            helper.make_node("Mul", ["mu", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "one"], ["logvar"]),
        ]
        outputs.append(helper.make_tensor_value_info("logvar", TensorProto.FLOAT, ["rows", bands]))
        constants |= {"zero": np.float32([0]), "one": np.float32([LOGVAR])}
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", *picture.shape])
    encoder = onnx_bytes(nodes, [image], outputs, constants)
    decoder = onnx_bytes(
        [
            helper.make_node("Mul", ["latent", "scale"], ["stretched"]),
            helper.make_node("Add", ["stretched", "offset"], ["levels"]),
            helper.make_node("MatMul", ["levels", "blocks"], ["flat"]),
            helper.make_node("Clip", ["flat", "black", "white"], ["clipped"]),
            helper.make_node("Reshape", ["clipped", "shape"], ["image"]),
        ],
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["rows", bands])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", *picture.shape])],
        {
            "scale": np.float32([scale]),
            "offset": np.float32([offset]),
            "blocks": blocks,
            "black": np.float32(0),
            "white": np.float32(1),
            "shape": np.array([-1, *picture.shape], np.int64),
        },
    )
    return encoder, decoder


def bands_of(bands: int, picture: DigitPicture | PhotoPicture) -> NDArray[np.bool_]:
    """Which pixels belong to which band: (bands, *picture.shape), every pixel to one."""
    of_row = np.arange(picture.height) * bands // picture.height
    rows = of_row[:, None, None] if picture.layout == "hwc" else of_row[None, :, None]
    return np.stack([np.broadcast_to(rows == band, picture.shape) for band in range(bands)])


def coder_manifest(
    encoder: bytes,
    decoder: bytes,
    *,
    name: str = "bands",
    version: str = "1",
    bands: int = 2,
    picture: DigitPicture | PhotoPicture = PHOTO,
    prior: bool = False,
    errors: Sequence[float] = (),
    max_rows: int = 8,
) -> dict[str, Any]:
    """A manifest, as JSON values, for `coder_onnx`; the held-out codes are said to lie in LOW to HIGH."""
    code = {"dtype": "float32", "shape": ["rows", bands]}
    pixels = ["rows", *picture.shape]
    graphs = {
        "encoder": {
            "file": "encoder.onnx",
            "sha256": sha256(encoder),
            "inputs": [{"name": "image", "dtype": "uint8", "shape": pixels}],
            "outputs": [{"name": output, **code} for output in (("mu", "logvar") if prior else ("latent",))],
        },
        "decoder": {
            "file": "decoder.onnx",
            "sha256": sha256(decoder),
            "inputs": [{"name": "latent", **code}],
            "outputs": [{"name": "image", "dtype": "float32", "shape": pixels}],
        },
    }
    manifest = classifier_manifest(encoder, name=name, version=version, picture=picture, max_rows=max_rows)
    manifest |= {
        "task": "reconstruct",
        "title": "Bands",
        "summary": "Keeps of a picture the mean brightness of each band. Made for tests.",
        "graphs": graphs,
        "labels": ["dark", "light"],  # of its data; no graph takes them
        "latent": {
            "size": bands,
            "low": [LOW] * bands,
            "high": [HIGH] * bands,
            "prior": "normal" if prior else None,
        },
    }
    return manifest | ({"anomaly": {"errors": list(errors)}} if errors else {})


def make_coder_folder(
    root: Path,
    name: str = "bands",
    version: str = "1",
    *,
    bands: int = 2,
    picture: DigitPicture | PhotoPicture = PHOTO,
    prior: bool = False,
    errors: Sequence[float] = (),
    max_rows: int = 8,
) -> Path:
    """Publish the coder of bands as `<root>/<name>/<version>/`; returns that folder."""
    encoder, decoder = coder_onnx(bands, picture, prior=prior)
    manifest = coder_manifest(
        encoder,
        decoder,
        name=name,
        version=version,
        bands=bands,
        picture=picture,
        prior=prior,
        errors=errors,
        max_rows=max_rows,
    )
    return write_folder(root, manifest, {"encoder.onnx": encoder, "decoder.onnx": decoder})


def change_manifest(folder: Path, **changes: Any) -> None:
    """Overwrite top-level fields of a published manifest, to make it wrong."""
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
