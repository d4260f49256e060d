"""The report of a denoiser of photos: what it makes of the test photos, what it takes away, and what others reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.families.photo_denoiser.metrics import LEVELS, Array, Photo, PublishedPhotoDenoiser, noisy, psnr
from training.metrics.bm3d import bm3d
from training.metrics.onnx_model import Latency
from training.reporting import charts, mosaics, sections
from training.reporting.page import Page, Section
from training.reporting.words import milliseconds, table

SHOWN_LEVEL: Final = 25
CROP: Final = 144  # side of the crops shown, from the middle
AMPLIFIED: Final = 3.0  # of what was taken away, as it is shown

# Mean PSNR on BSD68 at 15, 25 and 50, and where that is published.
PUBLISHED: Final = (
    ("BM3D, told", (31.07, 28.57, 25.62), "Dabov et al. 2007, as in DnCNN's table 2"),
    ("DnCNN-B, blind, 0.67 M parameters", (31.61, 29.16, 26.23), "Zhang et al. 2017, table 2"),
    ("FFDNet, told, 0.49 M parameters", (31.63, 29.19, 26.29), "Zhang et al. 2018, table 3"),
)
# `training/metrics/bm3d.py` on every so-manieth photo of BSD68 with the very noise that the model is measured with.
BM3D_EVERY: Final = 7
BM3D_HERE: Final = {15: 28.92, 25: 26.38, 50: 23.74}
COLOURS: Final = 30  # photos in colour
ACROSS: Final = 10  # of them that are shown

TRIED: Final = """\
All at equal work, about 324 steps of 32 crops, on the 20 held-out photos at noise 15, 25 and 50: Adam at 2e-3 gave \
30.0, 27.8 and 24.6 dB; Muon at 0.01 gave 30.6, 28.2 and 25.2, and at 0.03 31.2, 28.8 and 25.8.
The logarithm of each crop's squared error, which is what PSNR measures, in place of the absolute error: 30.6, 28.1 \
and 25.0 (Muon at 0.01).
Batches of 16 instead of 32, after 200 steps of the 32's work: 31.2, 28.8 and 25.7, with the learning rate still high.
FFDNet's plain row of 64 channels at half resolution costs 1.8 times as much a pixel, and was behind (30.1, 27.4 \
and 23.7 after 200 such steps, this net 30.4, 28.1 and 24.9) when it was stopped.
The shipped run was begun with 18 epochs and cut to 13 in its tenth, when the clock ran short: its learning rate fell \
there at once from 0.014 to 0.005. `--epochs 13` from the start is the same without that step.
An estimator of plain convolutions was 12.7 % off after one epoch; filters of length one that sum to zero, whose \
answers' energy begins as the estimate, 2.3 %.
"""


@dataclass(frozen=True, kw_only=True)
class PhotoDenoiserReport:
    """Everything the page needs.

    `found` is what training kept: `history` by net and epoch; `photos`, PSNR told and blind of every test photo by
    level; `curve`, held-out photos by level; `seams`, tiled against whole.
    """

    manifest: Manifest
    found: Mapping[str, Any]
    model: PublishedPhotoDenoiser
    bsd68: Sequence[Photo]
    colours: NDArray[np.uint8] | None  # (N, H, W, 3), small photos where there are some
    latency: Sequence[Latency]
    estimator_latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        parts = [
            ("photos", "The best, the median and the worst of BSD68", self._photos()),
            ("figures", "Figures", sections.measures(m, unit="photos")),
            ("beside", "Beside others", self._beside()),
            ("strength", "From faint to strong", self._curve()),
            ("taken", "What is taken away", self._taken()),
            ("colour", "In colour", self._colour()),
            ("seams", "Tiles and seams", self._seams()),
            ("training", "Training", self._training()),
            ("tried", "What was tried", self._tried()),
            ("latency", "How fast it is", self._speed()),
            ("facts", "Facts", sections.facts(m)),
        ]
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
            headlines=tuple(f"psnr_{level}" for level in LEVELS),
        )

    def _scores(self, level: int, kind: str) -> NDArray[np.float64]:
        """PSNR of every test photo, `told` or `blind`."""
        return np.array(self.found["photos"][str(level)][kind])

    def _claim(self) -> str:
        told, blind = ([self._scores(level, kind).mean() for level in LEVELS] for kind in ("told", "blind"))
        lost = max(a - b for a, b in zip(told, blind, strict=True))
        return (
            "Takes white noise out of photos of any size. On BSD68 it reaches "
            f"<strong>{_decibels(told)}{THIN}dB</strong> at noise {', '.join(map(str, LEVELS[:-1]))} and {LEVELS[-1]} "
            "of 255, with one net of "
            f"{self.manifest.made.parameters / 1e6:.2f} million parameters for all strengths; where it has to find out "
            f"the strength itself, it loses {lost:.2f}{THIN}dB at most."
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
                ("truth", photo / np.float32(255)),
            )
            shown = [
                _crop(y, name if name == "truth" else f"{name}: {psnr(y, photo):.2f}{THIN}dB") for name, y in beside
            ]
            rows.append(f"<h3>The {title}: photo {number + 1} of {len(self.bsd68)}</h3>{_row(shown)}")
        return (
            f'<p class="note">By PSNR at noise {SHOWN_LEVEL}, told; of each the middle {CROP} × {CROP} pixels, the '
            f"figures are of the whole photo. Nothing was chosen by hand.</p>{''.join(rows)}"
        )

    def _beside(self) -> str:
        rows = [_line(name, values, source) for name, values, source in PUBLISHED]
        some = slice(0, None, BM3D_EVERY)
        number, here = len(self.bsd68[some]), [BM3D_HERE[level] for level in LEVELS]
        own = [float(self._scores(level, "told")[some].mean()) for level in LEVELS]
        rows.append(_line(f"BM3D, told, on {number} of them", here, "training/metrics/bm3d.py, same noise"))
        rows.append(_line(f"this model, told, on these {number}", own, "measured here"))
        for kind, words in (("told", "told"), ("blind", "estimating the noise")):
            values = [float(self._scores(level, kind).mean()) for level in LEVELS]
            rows.append(_line(f"this model, {words}", values, "measured here"))
        return (
            '<p class="note">Mean PSNR in dB on the 68 photos of BSD68, white noise that is not clipped; published '
            "figures as the papers have them, trained on the same 400 photos where they are trained.</p>"
            f"{table(('<Denoiser', *(f'noise {level}' for level in LEVELS), '<Source'), rows)}"
        )

    def _curve(self) -> str:
        curve = self.found["curve"]
        levels = [point["level"] for point in curve]

        def line(key: str, label: str, colour: charts.Colour) -> charts.Line:
            return charts.Line(label=label, points=[(p["level"], p[key]) for p in curve], colour=colour)

        gain = charts.line_chart(
            [
                line("told", "told", "one"),
                line("blind", "blind", "two"),
                charts.Line(
                    label="noisy", points=[(v, -20 * float(np.log10(v / 255))) for v in levels], colour="three"
                ),
            ],
            x_label="noise, of 255",
            y_label="PSNR, dB",
            log_x=True,
            x_ticks=levels,
        )
        estimate = charts.line_chart(
            [
                charts.Line(
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
            f"<tr><td>{p['level']}</td><td>{p['told']:.2f}</td><td>{p['blind']:.2f}</td><td>{p['estimated']:.2f}</td>"
            f"<td>{p['estimated_low']:.2f} to {p['estimated_high']:.2f}</td></tr>"
            for p in curve
        ]
        titles = ("Noise, of 255", "Told, dB", "Blind, dB", "Estimated", "from, to")
        return (
            '<p class="note">On the held-out photos of Train400. Nine of ten training crops had noise of up to 55, the '
            f'rest up to 100.</p><div class="charts"><figure style="margin:0">{gain}</figure>'
            f'<figure style="margin:0">{estimate}</figure></div>{table(titles, rows)}'
        )

    def _taken(self) -> str:
        order = np.argsort(self._scores(SHOWN_LEVEL, "told"))
        number = int(order[len(order) // 2])
        photo = self.bsd68[number]
        x = noisy(photo, SHOWN_LEVEL / 255, number=number)
        found = [
            ("the noise that was added", x - photo / np.float32(255)),
            ("taken away by this model", x - self.model.denoise(x, SHOWN_LEVEL / 255)),
            ("taken away by BM3D", x - bm3d(x[None], SHOWN_LEVEL / 255)[0]),
        ]
        correlation = [float(np.corrcoef(found[0][1].ravel(), taken.ravel())[0, 1]) for _, taken in found[1:]]
        shown = [_crop(0.5 + AMPLIFIED * taken, title) for title, taken in found]
        return (
            '<p class="note">What is taken away should look like the noise and show nothing of the photo (the '
            f"method noise of Buades et al. 2005). The median photo, {AMPLIFIED:g} times amplified around grey; its "
            f"correlation with the noise added is {correlation[0]:.3f}, BM3D's {correlation[1]:.3f}.</p>{_row(shown)}"
        )

    def _colour(self) -> str:
        if self.colours is None:
            return ""
        sigma = SHOWN_LEVEL / 255
        some = self.colours[:: max(1, len(self.colours) // COLOURS)][:COLOURS]
        pairs = [(noisy(photo, sigma, number=i), photo) for i, photo in enumerate(some)]
        denoised = [self.model.denoise_colours(x, sigma) for x, _ in pairs]
        before = np.mean([psnr(x, photo) for x, photo in pairs])
        after = np.mean([psnr(y, photo) for y, (_, photo) in zip(denoised, pairs, strict=True)])
        shown = slice(0, None, COLOURS // ACROSS)
        rows = [x for x, _ in pairs[shown]], denoised[shown], [photo / 255 for _, photo in pairs[shown]]
        sheet = mosaics.mosaic(
            np.array(rows, np.float32), scale=3, alt="noisy, denoised and true small photos in colour"
        )
        return (
            '<p class="note">Brightness and two opponent colours are denoised each for itself by this net, which has '
            f"seen grey photos only. Of CIFAR-10, {len(pairs)} test photos evenly spread, noise "
            f"{SHOWN_LEVEL} in each of red, green and blue: from {before:.2f} to {after:.2f}{THIN}dB. Above noisy, "
            f"then denoised, below the truth.</p>{sheet}"
        )

    def _seams(self) -> str:
        seams, plane = self.found.get("seams"), self.model.plane
        if not seams:
            return ""
        return (
            f'<p class="note">Photos are cut into tiles of {plane.tile} × {plane.tile} pixels that overlap by '
            f"{plane.overlap}, and blended. On {seams['photos']} photos of Set12 that the net can also take whole, at "
            f"noise {SHOWN_LEVEL}: {seams['tiled']:.4f}{THIN}dB in tiles, {seams['whole']:.4f}{THIN}dB whole; where "
            f"they differ most, by {seams['most']:.1f} of 255, on average by {seams['mean']:.3f}.</p>"
        )

    def _training(self) -> str:
        history = self.found["history"]
        drawn = [
            charts.line_chart(
                [charts.Line(label=label, points=[(row["epoch"], scale * row[key]) for row in history[part]])],
                x_label="epoch",
                y_label=label,
            )
            for part, key, label, scale in (
                ("denoiser", "held_psnr", "PSNR of held-out photos at noise 25, dB", 1.0),
                ("denoiser", "loss", "Mean absolute error of training crops, of 255", 255.0),
                ("estimator", "held_error", "Error of the estimate on held-out photos, %", 100.0),
            )
            if history.get(part)
        ]
        figures = "".join(f'<figure style="margin:0">{one}</figure>' for one in drawn if one)
        took = {part: sum(row["seconds"] for row in rows) / 60 for part, rows in history.items()}
        return (
            f'<p class="note">{took.get("denoiser", 0):.0f} minutes for the denoiser and '
            f"{took.get('estimator', 0):.0f} for the estimator, of wall-clock, on a machine that was busy with much "
            f'else.</p><div class="charts">{figures}</div>'
        )

    def _tried(self) -> str:
        return "".join(f"<p>{escape(words)}</p>" for words in TRIED.strip().splitlines())

    def _speed(self) -> str:
        if not self.latency:
            return ""
        one = next(entry for entry in self.estimator_latency if entry.rows == 1)
        plane = self.model.plane
        tiles = 1e6 / (plane.tile - plane.overlap) ** 2
        return (
            f"<p>A megapixel of a large grey photo is {tiles:.0f} tiles and takes one core "
            f"<strong>{tiles * self.model.core_s():.1f}{THIN}s</strong> of its own time, a colour one three times as "
            "much. The times below are by the clock, of a machine that was busy with other work; the noise of a tile "
            f"was estimated in {milliseconds(one.median_ms)}{THIN}ms.</p>{sections.latency(self.latency)}"
        )


def _decibels(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def _line(name: str, values: Sequence[float], source: str) -> str:
    cells = "".join(f"<td>{value:.2f}</td>" for value in values)
    return f'<tr><td>{escape(name)}</td>{cells}<td class="left">{escape(source)}</td></tr>'


def _crop(plane: Array | NDArray[np.floating[Any]], caption: str) -> str:
    """The middle of (H, W) as a figure."""
    top, left = (max(0, (size - CROP) // 2) for size in plane.shape)
    part = plane[None, top : top + CROP, left : left + CROP, None]
    image = mosaics.mosaic(part, columns=1, alt=caption)
    return f'<figure style="margin:0">{image}<figcaption>{escape(caption)}</figcaption></figure>'


def _row(figures: Sequence[str]) -> str:
    return (
        '<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:0.8rem;'
        f'margin:0.6rem 0 1.4rem">{"".join(figures)}</div>'
    )
