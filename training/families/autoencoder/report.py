"""The report of an autoencoder: reconstructions, error by latent size, the latent plane, and unusual pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN, figure
from training.metrics.images import squared_errors
from training.metrics.onnx_model import Latency
from training.reporting import class_plane, mosaics
from training.reporting.ablations import tried
from training.reporting.bars import histogram
from training.reporting.charts import Line, line_chart
from training.reporting.figures import figures
from training.reporting.formatting import count, plural
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, beside, charts, note
from training.reporting.html import figure as shown
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.table import Row, table, wide

SIDE: Final = 10  # of the block of digits
PLANE_ROWS: Final = 5000
GRID_SIDE: Final = 24
SHOWN: Final = 20
UNUSUAL_ROWS: Final = 500
UNUSUAL: Final = 0.05  # p-value

Floats = NDArray[np.float32]
Reconstruct = Callable[[NDArray[np.uint8]], Floats]
"""(N, H, W, C) uint8 -> reconstructions in [0, 1], the same shape."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderReport:
    """Everything the page needs; N test rows, of any number.

    `found` is what training kept: `history` by epoch; `held`, errors with and without the encoder's search; `sizes`,
    errors of shorter trainings and of PCA by latent size. `siblings` are models of the same data by latent size.
    """

    manifest: Manifest
    found: Mapping[str, Any]
    encode: Callable[[NDArray[np.uint8]], Floats]
    decode: Callable[[Floats], Floats]
    siblings: Mapping[int, Reconstruct]
    test_x: NDArray[np.uint8]  # (N, H, W, C)
    test_y: NDArray[np.int64]  # (N,)
    test_codes: Floats  # (N, Z)
    latency: Sequence[Latency]
    decoder_latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("digits", f"The same {len(self._block)} test pictures", self._side_by_side()),
                figures(m),
                Section("sizes", "Error by number of latents", self._sizes()),
                Section("plane", "The plane of the two latents", self._plane() if self._size == 2 else ""),
                Section("search", "What the search adds to the encoder", self._search()),
                Section("unusual", "Unusual pictures", self._unusual()),
                Section("errors", "Typical and worst reconstructions", self._extremes()),
                Section("classes", "Error by class", self._by_class()),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, m.data.spec),
                latency(self.latency, title="Latency of the encoder"),
                latency(self.decoder_latency, key="decoding", title="Latency of the decoder"),
                made(m),
            ],
            headlines=("mse", "psnr"),
            latency=self.latency,
        )

    @property
    def _size(self) -> int:
        assert self.manifest.latent is not None
        return self.manifest.latent.size

    @cached_property
    def _reconstructed(self) -> Floats:
        return self.decode(self.test_codes)

    @cached_property
    def _errors(self) -> NDArray[np.float64]:
        return squared_errors(self._reconstructed, self.test_x)

    @cached_property
    def _block(self) -> NDArray[np.int64]:
        return mosaics.in_turn(self.test_y)[: SIDE * SIDE]

    def _claim(self) -> str:
        q = next((q for q in self.manifest.quality if q.name == "mse"), None)
        one = "one number" if self._size == 1 else f"{self._size} numbers"
        if q is None:
            return f"Encodes a picture of {escape(self.manifest.data.name)} as {one} and decodes it again."
        pca = self.found["sizes"]["pca"].get(str(self._size))
        compared = f" PCA with as many has {pca:.4f}, on held-out rows." if pca else ""
        return (
            f"Encodes {self.test_x[0].size:,} pixels as <strong>{one}</strong> and decodes an unseen picture of "
            f"{escape(self.manifest.data.name)} with a mean squared error of <strong>{q.value:.4f}</strong> per pixel "
            f"({count(q.rows)} test rows, black 0, white 1).{compared}"
        )

    def _side_by_side(self) -> str:
        if not len(self._block):
            return ""
        x = self.test_x[self._block]
        by_size = {self._size: self._reconstructed[self._block]} | {n: again(x) for n, again in self.siblings.items()}
        blocks: list[tuple[str, NDArray[Any]]] = [(plural(n, "number"), by_size[n]) for n in sorted(by_size)]
        blocks.append((f"the pictures: {count(x[0].size)} pixels", x.astype(np.float32) / 255))
        found = []
        for title, pictures in blocks:
            alt = f"{len(x)} test pictures: {title}"
            block = mosaics.mosaic(pictures, columns=SIDE, gap=1, scale=1, fill=True, alt=alt)
            error = squared_errors(pictures, x).mean()
            words = f"{title}<br>mean squared error {error:.4f}" if error else f"{title}<br>as they are"
            found.append(shown(block, caption=words))
        return note(
            "The first of every class, then the second, and so on: none was selected. What is left of each picture "
            "when only this many numbers pass from the encoder to the decoder."
        ) + charts(found)

    def _sizes(self) -> str:
        sizes = self.found["sizes"]
        pca = {int(n): e for n, e in sizes["pca"].items()}
        short = {int(n): e for n, e in sizes["coder"].items()}
        if not short:
            return ""
        own = sizes["this"]
        lines = [
            Line(label="PCA", points=sorted(pca.items()), colour="two"),
            Line(label=f"{sizes['epochs']} epochs", points=sorted(short.items())),
            Line(label="this model", points=[(self._size, own)], colour="three"),
        ]
        ticks = [float(n) for n in sorted(pca)]
        plot = line_chart(lines, x_label="numbers", y_label="MSE", log_x=True, x_ticks=ticks, from_zero=True)
        rows = [
            (str(n), f"{pca[n]:.4f}", _mse(short.get(n)), _mse(own if n == self._size else None)) for n in sorted(pca)
        ]
        return note(
            f"On {count(sizes['rows'])} held-out rows. No linear method does better than PCA. The autoencoders of "
            f"other sizes had {sizes['epochs']} epochs only, this model {len(self.found['history'])}."
        ) + beside(table(("Numbers", "PCA", f"{sizes['epochs']} epochs", "This model"), rows), plot)

    def _plane(self) -> str:
        rows = mosaics.in_turn(self.test_y)[:PLANE_ROWS]
        codes, classes = self.test_codes[rows], self.test_y[rows]
        if not len(codes):
            return ""
        reach = float(np.abs(codes).max()) * 1.02
        steps = ((np.arange(GRID_SIDE) + 0.5) / GRID_SIDE * 2 - 1) * reach
        grid = np.stack(np.meshgrid(steps, steps[::-1]), axis=-1).reshape(-1, 2).astype(np.float32)
        alt = "Decoded pictures over the plane"
        sheet = mosaics.mosaic(self.decode(grid), columns=GRID_SIDE, gap=0, scale=1, fill=True, alt=alt)
        words = (
            f"Left, the codes of {count(len(rows))} test pictures, coloured by class, which training did not use; "
            f"right, the decoder's pictures at {GRID_SIDE} × {GRID_SIDE} points of the same square. Squared error does "
            "not ask for any order: the plane is folded finely through the space of pictures, and a class lies in "
            "several regions. Between them the decoder gives shapes that are no digits."
        )
        return (
            note(words)
            + class_plane.key(self.manifest.labels, classes)
            + charts([class_plane.linear_plane(codes, classes, reach), sheet])
        )

    def _search(self) -> str:
        held = self.found["held"]
        rows = [
            (wide("the network's prediction alone"), f"{held['proposal_mse']:.4f}"),
            (wide("or the best of it and the nearest codebook entries"), f"{held['codebook_mse']:.4f}"),
            (wide("and Gauss-Newton steps from each: as served"), f"{held['mse']:.4f}"),
        ]
        return note(
            "The best code of a picture is the one whose decoding is nearest to it. A convolutional network predicts "
            "one. It is compared with the nearest entries of a fixed codebook of decoded latents; all of them are "
            "improved by Gauss-Newton steps on the decoder, and the one with the least squared error is taken. All of "
            f"this is inside the encoder's graph. On {count(held['rows'])} held-out rows:"
        ) + table(("<Code", "Mean squared error"), rows)

    def _unusual(self) -> str:
        anomaly = self.manifest.anomaly
        if anomaly is None or not len(self._block):
            return ""
        limit = float(np.quantile(anomaly.errors, 1 - UNUSUAL))
        rng = np.random.default_rng(0)
        x = self.test_x[mosaics.in_turn(self.test_y)[:UNUSUAL_ROWS]]
        kinds = [
            ("test pictures as they are", x),
            ("upside down", x[:, ::-1]),
            ("mirrored", x[:, :, ::-1]),
            ("as a negative", 255 - x),
            ("with noise of a standard deviation of 0.2", _noisy(x, rng)),
            ("their pixels shuffled", _shuffled(x, rng)),
        ]
        rows = []
        for name, pictures in kinds:
            given = np.ascontiguousarray(pictures)
            errors = squared_errors(self.decode(self.encode(given)), given)
            share = float(np.mean([anomaly.p_value(float(e)) < UNUSUAL for e in errors]))
            rows.append((wide(name), f"{np.median(errors):.4f}", f"{100 * share:.0f}{THIN}%"))
        plot = histogram(
            np.array(anomaly.errors),
            limit,
            title="Held-out rows by error",
            x_label="mean squared error",
            beyond="unusual from the line on",
        )
        return note(
            "The p-value of a picture is the share of held-out rows with an error at least as large. A picture is "
            f"unusual where it is below {UNUSUAL:g}, an error above {limit:.4f}. By this rule one in twenty usual "
            f"pictures is unusual, and of {count(len(x))} test pictures changed in these ways:"
        ) + beside(table(("<Pictures", "Median error", "Unusual"), rows), plot)

    def _extremes(self) -> str:
        if not len(self.test_x):
            return ""
        order = np.argsort(self._errors, kind="stable")
        middle = len(order) // 2
        found = []
        for title, rows in (
            ("Worst", order[::-1][:SHOWN]),
            ("Typical: around the median", order[max(0, middle - SHOWN // 2) :][:SHOWN]),
            ("Best", order[:SHOWN]),
        ):
            pair = np.stack([self.test_x[rows].astype(np.float32) / 255, self._reconstructed[rows]])
            sheet = mosaics.mosaic(pair, fill=True, alt=f"{title}: input above, reconstruction below")
            error = self._errors[rows]
            found.append(f"<h3>{title}: errors from {error.min():.4f} to {error.max():.4f}</h3>{sheet}")
        return note("Input above, reconstruction below.") + "".join(found)

    def _by_class(self) -> str:
        rows: list[tuple[float, Row]] = []
        for k, label in enumerate(self.manifest.labels):
            errors = self._errors[self.test_y == k]
            if len(errors):
                shown = (errors.mean(), *np.quantile(errors, [0.05, 0.5, 0.95]))
                rows.append((float(errors.mean()), (label, len(errors), *(f"{v:.4f}" for v in shown))))
        if not rows:
            return ""
        titles = ("Class", "Rows", "Mean error", "5th percentile", "Median", "95th percentile")
        hardest = [row for _, row in sorted(rows, key=lambda entry: entry[0], reverse=True)[:30]]
        return note("Hardest first. Much ink and many ways of writing make a class hard.") + table(titles, hardest)

    def _training(self) -> str:
        return note(
            "Each training row keeps its own latent. At every visit the latent moves to a codebook entry if that is "
            "nearer, and takes a Gauss-Newton step; the decoder is then trained on it. The encoder is trained to "
            "predict the latents, and in the second half to lower the error itself. Held-out figures are of the moving "
            "average of the weights, on fewer rows and with a shorter search than the served model."
        ) + history_charts(
            self.found["history"],
            [
                Curves(y_label="Mean squared error", lines=[("mse", "training"), ("held_mse", "held-out")], log_y=True),
                Curves(
                    y_label="The same without the search, held-out",
                    lines=[("held_proposal_mse", "held-out")],
                    log_y=True,
                ),
                Curves(y_label="Learning rate", lines=[("lr", "learning rate")]),
            ],
            skip=0.01,
        )


def _noisy(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.rint(np.clip(x + rng.normal(0, 0.2 * 255, x.shape), 0, 255)).astype(np.uint8)


def _shuffled(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.permuted(x.reshape(len(x), -1), axis=1).reshape(x.shape)


def _mse(value: float | None) -> str | None:
    return None if value is None else figure(value, "mse")
