"""Denoisers for tests, whose every answer is known, and the folders that publish them.

`gauss` draws pictures whose pixels are independent and normal, of the mean `MEAN` and the deviation `SPREAD`. What is
under noise of deviation sigma is then normal too (`posterior`), and how much noise there is shows in how far the
pixels are from the mean.
`still` changes nothing of a photo and finds that its noise is that of its tiles' pixels; `blur` is a mean of 3x3, whose
answer inside a tile is that inside the whole photo; neither minds how much noise they are told of, except that
`darker` takes sigma from every pixel, so that its answer shows what it was told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import DigitPicture, PhotoPicture
from tests.made_models import classifier_manifest, make_classifier_folder, npz, onnx_bytes, sha256, write_folder

SIDE = 8
SPREAD = 0.05
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
STEPS, MAX_STEPS = 32, 512
MOST, PIXELS = 128, 200 * 150  # rows and pixels in one request
TILE, OVERLAP = 32, 12
MAX_ROWS = 6  # of a run with tiles, so that a photo takes several
LABELS = ("a", "b")

# Handwriting, which other tasks would bring to its place: here pixels stay where they are.
PICTURE = DigitPicture(kind="digit", height=SIDE, width=SIDE, channels=1, box=6)
COLOURED = PhotoPicture(kind="photo", height=SIDE, width=SIDE, channels=3, layout="chw")

Array = NDArray[Any]
Picture = DigitPicture | PhotoPicture


def mean_of(picture: Picture) -> Array:
    """MEAN, rising from left to right: picture.shape."""
    across = np.linspace(0.35, 0.65, picture.width)
    shape = (1, -1, 1) if picture.layout == "hwc" else (1, 1, -1)
    return np.broadcast_to(across.reshape(shape), picture.shape).astype(np.float32)


def posterior(x: Array, sigma: float, picture: Picture = PICTURE) -> tuple[Array, float]:
    """Mean and standard deviation of what is under the noise of x."""
    mean = (SPREAD**2 * x + sigma**2 * mean_of(picture)) / (SPREAD**2 + sigma**2)
    return mean, SPREAD * sigma / float(np.hypot(SPREAD, sigma))


def estimated(x: Array, picture: Picture = PICTURE) -> Array:
    """The noise of rows, (n, ...)."""
    squares = np.square(x - mean_of(picture)).reshape(len(x), -1).mean(axis=1)
    return np.sqrt(np.maximum(squares - SPREAD**2, 0))


def noisy(n: int, sigma: float, seed: int = 0, picture: Picture = PICTURE) -> Array:
    """Draws of the model under noise: float32 (n, *picture.shape)."""
    rng = np.random.default_rng(seed)
    clean = mean_of(picture) + SPREAD * rng.normal(size=(n, *picture.shape))
    return np.asarray(clean + sigma * rng.normal(size=clean.shape), np.float32)


def make_denoisers(root: Path) -> None:
    """`gauss` with golden rows, `coloured` with labels and its channels first, `quick` that has no chain; `still`,
    `blur`, `darker`; and a classifier."""
    x, sigma = noisy(3, 0.1), np.full(3, 0.1, np.float32)
    golden = {"x": x, "sigma": sigma, "denoised": posterior(x, 0.1)[0].astype(np.float32)}
    make_drawer_folder(root, "gauss", PICTURE, golden=golden)
    make_drawer_folder(root, "coloured", COLOURED, labels=LABELS)
    make_drawer_folder(root, "quick", PICTURE, samplers=("multistep",))
    make_classifier_folder(root, "shades")
    for name, graph in (("still", still()), ("blur", blur()), ("darker", darker())):
        make_plane_folder(root, name, graph)


def _value(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["rows", *shape])


def drawer(picture: Picture, *, labels: bool) -> tuple[bytes, bytes]:
    """Denoiser and estimator of `gauss`. A label other than that for none makes it answer black."""
    axes = [1] * len(picture.shape)
    x, sigma = _value("x", TensorProto.FLOAT, *picture.shape), _value("sigma", TensorProto.FLOAT)
    nodes = [
        helper.make_node("Reshape", ["sigma", "column"], ["level"]),
        helper.make_node("Mul", ["level", "level"], ["noise"]),
        helper.make_node("Mul", ["x", "prior"], ["seen"]),
        helper.make_node("Mul", ["noise", "mean"], ["believed"]),
        helper.make_node("Add", ["seen", "believed"], ["sum"]),
        helper.make_node("Add", ["noise", "prior"], ["weight"]),
        helper.make_node("Div", ["sum", "weight"], ["plain" if labels else "denoised"]),
    ]
    if labels:
        nodes += [
            helper.make_node("Equal", ["label", "none"], ["is_none"]),
            helper.make_node("Cast", ["is_none"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["kept", "column"], ["factor"]),
            helper.make_node("Mul", ["plain", "factor"], ["denoised"]),
        ]
    constants = {
        "column": np.array([-1, *axes]),
        "prior": np.array(SPREAD**2, np.float32),
        "mean": mean_of(picture),
        "none": np.array(len(LABELS)),
    }
    inputs = [x, sigma, *([_value("label", TensorProto.INT64)] if labels else [])]
    denoiser = onnx_bytes(nodes, inputs, [_value("denoised", TensorProto.FLOAT, *picture.shape)], constants)
    estimator = onnx_bytes(
        [
            helper.make_node("Sub", ["x", "mean"], ["off"]),
            helper.make_node("Mul", ["off", "off"], ["squares"]),
            helper.make_node("ReduceMean", ["squares"], ["all"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Sub", ["all", "prior"], ["noise"]),
            helper.make_node("Relu", ["noise"], ["positive"]),
            helper.make_node("Sqrt", ["positive"], ["sigma"]),
        ],
        [x],
        [sigma],
        constants,
    )
    return denoiser, estimator


def still() -> bytes:
    return _plane([helper.make_node("Identity", ["x"], ["denoised"])], {})


def blur() -> bytes:
    """Beyond its edges a tile goes on as its last pixel, as `blurred` does with a photo."""
    pads = [0, 1, 1, 0, 0, 1, 1, 0]
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"], mode="edge"),
        helper.make_node("Transpose", ["padded"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[3, 3]),
        helper.make_node("Transpose", ["means"], ["denoised"], perm=[0, 2, 3, 1]),
    ]
    return _plane(nodes, {"pads": np.array(pads)})


def blurred(photo: Array) -> Array:
    """A photo (H, W, C) in one piece."""
    padded = np.pad(photo.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width, _ = photo.shape
    return sum((padded[y : y + height, x : x + width] for y in range(3) for x in range(3)), np.zeros(())) / 9


def darker() -> bytes:
    nodes = [
        helper.make_node("Reshape", ["sigma", "column"], ["level"]),
        helper.make_node("Sub", ["x", "level"], ["denoised"]),
    ]
    return _plane(nodes, {"column": np.array([-1, 1, 1, 1])})


def _plane(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Array]) -> bytes:
    """`denoised` of `x` by nodes that may use `sigma`."""
    keep = [  # an input that no node reads would not be the graph's
        helper.make_node("Identity", ["sigma"], ["unused"]),
    ]
    x, sigma = _value("x", TensorProto.FLOAT, TILE, TILE, 1), _value("sigma", TensorProto.FLOAT)
    return onnx_bytes([*keep, *nodes], [x, sigma], [_value("denoised", TensorProto.FLOAT, TILE, TILE, 1)], constants)


def deviation() -> bytes:
    """The estimator of planes: the standard deviation of a tile's pixels."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["variance"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sqrt", ["variance"], ["sigma"]),
    ]
    x = _value("x", TensorProto.FLOAT, TILE, TILE, 1)
    return onnx_bytes(nodes, [x], [_value("sigma", TensorProto.FLOAT)])


def make_drawer_folder(
    root: Path,
    name: str,
    picture: Picture,
    *,
    labels: Sequence[str] = (),
    golden: Mapping[str, Array] | None = None,
    samplers: Sequence[str] = ("heun", "ancestral"),
) -> Path:
    """Publish `gauss` as `<root>/<name>/1/`; returns that folder."""
    denoiser, estimator = drawer(picture, labels=bool(labels))
    specs = [{"name": sampler, "steps": STEPS, "max_steps": MAX_STEPS} for sampler in samplers]
    fields = {
        "task": "generate",
        "picture": picture.model_dump(mode="json"),
        "labels": list(labels),
        "sampling": {"sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX, "samplers": specs},
    }
    return _folder(root, name, denoiser, estimator, list(picture.shape), fields | {"max_rows": 64}, golden)


def make_plane_folder(root: Path, name: str, denoiser: bytes) -> Path:
    """Publish a denoiser of photos as `<root>/<name>/1/`; returns that folder."""
    plane = {"tile": TILE, "overlap": OVERLAP}
    fields = {"task": "denoise", "picture": None, "labels": [], "plane": plane, "max_rows": MAX_ROWS}
    return _folder(root, name, denoiser, deviation(), [TILE, TILE, 1], fields, None)


def _folder(
    root: Path,
    name: str,
    denoiser: bytes,
    estimator: bytes,
    shape: Sequence[int],
    fields: Mapping[str, Any],
    golden: Mapping[str, Array] | None,
) -> Path:
    x = {"name": "x", "dtype": "float32", "shape": ["rows", *shape]}
    sigma = {"name": "sigma", "dtype": "float32", "shape": ["rows"]}
    label = [{"name": "label", "dtype": "int64", "shape": ["rows"]}] if fields["labels"] else []
    files = {"denoiser.onnx": denoiser, "estimator.onnx": estimator}
    graphs = {
        "denoiser": {"inputs": [x, sigma, *label], "outputs": [{**x, "name": "denoised"}]},
        "estimator": {"inputs": [x], "outputs": [sigma]},
    }
    described = {
        graph: {"file": f"{graph}.onnx", "sha256": sha256(files[f"{graph}.onnx"]), **specs}
        for graph, specs in graphs.items()
    }
    manifest = classifier_manifest(denoiser, name=name) | {
        "title": "Takes noise away",
        "summary": "Made for tests.",
        "graphs": described,
        **fields,
    }
    if golden is not None:
        files["golden.npz"] = npz(**golden)
        manifest["golden"] = {
            "file": "golden.npz",
            "sha256": sha256(files["golden.npz"]),
            "graph": "denoiser",
            "rows": len(golden["x"]),
            "atol": 1e-4,
        }
    return write_folder(root, manifest, files)
