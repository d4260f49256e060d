"""The section of a report that shows a linear classifier's weights as pictures."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.metrics import onnx_model
from training.reporting.ablations import tried
from training.reporting.html import Section, note
from training.reporting.plane import ABOVE, BELOW

Numbers = NDArray[np.floating[Any]]

FIVE: Final = "grid-template-columns:repeat(5,minmax(0,9rem))"


def weights(folder: Path) -> list[Section]:
    """The weights of a linear classifier of pictures as pictures, read from the published graph: what one white pixel
    on black adds to each class's logit, less what it adds to all of them, which softmax does not see."""
    manifest = onnx_model.load_manifest(folder)
    assert manifest.picture is not None
    shape = manifest.picture.shape  # (H, W, C)
    size = int(np.prod(shape))
    probes = np.concatenate([np.zeros((1, size), np.uint8), 255 * np.eye(size, dtype=np.uint8)])
    p = onnx_model.probabilities(folder, probes.reshape(-1, *shape))
    logits = np.log(np.maximum(p.astype(np.float64), 1e-30))
    added = logits[1:] - logits[0]
    added -= added.mean(axis=1, keepdims=True)  # (H * W * C, K)
    w = added.T.reshape(-1, *shape).mean(axis=-1)  # (K, H, W)
    strength = float(np.quantile(np.abs(w), 0.995)) or 1.0
    figures = [
        f'<figure><img class="tiny" src="{_signed(one / strength)}" alt="weights of {escape(label)}" '
        f'style="background:none"><figcaption>{escape(label)}</figcaption></figure>'
        for label, one in zip(manifest.labels, w, strict=True)
    ]
    words = (
        "One picture of weights per class. Ink on blue adds to the class's logit, ink on orange subtracts from it; a "
        "picture's logit is the sum of its pixels times these. A linear unit has one such template per class for all "
        f"ways of writing the digit. Full colour is a weight of {strength:.2g}."
    )
    body = note(words) + f'<div class="pictures" style="{FIVE}">{"".join(figures)}</div>'
    return [
        Section("weights", "The weights, as pictures", body),
        tried(Path(__file__).parent, manifest.data.spec),
    ]


def _signed(values: Numbers) -> str:
    """(H, W) from -1 to 1 as a PNG: blue above zero, orange below, clear at it."""
    clipped = np.clip(values, -1, 1)
    pixels = np.empty((*clipped.shape, 4), np.uint8)
    pixels[..., :3] = np.where(clipped[..., None] > 0, ABOVE, BELOW)
    pixels[..., 3] = np.rint(255 * np.abs(clipped))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
