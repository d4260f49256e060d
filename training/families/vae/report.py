"""The report of a variational autoencoder: how probable it finds test rows, and everything of it that can be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from app.core.sampling import latents
from training.metrics.onnx_model import Latency
from training.reporting import charts, mosaics, sections
from training.reporting.page import Page, Section
from training.reporting.words import count, table

USED: Final = 0.05  # nats of KL divergence, mean over rows, from which a latent counts as used
MANIFOLD_SIDE: Final = 20
DRAWN: Final = 100
DRAWN_SEED: Final = 0
STEPS: Final = 13
REACH: Final = 3.0  # standard deviations of the prior
PAIRS: Final = 8
STARTS: Final = 10
FEW: Final = 4  # latents; for no more of them a chart says nothing that the table does not
PLANE_ROWS: Final = 5000

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class VaeReport:
    """Everything the page needs; N test rows, of any number.

    `history` has per epoch any of loss, reconstruction, kl and the same of held-out rows behind `held_`. `learnt_x`
    are the test rows as the model is scored on them, binarised or not, `test_x` as they were made.
    """

    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    kl: NDArray[np.float64]  # (Z,), mean over test rows
    nll_by_samples: Mapping[int, float]
    nll_standard_error: float | None
    encode: Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]
    decode: Callable[[Floats], Floats]
    test_x: NDArray[np.uint8]  # (N, H, W, C)
    test_y: NDArray[np.int64]  # (N,)
    learnt_x: NDArray[np.uint8]  # (N, H, W, C)
    latency: Sequence[Latency]
    ablation: str = ""  # what was compared before this shape was chosen

    def page(self) -> Page:
        """The page, ready to be written."""
        m, z = self.manifest, len(self.kl)
        parts = [
            ("figures", "Figures", sections.measures(m)),
            ("manifold", "The manifold", self._manifold() if z == 2 else ""),
            ("plane", "The plane of the two latents", self._plane() if z == 2 else ""),
            ("samples", "Drawn from the prior", self._samples()),
            ("reconstructions", "There and back", self._reconstructions()),
            ("traversals", "What each latent does", self._traversals()),
            ("interpolations", "From one to another", self._interpolations()),
            ("training", "The two terms over training", self._terms()),
            ("bound", "How tight the bound is", self._bound()),
            ("shape", "What decided its shape", f"<p>{escape(self.ablation)}</p>" if self.ablation else ""),
            ("latency", "How fast it draws", sections.latency(self.latency)),
            ("facts", "Facts", sections.facts(m)),
        ]
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
            headlines=("nll", "elbo", "kl"),
            latency=self.latency,
        )

    @cached_property
    def _used(self) -> list[int]:
        """The latents that carry something, most first."""
        return [int(i) for i in np.argsort(-self.kl, kind="stable") if self.kl[i] >= USED]

    @cached_property
    def _examples(self) -> NDArray[np.int64]:
        """Row numbers in the test set: the first of each class, then the second of each, and so on."""
        turn, seen = np.empty(len(self.test_y), np.int64), dict[int, int]()
        for i, label in enumerate(self.test_y.tolist()):
            turn[i] = seen.get(label, 0)
            seen[label] = int(turn[i]) + 1
        return np.lexsort((self.test_y, turn))

    def _codes(self, rows: NDArray[np.int64]) -> Floats:
        return self.encode(self.test_x[rows])[0]

    def _drawn(self, grid: Floats) -> NDArray[np.float32]:
        """Latents (rows, columns, Z) -> pictures (rows, columns, H, W, C)."""
        flat = self.decode(grid.reshape(-1, grid.shape[-1]))
        return flat.reshape(*grid.shape[:2], *flat.shape[1:])

    def _claim(self) -> str:
        found = {q.name: q for q in self.manifest.quality}
        data = escape(self.manifest.data.name)
        if not np.array_equal(self.learnt_x, self.test_x):
            data = f"statically binarised {data}"
        used = f"{len(self._used)} of its {len(self.kl)} latents"
        if "nll" not in found:
            return f"Learnt {data}; {used} are in use. Nothing is measured."
        q = found["nll"]
        error = self.nll_standard_error
        give = f" ± {1.96 * error:.2f} (95{THIN}% interval over rows)" if error is not None else ""
        bits = q.value / np.log(2) / float(np.prod(self.test_x.shape[1:]))
        return (
            f"To this model an unseen picture of {data} has a probability of e<sup>−{q.value:.2f}</sup> on average: "
            f"<strong>{q.value:.2f}{THIN}nats</strong>{give}, or {bits:.3f} bits a pixel, by the importance-weighted "
            f"bound on {count(q.rows)} test rows. It says all of it in {used}."
        )

    def _manifold(self) -> str:
        latent = self.manifest.latent
        assert latent is not None
        grid = latents.plane(latent, MANIFOLD_SIDE, (0, 1)).reshape(MANIFOLD_SIDE, MANIFOLD_SIDE, 2)
        note = (
            f"What the decoder draws at {MANIFOLD_SIDE} × {MANIFOLD_SIDE} points of the plane: the first latent rises "
            "to the right, the second upwards, in steps of the normal distribution's quantiles, so that every picture "
            "stands for an equal share of the prior (Kingma and Welling 2014, figure 4). Neighbours are alike: the "
            "code has become a map of handwriting."
        )
        alt = "Digits that change smoothly from one to the next over a grid"
        drawing = mosaics.mosaic(self._drawn(grid), alt=alt, gap=0, scale=2)
        return f'<p class="note">{note}</p>{drawing}'

    def _plane(self) -> str:
        rows = self._examples[:PLANE_ROWS]
        drawing = mosaics.class_plane(self._codes(rows), self.test_y[rows], self.manifest.labels)
        return (
            f'<p class="note">Where {count(len(rows))} test pictures lie: the mu of each, coloured by the class, which '
            "the model was never told. The square is the manifold's: both axes are in the normal distribution's "
            f"quantiles.</p>{drawing}"
        )

    def _samples(self) -> str:
        z = latents.draw(DRAWN, len(self.kl), DRAWN_SEED)
        drawing = mosaics.mosaic(self.decode(z), columns=20, alt=f"{DRAWN} pictures drawn by the model")
        return (
            f'<p class="note">The first {DRAWN} draws of seed {DRAWN_SEED}, none chosen, none left out: latents from '
            "the standard normal prior, and the probability of ink that the decoder gives each pixel.</p>" + drawing
        )

    def _reconstructions(self) -> str:
        if not len(self.test_x):
            return ""
        rows = self._examples[:60]
        blocks = []
        for some in (rows[i : i + 20] for i in range(0, len(rows), 20)):
            given = self.test_x[some].astype(np.float32) / 255
            pair = np.stack([given, self.decode(self._codes(some))])
            blocks.append(mosaics.mosaic(pair, alt="Test pictures above, what is decoded from their mu below"))
        return (
            '<p class="note">Test pictures above, below each what the decoder makes of its mu: the first of every '
            "class, then the second, then the third.</p>" + '<div style="height:10px"></div>'.join(blocks)
        )

    def _traversals(self) -> str:
        if not len(self.test_x) or not self._used:
            return ""
        starts = self._codes(self._examples[:STARTS])
        steps = np.linspace(-REACH, REACH, STEPS, dtype=np.float32)
        grid = np.empty((len(self._used), STEPS, len(self.kl)), np.float32)
        for row, latent in enumerate(self._used):
            ends = np.repeat(starts[:, None], 2, axis=1)
            ends[:, :, latent] = steps[[0, -1]]
            drawn = self._drawn(ends)
            change = ((drawn[:, 1] - drawn[:, 0]) ** 2).reshape(len(starts), -1).sum(axis=1)
            grid[row] = starts[change.argmax()]
            grid[row, :, latent] = steps
        rows = [
            f"<tr><td>z<sub>{latent}</sub></td><td>{self.kl[latent]:.2f}</td>"
            f'<td style="padding-top:1px;padding-bottom:1px">'
            f"{mosaics.mosaic(strip, alt=f'Latent {latent} from -3 to 3', scale=2)}</td></tr>"
            for latent, strip in zip(self._used, self._drawn(grid), strict=True)
        ]
        order = ""
        if len(self.kl) > FEW:
            falling = sorted(self.kl.tolist(), reverse=True)
            chart = mosaics.bars(falling, y_label="KL, nats a picture", x_label="latents, in falling order")
            order = f'<div style="max-width:36rem">{chart}</div>'
        unused = len(self.kl) - len(self._used)
        shown = (
            f"; the {len(self._used)} above {USED} nats are shown, the other {unused} are not used" if unused else ""
        )
        span = f"−{REACH:g} to {REACH:g}"
        return (
            f'<p class="note">One latent at a time set to values from {span}, all others kept, in the code of the one '
            f"of {len(starts)} test pictures that it changes most. The KL divergence is how much a picture says "
            f"through that latent on average{shown}.</p>{order}{table(('Latent', 'KL, nats', f'<from {span}'), rows)}"
        )

    def _interpolations(self) -> str:
        rows = self._examples[: 2 * PAIRS]
        if len(rows) < 2 * PAIRS:
            return ""
        codes = self._codes(rows)
        spherical = len(self.kl) > 2
        grid = np.stack(
            [latents.between(codes[i], codes[i + 1], STEPS, spherical=spherical) for i in range(0, 2 * PAIRS, 2)]
        )
        between = self._drawn(grid)
        ends = self.test_x[rows].astype(np.float32).reshape(PAIRS, 2, *self.test_x.shape[1:]) / 255
        drawn = np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1)
        way = "great circles" if spherical else "straight lines"
        return (
            f'<p class="note">Outermost two test pictures, between them what lies on the way from the one’s mu to the '
            f"other’s, along {way}.</p>{mosaics.mosaic(drawn, alt='Pictures that turn into one another')}"
        )

    def _terms(self) -> str:
        def chart(key: str, label: str) -> str:
            lines = [_line(self.history, key, "training"), _line(self.history, f"held_{key}", "held-out", second=True)]
            return charts.line_chart([line for line in lines if line.points], x_label="epoch", y_label=label)

        found = [
            chart("loss", "−ELBO, nats"),
            chart("reconstruction", "Reconstruction term, nats"),
            chart("kl", "KL term, nats"),
        ]
        if not any(found):
            return ""
        return (
            '<p class="note">−ELBO = reconstruction + KL: what the pixels cost once the code is known, and what the '
            "code costs. Training figures are means over an epoch of weights in motion, held-out ones of the moving "
            f'average that is served.</p><div class="charts">{"".join(found)}</div>'
        )

    def _bound(self) -> str:
        if not self.nll_by_samples:
            return ""
        points = sorted(self.nll_by_samples.items())
        rows = [f"<tr><td>{count(k)}</td><td>{value:.3f}</td></tr>" for k, value in points]
        ks = [float(k) for k, _ in points]
        line = charts.Line(label="bound", points=[(k, v) for k, (_, v) in zip(ks, points, strict=True)])
        plot = charts.line_chart(
            [line], x_label="posterior samples per row", y_label="Bound on −ln p(x), nats", log_x=True, x_ticks=ks
        )
        beside = table(("Samples", "NLL, nats"), rows)
        return (
            '<p class="note">With more samples the importance-weighted bound falls towards −ln p(x) (Burda et al. '
            "2016, theorem 1). Where it starts, at one sample, is the negative ELBO; the way down is the price of a "
            f'posterior that is Gaussian and guessed in one look.</p><div class="side">{beside}'
            f'<div class="plot">{plot}</div></div>'
        )


def _line(history: Sequence[Mapping[str, float]], key: str, label: str, *, second: bool = False) -> charts.Line:
    rows = [(row.get("epoch", i + 1.0), row.get(key, np.nan)) for i, row in enumerate(history)]
    points = [point for point in rows if np.isfinite(point[1])]
    # The first epochs start from nothing and would flatten all that comes after.
    kept = points[max(1, len(points) // 10) :] if len(points) > 4 else points
    return charts.Line(label=label, points=kept, colour="two" if second else "one")
