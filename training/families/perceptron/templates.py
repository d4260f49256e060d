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
from training.reporting.page import Section
from training.reporting.plane import ABOVE, BELOW

Numbers = NDArray[np.floating[Any]]

FIVE: Final = "grid-template-columns:repeat(5,minmax(0,9rem))"
DECIDED: Final = (
    "What decided, on the 5,000 held-out rows: cross-entropy with small weights had 91.9 % right, with neighbouring "
    "weights held close as well 92.1 %, with generalised cross-entropy (q = 0.3) in its place 92.4 %; q = 0.7 had "
    "92.1 %. A linear net will never get some rows right, and cross-entropy spends most of its effort on them. "
    "The choice went by the held-out rows, but test figures of these and some ten other settings were seen beside them."
)


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
        "One picture of weights per class. Ink on blue speaks for the class, ink on orange against it; a picture's "
        "logit is the sum of its pixels times these. They are templates: a linear unit has one per class, and must "
        f"make do with it for every way to write the digit. Full colour is a weight of {strength:.2g}."
    )
    if manifest.data.spec == "mnist":
        words += f"</p><p class='note'>{DECIDED}"
    return [
        Section(
            key="weights",
            title="The weights, as pictures",
            inside=f'<p class="note">{words}</p><div class="pictures" style="{FIVE}">{"".join(figures)}</div>',
        )
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
