"""From the two trained nets to a published denoiser of photos: the one look at the test photos, the report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from app.core.imaging.tiles import Tiling
from app.core.manifest import Manifest, Plane
from training.data import cifar10, photos
from training.data.base import DataError
from training.export import Export
from training.families.photo_denoiser import report as page
from training.families.photo_denoiser.metrics import (
    LEVELS,
    PROTOCOLS,
    Photo,
    PublishedPhotoDenoiser,
    figures,
    noisy,
    psnr,
    scores,
)
from training.family import Family, Measured
from training.metrics import onnx_model
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency, measured_once
from training.reporting.page import write

TILE: Final = 128
OVERLAP: Final = 24
MAX_ROWS: Final = 8  # tiles in one run: more gain nothing and others wait
PARITY_TILES: Final = 128
CURVE: Final = (5, 10, 15, 25, 35, 50, 75)
FIGURES_FILE: Final = "report/figures.json"
GOALS: Final = {"psnr_15": 31.4, "psnr_25": 28.9, "psnr_50": 26.0}


class Denoise(nn.Module):
    """Tiles (N, H, W, 1) and their noise (N,) -> (N, H, W, 1)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        out: Tensor = self.net(x.permute(0, 3, 1, 2), sigma).permute(0, 2, 3, 1)
        return out


class Estimate(nn.Module):
    """Tiles (N, H, W, 1) -> the standard deviation of their noise (N,)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.permute(0, 3, 1, 2))
        return out


@dataclass(frozen=True, kw_only=True)
class TrainedNets:
    """Both nets on the CPU in fp32, with the weights as they are served; by part, one dict per epoch."""

    restorer: nn.Module
    estimator: nn.Module
    history: dict[str, list[dict[str, float]]]
    seed: int


def publish_photo_denoiser(
    nets: TrainedNets, data: photos.Photos, *, options: argparse.Namespace, precision: str
) -> Path:
    """Publish, measure on BSD68 and report.

    Returns: the published folder. Raises: PublishError.
    """
    held = list(data.held.cpu().numpy())
    x, sigma = tiles_of(held)

    def measured(folder: Path, manifest: Manifest) -> Measured:
        model = PublishedPhotoDenoiser(folder, manifest)
        curve = [curve_point(model, held, level) for level in CURVE]
        joints = seams(model, nets.restorer, data.set12)
        of_level = {level: photo_scores(model, data.bsd68, level) for level in LEVELS}
        found = {f"psnr_{level}": float(np.mean(of["told"])) for level, of in of_level.items()}
        found |= {f"psnr_blind_{level}": float(np.mean(of["blind"])) for level, of in of_level.items()}
        return _measured(found, len(data.bsd68), {"curve": curve, "seams": joints, "photos": of_level})

    return publish(
        FAMILY,
        data,
        Draft(
            task="denoise",
            modality="image",
            title="Noise out of photos",
            summary=(
                "Takes white noise out of grey and colour photos of any size, with its level given or estimated. "
                "One small residual net for all strengths up to 55 of 255 and somewhat beyond, trained on 400 grey "
                "photos; colour photos are done as brightness and two opponent colours."
            ),
            data=data.data_source,
            max_rows=MAX_ROWS,
            train_s=sum(total_seconds(part) for part in nets.history.values()),
            precision=precision,
            seeds=(nets.seed,),
            goals=GOALS,
            fields={"plane": Plane(tile=TILE, overlap=OVERLAP)},
        ),
        [
            Export(
                graph="denoiser",
                module=Denoise(nets.restorer).eval(),
                inputs={"x": x, "sigma": sigma},
                outputs=("denoised",),
                golden_rows=2,
            ),
            Export(
                graph="estimator",
                module=Estimate(nets.estimator).eval(),
                inputs={"x": x},
                outputs=("sigma",),
                golden_rows=2,
            ),
        ],
        options=options,
        measure=measured,
        keep=lambda folder, found: write_json(folder / FIGURES_FILE, {"history": nets.history, **found.shown}),
    )


def tiles_of(pictures: list[Photo]) -> tuple[Tensor, Tensor]:
    """Noisy tiles of photos (N, TILE, TILE, 1) and their noise (N,), from faint to strong, in turn."""
    tilings = [Tiling.of(*photo.shape, tile=TILE, overlap=OVERLAP) for photo in pictures]
    levels = [(1 + (17 * i) % 60) / 255 for i in range(PARITY_TILES)]  # of 255: 1, 18, 35, 52, 9, ...
    found = [
        tilings[i % len(pictures)].cut(noisy(pictures[i % len(pictures)], level, number=i), 0, 1)
        for i, level in enumerate(levels)
    ]
    return torch.from_numpy(np.concatenate(found)[..., None]), torch.tensor(levels)


def photo_scores(model: PublishedPhotoDenoiser, pictures: tuple[Photo, ...], level: float) -> dict[str, list[float]]:
    """Of each photo: PSNR with the noise given and estimated, and the estimated noise of 255, rounded for the file."""
    return {
        name: [round(value, 4) for value in values]
        for name, values in zip(("told", "blind", "estimated"), scores(model, pictures, level), strict=True)
    }


def curve_point(model: PublishedPhotoDenoiser, pictures: list[Photo], level: float) -> dict[str, float]:
    """Means over held-out photos at one level."""
    told, blind, estimated = scores(model, pictures, level)
    return {
        "level": level,
        "told": float(np.mean(told)),
        "blind": float(np.mean(blind)),
        "estimated": float(np.mean(estimated)),
        "estimated_low": float(np.min(estimated)),
        "estimated_high": float(np.max(estimated)),
    }


@torch.no_grad()
def seams(model: PublishedPhotoDenoiser, net: nn.Module, pictures: tuple[Photo, ...]) -> dict[str, float]:
    """Tiled against whole: PSNR of both, and their differences of 255, on pictures whose sides the net can take."""
    level, tiled, whole, apart = 25 / 255, [], [], []
    some = [photo for photo in pictures if not any(side % 16 for side in photo.shape)]
    for number, photo in enumerate(some):
        x = noisy(photo, level, number=number)
        one = model.denoise(x, level)
        other = net(torch.from_numpy(x)[None, None], torch.tensor([level]))[0, 0].numpy()
        tiled.append(psnr(one, photo))
        whole.append(psnr(other, photo))
        apart.append(255 * np.abs(one - other))
    if not some:
        return {}
    return {
        "photos": len(some),
        "tiled": float(np.mean(tiled)),
        "whole": float(np.mean(whole)),
        "most": float(max(a.max() for a in apart)),
        "mean": float(np.mean([a.mean() for a in apart])),
    }


def _measured(
    found: Mapping[str, float], rows: int, shown: Mapping[str, Any], *, of: str = "BSD68", claimed: bool = True
) -> Measured:
    return Measured(
        rows=rows,
        of=f"photos of {of}",
        figures=found,
        protocols=PROTOCOLS,
        how="; this model's ONNX graphs in fp32, on BSD68",
        units=dict.fromkeys(found, "dB"),
        claimed=claimed,
        shown=shown,
    )


class PhotoDenoisers(Family[photos.Photos]):
    """Measured on BSD68, or the first rows of it; `data` may be "set12"."""

    def load_data(self, manifest: Manifest, data: str | None) -> photos.Photos:
        if data not in (None, "bsd68", "set12"):
            raise DataError(f"{data}: denoisers of photos are measured on bsd68 or set12")
        return photos.load()

    def measure(
        self, folder: Path, manifest: Manifest, dataset: photos.Photos, *, data: str | None, rows: int | None
    ) -> Measured:
        other = data == "set12"
        chosen = (dataset.set12 if other else dataset.bsd68)[:rows]
        found = figures(PublishedPhotoDenoiser(folder, manifest), chosen)
        claimed = not other and len(chosen) == len(dataset.bsd68)
        return _measured(found, len(chosen), {}, of="Set12" if other else "BSD68", claimed=claimed)

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: photos.Photos, measured: Measured | None = None
    ) -> None:
        model = PublishedPhotoDenoiser(folder, manifest)
        report = page.PhotoDenoiserReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            model=model,
            bsd68=dataset.bsd68,
            colours=None if cifar10.where() is None else cifar10.load().test_x.numpy(),
            latency=kept_latency(folder, "denoiser", threads=2),
            estimate_ms=measured_once(folder, "estimate_ms", lambda: _estimate_ms(folder)),
            tile_core_s=measured_once(folder, "tile_core_s", model.core_s),
        )
        write(report.page(), folder)


FAMILY: Final = PhotoDenoisers()


def _estimate_ms(folder: Path) -> float:
    """The median time in which the noise level of one tile is estimated."""
    return onnx_model.latency_ms(folder, "estimator", (1,), threads=2)[0].median_ms
