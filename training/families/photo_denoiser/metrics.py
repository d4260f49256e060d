"""How much better photos are without their noise: a published denoiser, cut and blended as the server does it.

The protocol is that of DnCNN (Zhang et al. 2017): white Gaussian noise is added to grey photos and not clipped; what
comes out is clipped and rounded to 8 bits; PSNR of each photo, their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from app.core.imaging import opponent_colours as opponent
from app.core.imaging.tiles import Tiling
from app.core.manifest import Manifest
from training.metrics import onnx_model

Array = NDArray[np.float32]
Photo = NDArray[np.uint8]

LEVELS: Final = (15, 25, 50)  # standard deviations of the noise, pixels 0 to 255
ROWS_PER_RUN: Final = 8

HOW: Final = "noise not clipped, output clipped and rounded to 8 bits, mean over photos"
PROTOCOLS: Final = {
    **{f"psnr_{s}": f"PSNR at noise {s} of 255, noise given; {HOW}" for s in LEVELS},
    **{f"psnr_blind_{s}": f"PSNR at noise {s} of 255, estimated (median over tiles); {HOW}" for s in LEVELS},
}


class PublishedPhotoDenoiser:
    """A published folder's two graphs in ONNX Runtime on the CPU.

    Raises `LoadRefused` where one is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        assert manifest.plane is not None
        self.plane = manifest.plane
        threads = torch.get_num_threads()
        graphs = manifest.graphs
        self._denoiser: ort.InferenceSession = onnx_model.open_graph(folder, graphs["denoiser"], threads=threads)
        self._estimator: ort.InferenceSession = onnx_model.open_graph(folder, graphs["estimator"], threads=threads)

    def tiling(self, shape: tuple[int, ...]) -> Tiling:
        """How a plane (H, W) is cut."""
        height, width = shape
        return Tiling.of(height, width, tile=self.plane.tile, overlap=self.plane.overlap)

    def denoise(self, plane: Array, sigma: float) -> Array:
        """(H, W) and the standard deviation of its noise, pixels in [0, 1] -> (H, W), not clipped."""
        tiling = self.tiling(plane.shape)
        canvas = tiling.canvas()
        for start in range(0, len(tiling), ROWS_PER_RUN):
            x = tiling.cut(plane, start, start + ROWS_PER_RUN)[..., None]
            feed = {"x": x, "sigma": np.full(len(x), sigma, np.float32)}
            tiling.add(canvas, self._denoiser.run(["denoised"], feed)[0][..., 0], start)
        return canvas

    def denoise_colours(self, picture: Array, sigma: float) -> Array:
        """(H, W, 3) and the standard deviation of its noise, pixels in [0, 1] -> (H, W, 3), not clipped."""
        levels = sigma * opponent.noise(3)
        planes = zip(opponent.to_planes(picture), levels.tolist(), strict=True)
        return opponent.to_picture(np.stack([self.denoise(plane, level) for plane, level in planes]))

    def estimate(self, plane: Array) -> float:
        """The standard deviation of the noise in (H, W): the median over its tiles."""
        tiling = self.tiling(plane.shape)
        found = [
            self._estimator.run(["sigma"], {"x": tiling.cut(plane, start, start + ROWS_PER_RUN)[..., None]})[0]
            for start in range(0, len(tiling), ROWS_PER_RUN)
        ]
        return float(np.median(np.concatenate(found)))

    def core_s(self, rows: int = 4, repeats: int = 5) -> float:
        """Seconds of processor time that a tile takes to denoise, the least of several runs: whatever else the machine
        is doing, and however many cores share the work."""
        side, taken = self.plane.tile, []
        feed = {"x": np.full((rows, side, side, 1), 0.5, np.float32), "sigma": np.full(rows, 0.1, np.float32)}
        for _ in range(repeats):
            before = process_time()
            self._denoiser.run(["denoised"], feed)
            taken.append(process_time() - before)
        return min(taken) / rows


def noisy(photo: Photo, sigma: float, *, number: int) -> Array:
    """(H, W) or (H, W, 3), 0 to 255 -> in [0, 1] with noise of standard deviation `sigma`, which `number` seeds."""
    noise = np.random.default_rng(number).standard_normal(photo.shape, np.float32)
    return photo / np.float32(255) + np.float32(sigma) * noise


def psnr(denoised: Array, photo: Photo) -> float:
    """Decibels between a picture about in [0, 1], clipped and rounded to 8 bits, and the truth, 0 to 255, alike in
    shape."""
    rounded = np.rint(np.clip(denoised, 0, 1) * 255)
    return float(-10 * np.log10(max(np.mean((rounded - photo.astype(np.float64)) ** 2) / 255**2, 1e-10)))


def scores(
    model: PublishedPhotoDenoiser, photos: Sequence[Photo], level: float
) -> tuple[list[float], list[float], list[float]]:
    """Of each photo at noise `level` of 255: PSNR with the noise given, and estimated, and the level estimated."""
    told, blind, levels = [], [], []
    for number, photo in enumerate(photos):
        x = noisy(photo, level / 255, number=number)
        sigma = model.estimate(x)
        told.append(psnr(model.denoise(x, level / 255), photo))
        blind.append(psnr(model.denoise(x, sigma), photo))
        levels.append(255 * sigma)
    return told, blind, levels


def figures(model: PublishedPhotoDenoiser, photos: Sequence[Photo]) -> dict[str, float]:
    """By the names in `PROTOCOLS`."""
    by_level = {level: scores(model, photos, level) for level in LEVELS}
    return {f"psnr_{s}": float(np.mean(by_level[s][0])) for s in LEVELS} | {
        f"psnr_blind_{s}": float(np.mean(by_level[s][1])) for s in LEVELS
    }
