"""How good a published diffusion model is: its pictures by the protocol, at several numbers of evaluations, and what
it makes of noisy pictures. From the ONNX graphs alone, drawn by the server's own samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.core.manifest import Manifest
from app.core.manifest.sampling import SamplerName
from app.core.sampling import samplers
from training.data.base import shuffled
from training.families.diffusion import denoising
from training.families.diffusion import generation as generation
from training.metrics import generated, onnx_model
from training.metrics.frechet import frechet_distance
from training.metrics.reference_classifiers import ReferenceClassifiers

Array = NDArray[np.float32]

PICTURES: Final = 10_000
RESAMPLES: Final = 5
CAS_PICTURES: Final = 60_000
CURVE_PICTURES: Final = 2500
SEED: Final = 0
THREADS: Final = 1  # sums in one order, so that figures are the same on a machine of more cores
PORTION: Final = 1000  # pictures drawn together; each has a seed of its own
MANY: Final = (16, 8, 4)
FEW: Final = (1, 2, 4)
CURVES: Final[Mapping[str, tuple[int, ...]]] = {
    "multistep": (6, 12),
    "heun": (3, 4, 6),
    "ddim": (4, 8, 16),
    "ancestral": (8, 16, 32),
    "consistency": (1, 2, 3, 4),
}
_DRAWN: Final = "labels as frequent as in the training rows, seeds from 0, rounded to 256 levels"
_NOISY: Final = "noise of sigma 0.5 on pixels in [0, 1], not clipped; mean PSNR over"


@dataclass(frozen=True, kw_only=True)
class DiffusionFigures:
    """`figures`, how each was measured and on how many rows, by name; `shown` is what only the report shows."""

    figures: dict[str, float] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float, rows: int, protocol: str) -> None:
        self.figures[name], self.rows[name], self.protocols[name] = value, rows, protocol


class Floors:
    """FD ratios to the test rows, what real pictures have being measured once for many questions.

    The same as `generated.fidelity` has them for as many pictures.
    """

    def __init__(self, classifiers: ReferenceClassifiers, rows: int) -> None:
        self.classifiers, self.rows = classifiers, rows
        data = classifiers.data
        test = data.test_x[shuffled(len(data.test_x), seed=SEED)[:rows]]
        self.test = classifiers.features(test)
        order = shuffled(len(data.train_x), seed=SEED)
        portions = order[: RESAMPLES * rows].reshape(-1, rows) if len(order) >= RESAMPLES * rows else [order[:rows]]
        self.train = [classifiers.features(data.train_x[rows]) for rows in portions]
        self.floor = [{e: frechet_distance(f[e], self.test[e]) for e in f} for f in self.train]

    def ratios(self, pictures: Array) -> dict[str, float]:
        """By extractor, of as many pictures as there are rows."""
        found = self.classifiers.features(pictures)
        distance = {e: frechet_distance(found[e], self.test[e]) for e in found}
        return {e: float(np.mean([distance[e] / floor[e] for floor in self.floor])) for e in distance}

    def about(self, pictures: Array) -> float:
        """The mean ratio that `rows` pictures would have, from fewer: what as many training rows have is taken away."""
        found, n = self.classifiers.features(pictures), len(pictures)
        above = []
        for e in found:
            excess = frechet_distance(found[e], self.test[e]) - np.mean(
                [frechet_distance(train[e][:n], self.test[e]) for train in self.train[:2]]
            )
            above.append(excess / np.mean([floor[e] for floor in self.floor]))
        return float(1 + np.mean(above))


class PublishedDenoiser:
    """A published folder as a painter and, where it has an estimator, as a denoiser. Raises `LoadRefused`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        assert manifest.sampling is not None
        assert manifest.picture is not None
        self.declared, self.shape = manifest.sampling, manifest.picture.shape
        self.classes = len(manifest.labels)
        self.session = onnx_model.open_graph(folder, manifest.graphs["denoiser"], threads=THREADS)
        graph = manifest.graphs.get("estimator")
        self.estimator = onnx_model.open_graph(folder, graph, threads=THREADS) if graph else None
        self.ask = generation.asking(self.session, labelled=bool(manifest.labels))

    def draw(self, labels: NDArray[np.int64], sampler: SamplerName, steps: int, *, quiet: bool = True) -> Array:
        """One picture per label, from seeds 0, 1, ... for a thousand each: (N, H, W, C) in [0, 1]."""
        weight = self.declared.guidance.weight if self.declared.guidance else 1.0
        ask = generation.guided(self.ask, weight, self.classes)
        parts = []
        bar = tqdm(range(0, len(labels), PORTION), desc=f"{sampler}, {steps} steps", unit="thousand", disable=quiet)
        for k, i in enumerate(bar):
            rows = labels[i : i + PORTION]
            made = generation.draw(ask, rows, self.shape, self.declared, sampler=sampler, steps=steps, seed=SEED + k)
            parts.append(np.clip(made, 0, 1))
        return np.concatenate(parts)

    def denoise(self, x: Array, sigma: Array) -> Array:
        """The posterior mean without a label: x (N, H, W, C), sigma (N,)."""
        return self.ask(x, sigma, np.full(len(x), self.classes, np.int64))

    def estimate(self, x: Array) -> Array:
        """The noise level of each picture: (N, H, W, C) -> (N,)."""
        assert self.estimator is not None
        return onnx_model.run(self.estimator, {"x": x}, ["sigma"], rows=64)[0]


def score(
    folder: Path,
    manifest: Manifest,
    classifiers: ReferenceClassifiers,
    *,
    most: int | None = None,
    curves: bool = False,
    quiet: bool = True,
) -> DiffusionFigures:
    """Everything the manifest claims; with `curves` also FD ratios of all samplers, from fewer pictures.

    Args:
        most: of pictures and of test rows, where the whole protocol is too long. It changes what an FD ratio is.
    """
    model, found, data = PublishedDenoiser(folder, manifest), DiffusionFigures(), classifiers.data
    rows = min(PICTURES, len(data.test_x), len(data.train_x), most or PICTURES)
    floors = Floors(classifiers, rows)
    labels = data.train_y.numpy()[np.resize(shuffled(len(data.train_y), seed=SEED), max(rows, CAS_PICTURES))]
    sampler = model.declared.samplers[0]
    ratios: dict[str, list[tuple[int, float]]] = {}
    for steps in FEW if sampler.name == "consistency" else MANY:
        pictures = model.draw(labels[:rows], sampler.name, steps, quiet=quiet)
        _add_ratios(found, floors.ratios(pictures), rows, sampler.name, steps)
        ratios.setdefault(sampler.name, []).append((steps, found.figures[f"fd_ratio_{steps}"]))
        if steps == sampler.steps:
            _add_closer(found, model, pictures, labels, classifiers, sampler.name, quiet=quiet, cas=most is None)
    if curves:
        for one in model.declared.samplers:
            for steps in CURVES.get(one.name, ()):
                if all(steps != done for done, _ in ratios.get(one.name, [])):
                    few = model.draw(labels[: min(CURVE_PICTURES, rows)], one.name, steps, quiet=quiet)
                    asked = samplers.evaluations(one.name, steps)
                    ratios.setdefault(one.name, []).append((asked, floors.about(few)))
    found.shown["ratios"] = {name: sorted(points) for name, points in ratios.items()}
    found.shown["denoising"] = (
        _add_denoising(found, model, classifiers, reader(folder, manifest), rows) if model.estimator else None
    )
    return found


def reader(folder: Path, manifest: Manifest) -> Callable[[NDArray[np.uint8]], NDArray[np.int64]] | None:
    """The newest convolutional classifier of the same data set that lies among the same models, if there is one."""
    others = sorted((folder.parent.parent / f"cnn-{manifest.data.spec}").glob("[1-9]*"), key=lambda p: int(p.name))
    if not others:
        return None
    return lambda x: onnx_model.probabilities(others[-1], x).argmax(axis=1)


def _add_ratios(found: DiffusionFigures, by: Mapping[str, float], rows: int, sampler: str, steps: int) -> None:
    what = (
        f"Frechet distance of {rows:,} pictures to as many test rows over that of as many training rows to them, "
        f"mean of {RESAMPLES} resamples of the training rows; {sampler}, {steps} evaluations; {_DRAWN}"
    )
    found.add(f"fd_ratio_{steps}", float(np.mean(list(by.values()))), rows, f"mean over {len(by)} extractors; {what}")
    for name, value in by.items():
        found.add(f"fd_ratio_{steps}_{name}", value, rows, f"extractor {name}; {what}")


def _add_closer(
    found: DiffusionFigures,
    model: PublishedDenoiser,
    pictures: Array,
    labels: NDArray[np.int64],
    classifiers: ReferenceClassifiers,
    sampler: SamplerName,
    *,
    quiet: bool,
    cas: bool,
) -> None:
    """What only the default number of evaluations is asked."""
    rows, steps = len(pictures), model.declared.samplers[0].steps
    seen = generated.fidelity(pictures, classifiers, rows=rows, resamples=1)
    how = f"{sampler}, {steps} evaluations; {_DRAWN}"
    for name in ("precision", "recall", "memorisation"):
        found.add(name, seen.figures[name], rows, f"{generated.PROTOCOLS[name]}; {how}")
    share = generated.class_share(pictures, labels[:rows], classifiers)
    found.add("class_share", share, rows, f"{generated.PROTOCOLS['class_share']}; {how}")
    if cas and model.estimator is not None:
        more = model.draw(labels[rows:CAS_PICTURES], sampler, steps, quiet=quiet)
        gap = generated.cas_gap(np.concatenate([pictures, more]), labels[:CAS_PICTURES], classifiers).gap
        found.add("cas_gap", gap, CAS_PICTURES, f"{generated.PROTOCOLS['cas_gap']}: {CAS_PICTURES:,} of them; {how}")


def _add_denoising(
    found: DiffusionFigures,
    model: PublishedDenoiser,
    classifiers: ReferenceClassifiers,
    read: Callable[[NDArray[np.uint8]], NDArray[np.int64]] | None,
    rows: int,
) -> dict[str, Any]:
    x, y = classifiers.data.test_x.numpy()[:rows], classifiers.data.test_y.numpy()[:rows]
    seen = denoising.measured(model.denoise, model.estimate, x, y, read=read)
    few, at = min(rows, denoising.BESIDE_ROWS), denoising.LEVELS.index(denoising.HEADLINE)
    found.add("denoised_psnr", seen.told[at], rows, f"{_NOISY} {rows:,} test rows; sigma given")
    found.add("blind_psnr", seen.blind[at], rows, f"{_NOISY} {rows:,} test rows; sigma estimated")
    for name in seen.beside:
        if name != "told":
            found.add(f"gain_{name}_psnr", seen.gain(name), few, f"{_NOISY} {few:,} test rows, over {name.upper()}'s")
    if seen.read is not None:
        what = "share of test rows that the convolutional classifier reads rightly after noise of sigma 0.5 was removed"
        found.add("read_accuracy", seen.read, rows, f"{what} blind")
    return asdict(seen)
