"""The report of an autoencoder: what it keeps of unseen pictures, what its few numbers hold, and what it finds odd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN, figure
from training.metrics.images import squared_errors
from training.metrics.onnx_model import Latency
from training.reporting import charts, mosaics, sections
from training.reporting.page import Page, Section
from training.reporting.words import count, table

SIDE: Final = 10  # of the block of digits
PLANE_ROWS: Final = 5000
GRID_SIDE: Final = 24
SHOWN: Final = 20
ODD_ROWS: Final = 500
UNUSUAL: Final = 0.05

# What decided the recipe's defaults, by data set.
TRIED: Final = {
    "mnist": """\
With 5 numbers, encoder and decoder trained end to end as usual: 0.0316 after 4 epochs. With the decoder trained on \
searched latents: 0.0213 after as many, in half the time.
With 5 numbers and no noise on the latents: 0.0158 after 31 epochs, but 0.0129 on training rows, and 0.0385 for the \
proposal alone. With more noise (0.05) and half the fold, after 20: 0.0165, 0.0151 and 0.0237. As shipped, with a \
noise of 0.02, after 20: 0.0156, and 0.0316 for the proposal alone.
With 2 numbers and no noise: 0.0234 after 40 epochs, 0.0749 for the proposal alone. As shipped, after 20: 0.0253 and \
0.0486.
"""
}

Floats = NDArray[np.float32]
ThereAndBack = Callable[[NDArray[np.uint8]], Floats]
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
    siblings: Mapping[int, ThereAndBack]
    test_x: NDArray[np.uint8]  # (N, H, W, C)
    test_y: NDArray[np.int64]  # (N,)
    test_codes: Floats  # (N, Z)
    latency: Sequence[Latency]
    decoder_latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        parts = [
            ("digits", f"The same {len(self._block)} test pictures", self._side_by_side()),
            ("figures", "Figures", sections.figures(m, {})),
            ("sizes", "How much so many numbers hold", self._sizes()),
            ("map", "The plane of the two numbers", self._map() if self._size == 2 else ""),
            ("search", "What the search adds to the encoder", self._search()),
            ("unusual", "What counts as unusual", self._unusual()),
            ("errors", "Typical and worst", self._extremes()),
            ("classes", "Error by class", self._by_class()),
            ("training", "Training", self._training()),
            ("tried", "What was tried", self._tried()),
            ("latency", "How fast it codes", sections.latency(self.latency)),
            ("decoding", "How fast it draws", sections.latency(self.decoder_latency)),
            ("facts", "Facts", sections.facts(m)),
        ]
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
            headlines=("mse", "psnr"),
            latency=self.latency,
        )

    @property
    def _size(self) -> int:
        assert self.manifest.latent is not None
        return self.manifest.latent.size

    @cached_property
    def _drawn(self) -> Floats:
        return self.decode(self.test_codes)

    @cached_property
    def _errors(self) -> NDArray[np.float64]:
        return squared_errors(self._drawn, self.test_x)

    @cached_property
    def _in_turn(self) -> NDArray[np.int64]:
        """Row numbers in the test set: the first of each class, then the second of each, and so on."""
        turn, seen = np.empty(len(self.test_y), np.int64), dict[int, int]()
        for i, label in enumerate(self.test_y.tolist()):
            turn[i] = seen.get(label, 0)
            seen[label] = int(turn[i]) + 1
        return np.lexsort((self.test_y, turn))

    @cached_property
    def _block(self) -> NDArray[np.int64]:
        return self._in_turn[: SIDE * SIDE]

    def _claim(self) -> str:
        q = next((q for q in self.manifest.quality if q.name == "mse"), None)
        one = "one number" if self._size == 1 else f"{self._size} numbers"
        if q is None:
            return f"Codes a picture of {escape(self.manifest.data.name)} as {one} and draws it again."
        pca = self.found["sizes"]["pca"].get(str(self._size))
        beside = f" PCA with as many is at {pca:.4f}, on held-out rows." if pca else ""
        return (
            f"Of {self.test_x[0].size:,} pixels it keeps <strong>{one}</strong>, and draws an unseen picture of "
            f"{escape(self.manifest.data.name)} again with a mean squared error of <strong>{q.value:.4f}</strong> per "
            f"pixel ({count(q.rows)} test rows, black 0, white 1).{beside}"
        )

    def _side_by_side(self) -> str:
        if not len(self._block):
            return ""
        x = self.test_x[self._block]
        blocks = {self._size: self._drawn[self._block]} | {n: again(x) for n, again in self.siblings.items()}
        drawn: list[tuple[str, NDArray[Any]]] = [(f"{n} number{'s' * (n != 1)}", blocks[n]) for n in sorted(blocks)]
        drawn.append((f"the pictures: {count(x[0].size)} pixels", x.astype(np.float32) / 255))
        found = []
        for title, pictures in drawn:
            block = mosaics.mosaic(pictures, columns=SIDE, gap=1, scale=1, alt=f"{len(x)} test pictures: {title}")
            error = squared_errors(pictures, x).mean()
            label = f"{title}<br>mean squared error {error:.4f}" if error else f"{title}<br>as they are"
            found.append(f'<figure style="margin:0">{_wide(block)}<figcaption>{label}</figcaption></figure>')
        return (
            '<p class="note">The first of every class, then the second, and so on; none chosen. What is left of each '
            "picture when only so many numbers pass from the encoder to the decoder.</p>"
            f'<div class="charts">{"".join(found)}</div>'
        )

    def _sizes(self) -> str:
        sizes = self.found["sizes"]
        pca = {int(n): e for n, e in sizes["pca"].items()}
        short = {int(n): e for n, e in sizes["coder"].items()}
        if not short:
            return ""
        own = sizes["this"]
        lines = [
            charts.Line(label="PCA", points=sorted(pca.items()), colour="two"),
            charts.Line(label=f"{sizes['epochs']} epochs", points=sorted(short.items())),
            charts.Line(label="this model", points=[(self._size, own)], colour="three"),
        ]
        ticks = [float(n) for n in sorted(pca)]
        plot = charts.line_chart(lines, x_label="numbers", y_label="MSE", log_x=True, x_ticks=ticks, from_zero=True)
        rows = [
            f"<tr><td>{n}</td><td>{pca[n]:.4f}</td><td>{_or_dash(short.get(n))}</td>"
            f"<td>{_or_dash(own if n == self._size else None)}</td></tr>"
            for n in sorted(pca)
        ]
        beside = table(("Numbers", "PCA", f"{sizes['epochs']} epochs", "This model"), rows)
        return (
            f'<p class="note">On {count(sizes["rows"])} held-out rows. PCA is the best that can be done '
            f"with straight axes; the autoencoders of other sizes had {sizes['epochs']} epochs only, this model "
            f'{len(self.found["history"])}.</p><div class="side">{beside}<div class="plot">{plot}</div></div>'
        )

    def _map(self) -> str:
        rows = self._in_turn[:PLANE_ROWS]
        codes, classes = self.test_codes[rows], self.test_y[rows]
        if not len(codes):
            return ""
        reach = float(np.abs(codes).max()) * 1.02
        steps = ((np.arange(GRID_SIDE) + 0.5) / GRID_SIDE * 2 - 1) * reach
        grid = np.stack(np.meshgrid(steps, steps[::-1]), axis=-1).reshape(-1, 2).astype(np.float32)
        sheet = mosaics.mosaic(self.decode(grid), columns=GRID_SIDE, gap=0, scale=1, alt="What lies where in the plane")
        labels = self.manifest.labels
        key = "".join(
            f'<li><b style="color:{mosaics.HUES[k % len(mosaics.HUES)]}">●</b> {escape(label)}</li>'
            for k, label in enumerate(labels)
            if (classes == k).any()
        )
        return (
            f'<p class="note">Left, where {count(len(rows))} test pictures lie, coloured by the class that the model '
            f"was never told; right, what the decoder draws at {GRID_SIDE} × {GRID_SIDE} points of the same square. "
            "Squared error asks for no order beyond what saves it: the sheet is folded finely through the space of "
            "pictures, and one class lies in several places. Between them are pictures that nobody wrote.</p>"
            f'<ul class="key" style="list-style:none">{key}</ul>'
            f'<div class="charts"><figure style="margin:0">{_plane(codes, classes, reach)}</figure>'
            f'<figure style="margin:0">{_wide(sheet)}</figure></div>'
        )

    def _search(self) -> str:
        held = self.found["held"]
        lines = [
            ("the network's proposal alone", held["proposal_mse"]),
            ("or the best of it and the nearest codebook entries", held["codebook_mse"]),
            ("and Gauss-Newton steps from each: as served", held["mse"]),
        ]
        rows = [f'<tr><td class="wide">{escape(name)}</td><td>{error:.4f}</td></tr>' for name, error in lines]
        return (
            '<p class="note">The best code of a picture is the one whose decoding is nearest to it. A convolutional '
            "network proposes one; it is compared with the nearest entries of a fixed codebook of decoded latents, all "
            "are moved downhill by Gauss-Newton steps on the decoder, and the one with the least squared error wins. "
            f"All of it is inside the encoder's graph. On {count(held['rows'])} held-out rows:</p>"
            + table(("<Code", "Mean squared error"), rows)
        )

    def _tried(self) -> str:
        lines = TRIED.get(self.manifest.data.spec, "").splitlines()
        if not lines:
            return ""
        inside = "".join(f"<li>{escape(line)}</li>" for line in lines)
        return f'<p class="note">Errors on 1,000 held-out rows or more, one seed each.</p><ul>{inside}</ul>'

    def _unusual(self) -> str:
        anomaly = self.manifest.anomaly
        if anomaly is None or not len(self._block):
            return ""
        limit = float(np.quantile(anomaly.errors, 1 - UNUSUAL))
        rng = np.random.default_rng(0)
        x = self.test_x[self._in_turn[:ODD_ROWS]]
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
            rows.append(
                f'<tr><td class="wide">{escape(name)}</td><td>{np.median(errors):.4f}</td>'
                f"<td>{100 * share:.0f}{THIN}%</td></tr>"
            )
        return (
            f'<p class="note">The p-value of a picture is the share of held-out rows that are drawn at least as badly. '
            f"Under {UNUSUAL:g}, an error above {limit:.4f}, it is unusual: so is one usual picture in twenty, and of "
            f"{count(len(x))} test pictures changed in these ways, each so many:</p>"
            f'<div class="side">{table(("<Pictures", "Median error", "Unusual"), rows)}'
            f'<div class="plot">{_histogram(np.array(anomaly.errors), limit)}</div></div>'
        )

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
            given = self.test_x[rows].astype(np.float32) / 255
            drawing = mosaics.mosaic(np.stack([given, self._drawn[rows]]), alt=f"{title}: given above, drawn below")
            error = self._errors[rows]
            found.append(f"<h3>{title}: errors from {error.min():.4f} to {error.max():.4f}</h3>{_wide(drawing)}<br>")
        return f'<p class="note">Given above, drawn again below.</p>{"".join(found)}'

    def _by_class(self) -> str:
        rows = []
        for k, label in enumerate(self.manifest.labels):
            errors = self._errors[self.test_y == k]
            if len(errors):
                low, mid, high = np.quantile(errors, [0.05, 0.5, 0.95])
                cells = "".join(f"<td>{v:.4f}</td>" for v in (errors.mean(), low, mid, high))
                rows.append(
                    (float(errors.mean()), f"<tr><td>{escape(label)}</td><td>{count(len(errors))}</td>{cells}</tr>")
                )
        if not rows:
            return ""
        titles = ("<Class", "Rows", "Mean error", "5 % are below", "Median", "5 % are above")
        beside = table(titles, [row for _, row in sorted(rows, reverse=True)[:30]])
        return f'<p class="note">Hardest first. Much ink, and many ways to write it, make a class hard.</p>{beside}'

    def _training(self) -> str:
        def line(key: str, label: str, colour: charts.Colour) -> charts.Line:
            points = [(row["epoch"], row[key]) for row in self.found["history"] if key in row]
            return charts.Line(label=label, points=points[1:] if len(points) > 4 else points, colour=colour)

        plots = [
            charts.line_chart(
                [line("mse", "training", "one"), line("held_mse", "held-out", "two")],
                x_label="epoch",
                y_label="Mean squared error",
                log_y=True,
            ),
            charts.line_chart(
                [line("held_proposal_mse", "held-out", "three")],
                x_label="epoch",
                y_label="The same of the proposal alone, held-out",
                log_y=True,
            ),
            charts.line_chart([line("lr", "learning rate", "one")], x_label="epoch", y_label="Learning rate"),
        ]
        return (
            '<p class="note">Each training row keeps its own latent: at every visit it jumps to a nearer entry of a '
            "codebook, if there is one, and takes a Gauss-Newton step; the decoder then learns from it. The encoder "
            "learns where the latents are, and in the second half to lower the error itself. Held-out figures are of "
            "the moving average of the weights, on fewer rows and with a shorter search than the model as served.</p>"
            f'<div class="charts">{"".join(plots)}</div>'
        )


def _noisy(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.rint(np.clip(x + rng.normal(0, 0.2 * 255, x.shape), 0, 255)).astype(np.uint8)


def _shuffled(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.permuted(x.reshape(len(x), -1), axis=1).reshape(x.shape)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else figure(value, "mse")


def _wide(image: str) -> str:
    """A picture as wide as its column allows, since one pixel of it is small on any screen."""
    return image.replace('<img style="', '<img style="min-width:100%;', 1)


def _plane(codes: Floats, classes: NDArray[np.int64], reach: float) -> str:
    """Latents (N, 2) in a square from -reach to reach, each in the colour of its class."""
    side = 560.0
    x, y = charts.Scale(-reach, reach, 0.0, side), charts.Scale(-reach, reach, side, 0.0)
    parts = [f'<rect x="0" y="0" width="{side}" height="{side}" rx="6" style="fill:var(--card)"/>']
    ticks = [v for v in x.ticks() if abs(v) < 0.9 * reach]
    for v in ticks:
        parts.append(f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="0" y2="{side}"/>')
        parts.append(f'<line class="grid" x1="0" x2="{side}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
    for k in np.unique(classes).tolist():
        # One path of dots of no length per class: a tenth of the bytes of so many circles.
        dots = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in codes[classes == k].tolist())
        hue = mosaics.HUES[k % len(mosaics.HUES)]
        parts.append(f'<path d="{dots}" fill="none" stroke="{hue}" stroke-width="4" stroke-linecap="round"/>')
    for v in ticks:
        parts.append(f'<text x="{x(v) + 3:.1f}" y="{side - 5}">{charts.tick(v)}</text>')
        parts.append(f'<text x="4" y="{y(v) - 4:.1f}">{charts.tick(v)}</text>')
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="The plane of the two numbers">{inside}</svg>'


def _histogram(errors: NDArray[np.float64], limit: float) -> str:
    """Held-out errors in 40 bins, those beyond `limit` in the second colour."""
    width, height, left, bottom, top = charts.WIDTH, charts.HEIGHT, 14.0, 38.0, 30.0
    last = float(np.quantile(errors, 0.998))
    counts, edges = np.histogram(errors, bins=40, range=(0.0, last))
    x = charts.Scale(0.0, last, left, width - charts.RIGHT)
    y = charts.Scale(0.0, float(counts.max()), height - bottom, top)
    parts = ['<text class="strong" x="4" y="13">Held-out rows by error</text>']
    for n, a, b in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        colour = "two" if (a + b) / 2 > limit else "one"
        parts.append(
            f'<rect x="{x(a) + 0.5:.1f}" y="{y(n):.1f}" width="{x(b) - x(a) - 1:.1f}" height="{y(0) - y(n):.1f}" '
            f'style="fill:var(--{colour})"/>'
        )
    base = height - bottom
    parts.append(f'<line class="grid" x1="{left}" x2="{width - charts.RIGHT}" y1="{base}" y2="{base}"/>')
    parts += [f'<text x="{x(v):.1f}" y="{base + 15}" text-anchor="middle">{charts.tick(v)}</text>' for v in x.ticks()]
    parts.append(f'<line class="ideal" x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="{top}" y2="{base}"/>')
    parts.append(f'<text x="{width - charts.RIGHT}" y="{top - 6}" text-anchor="end">unusual from the line on</text>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 4}" text-anchor="middle">mean squared error</text>')
    inside = "".join(parts)
    return charts.svg([inside], width, height, "Held-out rows by error")
