"""How well pictures come back from their codes: a published encoder and decoder, and PCA beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from app.core.manifest import Manifest
from training.metrics import onnx_model
from training.metrics.images import squared_errors

ROWS_PER_RUN: Final = 64
PCA_ROWS: Final = 20_000

PROTOCOLS: Final = {
    "mse": "squared error per pixel between a picture and its reconstruction, pixels in [0, 1], mean over rows",
    "psnr": "10 log10(1 / mse), the mse being the mean over rows",
}


class PublishedAutoencoder:
    """A published folder's two graphs in ONNX Runtime on the CPU.

    Raises `LoadRefused` where one is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        threads = torch.get_num_threads()
        self.encoder: ort.InferenceSession = onnx_model.open_graph(folder, manifest.graphs["encoder"], threads=threads)
        self.decoder: ort.InferenceSession = onnx_model.open_graph(folder, manifest.graphs["decoder"], threads=threads)

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, C) -> (N, Z)."""
        return onnx_model.run(self.encoder, {"image": image}, ["latent"], rows=ROWS_PER_RUN)[0]

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, Z) -> (N, H, W, C)."""
        return onnx_model.run(self.decoder, {"latent": latent}, ["image"], rows=ROWS_PER_RUN)[0]

    def errors(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean squared error of each picture and its reconstruction, pixels in [0, 1]: (N,)."""
        return squared_errors(self.decode(self.encode(image)), image)


def figures(errors: NDArray[np.float64]) -> dict[str, float]:
    """From the errors of single pictures (N,), by the names in `PROTOCOLS`."""
    return {"mse": float(errors.mean()), "psnr": float(-10 * np.log10(errors.mean()))}


def pca_errors(train: NDArray[np.uint8], x: NDArray[np.uint8], sizes: Sequence[int]) -> dict[int, float]:
    """Per-pixel squared error on `x` of PCA with so many components, fitted on `train`.

    Both (N, ...), 0 to 255; the error is for pixels in [0, 1].

    Sizes beyond the number of pixels or of rows are left out.
    """
    some, given = (a.reshape(len(a), -1) / np.float32(255) for a in (train[:PCA_ROWS], x))
    mean = some.mean(axis=0)
    directions = np.linalg.svd(some - mean, full_matrices=False)[2]  # (min(N, P), P), most variance first
    centred = given - mean
    explained = np.cumsum(((centred @ directions.T).astype(np.float64) ** 2).sum(axis=0))
    whole = float((centred.astype(np.float64) ** 2).sum())
    return {n: (whole - float(explained[n - 1])) / centred.size for n in sizes if 1 <= n <= len(directions)}
