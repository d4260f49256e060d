"""The report of a denoiser of photos: the test photos, other denoisers, PSNR by noise level, what is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.families.photo_denoiser.metrics import LEVELS, Array, Photo, PublishedPhotoDenoiser, noisy, psnr
from training.metrics.bm3d import bm3d
from training.metrics.onnx_model import Latency
from training.reporting import mosaics
from training.reporting.ablations import tried
from training.reporting.charts import Colour, Line, line_chart
from training.reporting.figures import figures
from training.reporting.formatting import milliseconds
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, note
from training.reporting.html import figure as shown
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.table import Row, table

SHOWN_LEVEL: Final = 25
CROP: Final = 144  # side of the crops shown, from the middle
AMPLIFIED: Final = 3.0  # the removed part, as it is shown

# Mean PSNR on BSD68 at 15, 25 and 50, and where that is published.
PUBLISHED: Final = (
    ("BM3D, level given", (31.07, 28.57, 25.62), "Dabov et al. 2007, as in DnCNN's table 2"),
    ("DnCNN-B, level unknown, 0.67 M parameters", (31.61, 29.16, 26.23), "Zhang et al. 2017, table 2"),
    ("FFDNet, level given, 0.49 M parameters", (31.63, 29.19, 26.29), "Zhang et al. 2018, table 3"),
)
# `training/metrics/bm3d.py` on every seventh photo of BSD68, with the same noise that the model is measured with.
BM3D_EVERY: Final = 7
BM3D_HERE: Final = {15: 28.92, 25: 26.38, 50: 23.74}
COLOURS: Final = 30  # photos in colour
ACROSS: Final = 10  # of them that are shown


@dataclass(frozen=True, kw_only=True)
class PhotoDenoiserReport:
    """Everything the page needs.

    `found` is what training kept: `history` by net and epoch; `photos`, PSNR of every test photo by level, with the
    level given (`told`) or estimated (`blind`); `curve`, held-out photos by level; `seams`, tiled against whole.
    """

    manifest: Manifest
    found: Mapping[str, Any]
    model: PublishedPhotoDenoiser
    bsd68: Sequence[Photo]
    colours: NDArray[np.uint8] | None  # (N, H, W, 3), small photos where there are some
    latency: Sequence[Latency]
    estimate_ms: float  # of one tile, median
    tile_core_s: float  # seconds of one core for a tile

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("photos", "The best, the median and the worst of BSD68", self._photos()),
                figures(m, unit="photos"),
                Section("comparison", "Comparison with other denoisers", self._comparison()),
                Section("levels", "PSNR by noise level", self._levels()),
                Section("removed", "What is removed", self._removed()),
                Section("colour", "Colour photos", self._colour()),
                Section("tiles", "Tiles", self._tiles()),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, "bsd68"),
                latency(self.latency, before=self._speed()),
                made(m),
            ],
            headlines=tuple(f"psnr_{level}" for level in LEVELS),
        )

    def _scores(self, level: int, kind: str) -> NDArray[np.float64]:
        """PSNR of every test photo, with the level given (`told`) or estimated (`blind`)."""
        return np.array(self.found["photos"][str(level)][kind])

    def _claim(self) -> str:
        given, estimated = ([self._scores(level, kind).mean() for level in LEVELS] for kind in ("told", "blind"))
        lost = max(a - b for a, b in zip(given, estimated, strict=True))
        return (
            "Removes white noise from photos of any size. On BSD68 it reaches "
            f"<strong>{_decibels(given)}{THIN}dB</strong> at noise {', '.join(map(str, LEVELS[:-1]))} and {LEVELS[-1]} "
            f"of 255, with one network of {self.manifest.made.parameters / 1e6:.2f} million parameters for all levels. "
            f"Where it estimates the level itself, it loses {lost:.2f}{THIN}dB at most."
        )

    def _photos(self) -> str:
        order = np.argsort(self._scores(SHOWN_LEVEL, "told"))
        rows = []
        for title, number in (("best", order[-1]), ("median", order[len(order) // 2]), ("worst", order[0])):
            photo = self.bsd68[number]
            x = noisy(photo, SHOWN_LEVEL / 255, number=int(number))
            beside = (
                ("noisy", x),
                ("this model", self.model.denoise(x, SHOWN_LEVEL / 255)),
                ("BM3D", bm3d(x[None], SHOWN_LEVEL / 255)[0]),
                ("original", photo / np.float32(255)),
            )
            crops = [
                _crop(y, name if name == "original" else f"{name}: {psnr(y, photo):.2f}{THIN}dB") for name, y in beside
            ]
            rows.append(f"<h3>The {title}: photo {number + 1} of {len(self.bsd68)}</h3>{_row(crops)}")
        words = (
            f"By PSNR at noise {SHOWN_LEVEL}, level given. Of each the middle {CROP} × {CROP} pixels; the figures are "
            "of the whole photo. None was selected by hand."
        )
        return note(words) + "".join(rows)

    def _comparison(self) -> str:
        rows = [_line(name, values, source) for name, values, source in PUBLISHED]
        some = slice(0, None, BM3D_EVERY)
        number, here = len(self.bsd68[some]), [BM3D_HERE[level] for level in LEVELS]
        own = [float(self._scores(level, "told")[some].mean()) for level in LEVELS]
        rows.append(_line(f"BM3D, level given, on {number} of them", here, "training/metrics/bm3d.py, same noise"))
        rows.append(_line(f"this model, level given, on these {number}", own, "measured here"))
        for kind, words in (("told", "level given"), ("blind", "level estimated")):
            values = [float(self._scores(level, kind).mean()) for level in LEVELS]
            rows.append(_line(f"this model, {words}", values, "measured here"))
        return note(
            "Mean PSNR in dB on the 68 photos of BSD68, white noise that is not clipped. Published figures are from "
            "the papers; trained denoisers were trained on the same 400 photos."
        ) + table(("<Denoiser", *(f"noise {level}" for level in LEVELS), "<Source"), rows)

    def _levels(self) -> str:
        curve = self.found["curve"]
        levels = [point["level"] for point in curve]

        def line(key: str, label: str, colour: Colour) -> Line:
            return Line(label=label, points=[(p["level"], p[key]) for p in curve], colour=colour)

        gain = line_chart(
            [
                line("told", "given", "one"),
                line("blind", "estimated", "two"),
                Line(label="noisy", points=[(v, -20 * float(np.log10(v / 255))) for v in levels], colour="three"),
            ],
            x_label="noise, of 255",
            y_label="PSNR, dB",
            log_x=True,
            x_ticks=levels,
        )
        estimate = line_chart(
            [
                Line(
                    label="lowest to highest",
                    points=[(p["level"], p["estimated_low"]) for p in curve],
                    high=[(p["level"], p["estimated_high"]) for p in curve],
                    colour="two",
                ),
                line("estimated", "mean", "one"),
            ],
            x_label="noise, of 255",
            y_label="Estimated",
            log_x=True,
            log_y=True,
            x_ticks=levels,
        )
        rows = [
            (
                str(p["level"]),
                *(f"{p[key]:.2f}" for key in ("told", "blind", "estimated")),
                f"{p['estimated_low']:.2f} to {p['estimated_high']:.2f}",
            )
            for p in curve
        ]
        titles = ("Noise, of 255", "Level given, dB", "Level estimated, dB", "Estimated level", "from, to")
        return (
            note(
                "On the held-out photos of Train400. Nine of ten training crops had noise of up to 55, the rest up to "
                "100."
            )
            + charts([gain, estimate])
            + table(titles, rows)
        )

    def _removed(self) -> str:
        order = np.argsort(self._scores(SHOWN_LEVEL, "told"))
        number = int(order[len(order) // 2])
        photo = self.bsd68[number]
        x = noisy(photo, SHOWN_LEVEL / 255, number=number)
        found = [
            ("the noise that was added", x - photo / np.float32(255)),
            ("removed by this model", x - self.model.denoise(x, SHOWN_LEVEL / 255)),
            ("removed by BM3D", x - bm3d(x[None], SHOWN_LEVEL / 255)[0]),
        ]
        correlation = [float(np.corrcoef(found[0][1].ravel(), removed.ravel())[0, 1]) for _, removed in found[1:]]
        return note(
            "What is removed should look like the noise and show nothing of the photo (the method noise of Buades et "
            f"al. 2005). The median photo, {AMPLIFIED:g} times amplified around grey; the correlation with the added "
            f"noise is {correlation[0]:.3f}, BM3D's is {correlation[1]:.3f}."
        ) + _row([_crop(0.5 + AMPLIFIED * removed, title) for title, removed in found])

    def _colour(self) -> str:
        if self.colours is None:
            return ""
        sigma = SHOWN_LEVEL / 255
        some = self.colours[:: max(1, len(self.colours) // COLOURS)][:COLOURS]
        pairs = [(noisy(photo, sigma, number=i), photo) for i, photo in enumerate(some)]
        denoised = [self.model.denoise_colours(x, sigma) for x, _ in pairs]
        before = np.mean([psnr(x, photo) for x, photo in pairs])
        after = np.mean([psnr(y, photo) for y, (_, photo) in zip(denoised, pairs, strict=True)])
        few = slice(0, None, COLOURS // ACROSS)
        rows = [x for x, _ in pairs[few]], denoised[few], [photo / 255 for _, photo in pairs[few]]
        sheet = mosaics.mosaic(
            np.array(rows, np.float32), scale=3, alt="noisy, denoised and true small photos in colour"
        )
        return (
            note(
                "Brightness and two opponent colours are denoised separately by this network, which was trained on "
                f"grey photos only. {len(pairs)} test photos of CIFAR-10, evenly spread, noise {SHOWN_LEVEL} in each "
                f"of red, green and blue: from {before:.2f} to {after:.2f}{THIN}dB. Above noisy, then denoised, below "
                "the original."
            )
            + sheet
        )

    def _tiles(self) -> str:
        seams, plane = self.found.get("seams"), self.model.plane
        if not seams:
            return ""
        return note(
            f"Photos are cut into tiles of {plane.tile} × {plane.tile} pixels that overlap by {plane.overlap}, and "
            f"blended. On {seams['photos']} photos of Set12 that the network can also take whole, at noise "
            f"{SHOWN_LEVEL}: {seams['tiled']:.4f}{THIN}dB in tiles, {seams['whole']:.4f}{THIN}dB whole. The largest "
            f"difference is {seams['most']:.1f} of 255, the mean difference {seams['mean']:.3f}."
        )

    def _training(self) -> str:
        history = self.found["history"]
        took = {part: sum(row["seconds"] for row in rows) / 60 for part, rows in history.items()}
        of_denoiser = [
            Curves(y_label="PSNR of held-out photos at noise 25, dB", lines=[("held_psnr", "PSNR")]),
            Curves(
                y_label="Mean absolute error of training crops, of 255",
                lines=[("loss", "error")],
                shown=lambda v: 255 * v,
            ),
        ]
        of_estimator = Curves(
            y_label="Error of the estimate on held-out photos, %",
            lines=[("held_error", "error")],
            shown=lambda v: 100 * v,
        )
        return (
            note(
                f"{took.get('denoiser', 0):.0f} minutes for the denoiser and {took.get('estimator', 0):.0f} for the "
                "estimator, of wall-clock time, on a machine that was busy with other work."
            )
            + history_charts(history.get("denoiser", ()), of_denoiser)
            + history_charts(history.get("estimator", ()), [of_estimator])
        )

    def _speed(self) -> str:
        plane = self.model.plane
        tiles = 1e6 / (plane.tile - plane.overlap) ** 2
        return (
            f"<p>A megapixel of a large grey photo is {tiles:.0f} tiles and takes "
            f"<strong>{tiles * self.tile_core_s:.1f}{THIN}s</strong> of one core, a colour one three times as much. "
            "The times below are wall-clock times of a machine that was busy with other work. The noise of a tile was "
            f"estimated in {milliseconds(self.estimate_ms)}{THIN}ms.</p>"
        )


def _decibels(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def _line(name: str, values: Sequence[float], source: str) -> Row:
    return (name, *(f"{value:.2f}" for value in values), source)


def _crop(plane: Array | NDArray[np.floating[Any]], caption: str) -> str:
    """The middle of (H, W) as a figure."""
    top, left = (max(0, (size - CROP) // 2) for size in plane.shape)
    part = plane[None, top : top + CROP, left : left + CROP, None]
    return shown(mosaics.mosaic(part, columns=1, alt=caption), caption=escape(caption))


def _row(crops: Sequence[str]) -> str:
    return f'<div class="crops">{"".join(crops)}</div>'
