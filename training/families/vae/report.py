"""The report of a variational autoencoder: likelihood of test rows, latent space, samples and reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from app.core.sampling import latents
from training.metrics.onnx_model import Latency
from training.reporting import mosaics
from training.reporting.ablations import tried
from training.reporting.bars import bars
from training.reporting.charts import Line, line_chart
from training.reporting.class_plane import quantile_plane
from training.reporting.figures import figures
from training.reporting.formatting import count
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, beside, note, stack
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.table import Cell, table

USED: Final = 0.05  # nats of KL divergence, mean over rows, from which a latent counts as used
MANIFOLD_SIDE: Final = 20
SAMPLES: Final = 100
SAMPLE_SEED: Final = 0
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

    `history` has per epoch any of loss, reconstruction, kl and the same of held-out rows behind `held_`. `scored_x`
    are the test rows as the model is scored on them, binarised or not, `test_x` as they are in the data set.
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
    scored_x: NDArray[np.uint8]  # (N, H, W, C)
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m, z = self.manifest, len(self.kl)
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                figures(m),
                Section("manifold", "The manifold", self._manifold() if z == 2 else ""),
                Section("plane", "The plane of the two latents", self._plane() if z == 2 else ""),
                Section("samples", "Samples from the prior", self._samples()),
                Section("reconstructions", "Reconstructions", self._reconstructions()),
                Section("traversals", "Latent traversals", self._traversals()),
                Section("interpolations", "Interpolations", self._interpolations()),
                Section("training", "Learning curves", self._terms()),
                Section("bound", "How tight the bound is", self._bound()),
                tried(Path(__file__).parent, m.data.spec),
                latency(self.latency, title="Latency of the decoder"),
                made(m),
            ],
            headlines=("nll", "elbo", "kl"),
            latency=self.latency,
        )

    @cached_property
    def _used(self) -> list[int]:
        """The latents that carry something, most first."""
        return [int(i) for i in np.argsort(-self.kl, kind="stable") if self.kl[i] >= USED]

    @cached_property
    def _examples(self) -> NDArray[np.int64]:
        return mosaics.in_turn(self.test_y)

    def _codes(self, rows: NDArray[np.int64]) -> Floats:
        return self.encode(self.test_x[rows])[0]

    def _decoded(self, grid: Floats) -> NDArray[np.float32]:
        """Latents (rows, columns, Z) -> pictures (rows, columns, H, W, C)."""
        flat = self.decode(grid.reshape(-1, grid.shape[-1]))
        return flat.reshape(*grid.shape[:2], *flat.shape[1:])

    def _claim(self) -> str:
        found = {q.name: q for q in self.manifest.quality}
        data = escape(self.manifest.data.name)
        if not np.array_equal(self.scored_x, self.test_x):
            data = f"statically binarised {data}"
        used = f"{len(self._used)} of its {len(self.kl)} latents"
        if "nll" not in found:
            return f"Trained on {data}; {used} are in use. Nothing is measured."
        q = found["nll"]
        error = self.nll_standard_error
        give = f" ± {1.96 * error:.2f} (95{THIN}% interval over rows)" if error is not None else ""
        bits = q.value / np.log(2) / float(np.prod(self.test_x.shape[1:]))
        return (
            f"This model gives an unseen picture of {data} a probability of e<sup>−{q.value:.2f}</sup> on average: "
            f"<strong>{q.value:.2f}{THIN}nats</strong>{give}, or {bits:.3f} bits a pixel, by the importance-weighted "
            f"bound on {count(q.rows)} test rows. It uses {used}."
        )

    def _manifold(self) -> str:
        latent = self.manifest.latent
        assert latent is not None
        grid = latents.plane(latent, MANIFOLD_SIDE, (0, 1)).reshape(MANIFOLD_SIDE, MANIFOLD_SIDE, 2)
        words = (
            f"The decoder's pictures at {MANIFOLD_SIDE} × {MANIFOLD_SIDE} points of the plane: the first latent rises "
            "to the right, the second upwards, in steps of the normal distribution's quantiles, so that every picture "
            "stands for an equal share of the prior (Kingma and Welling 2014, figure 4). Neighbours are alike."
        )
        alt = "Digits that change smoothly from one to the next over a grid"
        return note(words) + mosaics.mosaic(self._decoded(grid), alt=alt, gap=0, scale=2)

    def _plane(self) -> str:
        rows = self._examples[:PLANE_ROWS]
        plane = quantile_plane(self._codes(rows), self.test_y[rows], self.manifest.labels)
        return (
            note(
                f"The mu of {count(len(rows))} test pictures, coloured by class, which training did not use. The "
                "square is the manifold's: both axes are in the normal distribution's quantiles."
            )
            + plane
        )

    def _samples(self) -> str:
        z = latents.sample_prior(SAMPLES, len(self.kl), SAMPLE_SEED)
        return note(
            f"The first {SAMPLES} samples of seed {SAMPLE_SEED}, all of them: latents from the standard normal prior, "
            "and the probability of ink that the decoder gives each pixel."
        ) + mosaics.mosaic(self.decode(z), columns=20, alt=f"{SAMPLES} pictures sampled from the model")

    def _reconstructions(self) -> str:
        if not len(self.test_x):
            return ""
        rows = self._examples[:60]
        blocks = []
        for some in (rows[i : i + 20] for i in range(0, len(rows), 20)):
            given = self.test_x[some].astype(np.float32) / 255
            pair = np.stack([given, self.decode(self._codes(some))])
            blocks.append(mosaics.mosaic(pair, alt="Test pictures above, what is decoded from their mu below"))
        return note(
            "Test pictures above, below each the decoding of its mu: the first of every class, then the second, then "
            "the third."
        ) + stack(blocks)

    def _traversals(self) -> str:
        if not len(self.test_x) or not self._used:
            return ""
        starts = self._codes(self._examples[:STARTS])
        steps = np.linspace(-REACH, REACH, STEPS, dtype=np.float32)
        grid = np.empty((len(self._used), STEPS, len(self.kl)), np.float32)
        for row, latent in enumerate(self._used):
            ends = np.repeat(starts[:, None], 2, axis=1)
            ends[:, :, latent] = steps[[0, -1]]
            decoded = self._decoded(ends)
            change = ((decoded[:, 1] - decoded[:, 0]) ** 2).reshape(len(starts), -1).sum(axis=1)
            grid[row] = starts[change.argmax()]
            grid[row, :, latent] = steps
        rows = [
            (
                Cell(f"z<sub>{latent}</sub>"),
                f"{self.kl[latent]:.2f}",
                Cell(mosaics.mosaic(strip, alt=f"Latent {latent} from -3 to 3", scale=2)),
            )
            for latent, strip in zip(self._used, self._decoded(grid), strict=True)
        ]
        order = ""
        if len(self.kl) > FEW:
            falling = sorted(self.kl.tolist(), reverse=True)
            order = bars(falling, y_label="KL, nats a picture", x_label="latents, in falling order")
        unused = len(self.kl) - len(self._used)
        shown = (
            f"; the {len(self._used)} above {USED} nats are shown, the other {unused} are not used" if unused else ""
        )
        span = f"−{REACH:g} to {REACH:g}"
        return (
            note(
                f"One latent at a time set to values from {span}, all others kept, in the code of the one of "
                f"{len(starts)} test pictures that it changes most. The KL divergence is the information that the "
                f"latent carries about a picture on average{shown}."
            )
            + order
            + table(("Latent", "KL, nats", f"<from {span}"), rows)
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
        between = self._decoded(grid)
        ends = self.test_x[rows].astype(np.float32).reshape(PAIRS, 2, *self.test_x.shape[1:]) / 255
        frames = np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1)
        lines = "great circles" if spherical else "straight lines"
        return note(
            "Outermost two test pictures, between them decodings on the path from the mu of the one to that of the "
            f"other, along {lines}."
        ) + mosaics.mosaic(frames, alt="Pictures that turn into one another")

    def _terms(self) -> str:
        both = (("", "training"), ("held_", "held-out"))
        found = history_charts(
            self.history,
            [
                Curves(y_label=title, lines=[(f"{part}{key}", label) for part, label in both])
                for key, title in (
                    ("loss", "−ELBO, nats"),
                    ("reconstruction", "Reconstruction term, nats"),
                    ("kl", "KL term, nats"),
                )
            ],
            skip=0.1,
        )
        words = (
            "−ELBO = reconstruction + KL: the cost of the pixels given the code, and the cost of the code. Training "
            "figures are means over an epoch in which the weights change, held-out ones are of the moving average of "
            "the weights, which is served."
        )
        return note(words) + found if found else ""

    def _bound(self) -> str:
        if not self.nll_by_samples:
            return ""
        points = sorted(self.nll_by_samples.items())
        ks = [float(k) for k, _ in points]
        line = Line(label="bound", points=[(k, v) for k, (_, v) in zip(ks, points, strict=True)])
        plot = line_chart(
            [line], x_label="posterior samples per row", y_label="Bound on −ln p(x), nats", log_x=True, x_ticks=ks
        )
        return note(
            "With more samples the importance-weighted bound falls towards −ln p(x) (Burda et al. 2016, theorem 1). "
            "At one sample it is the negative ELBO. The difference is the price of a Gaussian posterior that the "
            "encoder predicts in one evaluation."
        ) + beside(table(("Samples", "NLL, nats"), [(k, f"{value:.3f}") for k, value in points]), plot)
