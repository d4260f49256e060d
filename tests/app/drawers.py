"""Models that draw, of which all is known: a normal distribution per label behind a denoiser, a linear generator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import DigitPicture, PhotoPicture
from tests.made_models import classifier_manifest, onnx_bytes, sha256, write_folder

SMALL: Final = DigitPicture(kind="digit", height=12, width=10, channels=1, box=8)
COLOUR: Final = PhotoPicture(kind="photo", height=8, width=6, channels=3, layout="chw")
SHADES: Final = ("dark", "middle", "light")
MEANS: Final = (0.25, 0.5, 0.75, 0.4)
SPREADS: Final = (0.05, 0.1, 0.05, 0.2)
"""Mean and standard deviation of every pixel, by label; the last of each without one."""
LOWEST, HIGHEST = 0.01, 20.0
SAMPLING: Final[dict[str, Any]] = {
    "sigma_min": LOWEST,
    "sigma_max": HIGHEST,
    "samplers": [
        {"name": "multistep", "steps": 6, "max_steps": 32},
        {"name": "heun", "steps": 4, "max_steps": 200},
        {"name": "ancestral", "steps": 16, "max_steps": 1000},
        {"name": "consistency", "steps": 2, "max_steps": 4},
        {"name": "euler", "steps": 8, "max_steps": 64},
        {"name": "ddim", "steps": 8, "max_steps": 64},
    ],
    "guidance": {"weight": 1.5, "max_weight": 8.0},
}
LATENT: Final = 4
LOW, HIGH = [-2.0] * LATENT, [2.0] * LATENT
SLOPE: Final = 0.125


def make_drawers(root: Path) -> None:
    """`shades` (labels, guided), `colours` (neither), and the generators `waves` and `kinds` (labels)."""
    make_denoiser_folder(root, "shades")
    plain = {"sigma_min": 0.02, "sigma_max": 10.0, "samplers": [{"name": "ddim", "steps": 5, "max_steps": 9}]}
    make_denoiser_folder(root, "colours", labels=(), picture=COLOUR, sampling=plain)
    make_generator_folder(root, "waves", labels=())
    make_generator_folder(root, "kinds")


def denoised(x: NDArray[Any], sigma: float, mean: float, spread: float) -> NDArray[Any]:
    """E[x0 | x] for x0 of that normal distribution, x = x0 + sigma * noise."""
    found: NDArray[Any] = mean + spread**2 / (spread**2 + sigma**2) * (x - mean)
    return found


def arrived(x: NDArray[Any], sigma: float, mean: float, spread: float) -> NDArray[Any]:
    """Where the flow of that denoiser leads from x at sigma: the exact solution of dx/dsigma = (x - D) / sigma."""
    end: NDArray[Any] = mean + (x - mean) * spread / math.hypot(spread, sigma)
    return end


def denoiser_onnx(picture: DigitPicture | PhotoPicture, *, labelled: bool) -> bytes:
    """`x`, `sigma` and, where labelled, `label` -> `denoised`: `denoised` above, with MEANS and SPREADS."""
    shape = ["rows", *picture.shape]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["rows"]),
    ]
    first = [helper.make_node("Gather", ["means", "label"], ["mean"], axis=0)]
    first += [helper.make_node("Gather", ["variances", "label"], ["variance"], axis=0)]
    constants = {
        "means": np.float32(MEANS).reshape(-1, 1, 1, 1),
        "variances": np.square(np.float32(SPREADS)).reshape(-1, 1, 1, 1),
        "column": np.array([-1, 1, 1, 1]),
    }
    if labelled:
        inputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]))
    else:
        first = []
        constants = {"mean": constants["means"][-1:], "variance": constants["variances"][-1:]} | {
            "column": constants["column"]
        }
    return onnx_bytes(
        [
            *first,
            helper.make_node("Mul", ["sigma", "sigma"], ["squares"]),
            helper.make_node("Reshape", ["squares", "column"], ["noise"]),
            helper.make_node("Add", ["variance", "noise"], ["all"]),
            helper.make_node("Div", ["variance", "all"], ["share"]),
            helper.make_node("Sub", ["x", "mean"], ["away"]),
            helper.make_node("Mul", ["share", "away"], ["kept"]),
            helper.make_node("Add", ["kept", "mean"], ["denoised"]),
        ],
        inputs,
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, shape)],
        constants,
    )


def directions(picture: DigitPicture | PhotoPicture) -> NDArray[np.float32]:
    """What each number of a latent adds: (LATENT, *picture.shape), a ramp over the picture, its own for each."""
    pixels = math.prod(picture.shape)
    ramps = np.cos(np.outer(np.arange(1, LATENT + 1), np.arange(pixels)) * math.pi / pixels)
    return np.float32(SLOPE * ramps).reshape(LATENT, *picture.shape)


def generated(latents: Any, picture: DigitPicture | PhotoPicture, labels: Sequence[int] = ()) -> NDArray[Any]:
    """What the generator makes: (rows, *picture.shape), not cut to [0, 1]."""
    means = np.array([MEANS[label] for label in labels] or 0.5)
    flat = np.asarray(latents) @ directions(picture).reshape(LATENT, -1)
    return flat.reshape(-1, *picture.shape) + means.reshape(-1, 1, 1, 1)


def generator_onnx(picture: DigitPicture | PhotoPicture, *, labelled: bool) -> bytes:
    """`latent` and, where labelled, `label` -> `image`: `generated` above."""
    inputs = [helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["rows", LATENT])]
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[Any]] = {"mean": np.float32([0.5])}
    if labelled:
        inputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]))
        nodes.append(helper.make_node("Gather", ["means", "label"], ["mean"], axis=0))
        constants = {"means": np.float32(MEANS[: len(SHADES)]).reshape(-1, 1)}
    return onnx_bytes(
        [
            *nodes,
            helper.make_node("MatMul", ["latent", "directions"], ["flat"]),
            helper.make_node("Add", ["flat", "mean"], ["moved"]),
            helper.make_node("Reshape", ["moved", "shape"], ["image"]),
        ],
        inputs,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", *picture.shape])],
        constants
        | {"directions": directions(picture).reshape(LATENT, -1), "shape": np.array([-1, *picture.shape], np.int64)},
    )


def make_denoiser_folder(
    root: Path,
    name: str,
    *,
    labels: Sequence[str] = SHADES,
    picture: DigitPicture | PhotoPicture = SMALL,
    sampling: Mapping[str, Any] = SAMPLING,
    max_rows: int = 16,
) -> Path:
    """Publish the denoiser as `<root>/<name>/1/`; returns that folder."""
    data = denoiser_onnx(picture, labelled=bool(labels))
    image = {"dtype": "float32", "shape": ["rows", *picture.shape]}
    inputs: list[dict[str, Any]] = [{"name": "x", **image}, {"name": "sigma", "dtype": "float32", "shape": ["rows"]}]
    manifest = _manifest(data, "denoiser", name, labels, picture, inputs, [{"name": "denoised", **image}], max_rows)
    return write_folder(root, manifest | {"sampling": dict(sampling)}, {"denoiser.onnx": data})


def make_generator_folder(
    root: Path,
    name: str,
    *,
    labels: Sequence[str] = SHADES,
    picture: DigitPicture | PhotoPicture = SMALL,
    max_rows: int = 16,
) -> Path:
    """Publish the generator as `<root>/<name>/1/`; returns that folder."""
    data = generator_onnx(picture, labelled=bool(labels))
    inputs: list[dict[str, Any]] = [{"name": "latent", "dtype": "float32", "shape": ["rows", LATENT]}]
    outputs = [{"name": "image", "dtype": "float32", "shape": ["rows", *picture.shape]}]
    manifest = _manifest(data, "generator", name, labels, picture, inputs, outputs, max_rows)
    latent = {"size": LATENT, "low": LOW, "high": HIGH, "prior": "normal"}
    return write_folder(root, manifest | {"latent": latent}, {"generator.onnx": data})


def _manifest(
    data: bytes,
    graph: str,
    name: str,
    labels: Sequence[str],
    picture: DigitPicture | PhotoPicture,
    inputs: list[dict[str, Any]],
    outputs: list[dict[str, Any]],
    max_rows: int,
) -> dict[str, Any]:
    if labels:
        inputs.append({"name": "label", "dtype": "int64", "shape": ["rows"]})
    tensors = {"inputs": inputs, "outputs": outputs}
    return classifier_manifest(data, name=name, picture=picture, labels=labels, max_rows=max_rows) | {
        "task": "generate",
        "title": name,
        "summary": "Draws pictures of known distributions. Made for tests.",
        "graphs": {graph: {"file": f"{graph}.onnx", "sha256": sha256(data), **tensors}},
    }
