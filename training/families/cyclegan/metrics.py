"""How good translations are: a published CycleGAN's two graphs, measured against the truth that training never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from app.core.manifest import Manifest, Translation
from training.data.domains import Pair
from training.metrics import onnx_model
from training.metrics.images import squared_errors

ROWS_PER_RUN: Final = 64
DIGIT_READER: Final = Path(__file__).parents[3] / "models" / "cnn-mnist" / "1"
"""The classifier that reads translations. It was trained on plain digits, and never helped any translator."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Read = Callable[[Pixels], NDArray[np.int64]]
"""Plain digits (N, H, W, 1) -> classes (N,)."""


@dataclass(frozen=True, kw_only=True)
class ScoredDirection:
    """One direction on N digits: pictures, float32 in [0, 1] or uint8; errors and classes (N,)."""

    way: Translation
    given: Pixels
    made: Floats
    truth: Pixels
    returned: Floats  # of `made`, rounded to 8 bits
    read: NDArray[np.int64]  # class of what was made
    read_truth: NDArray[np.int64]
    y: NDArray[np.int64]

    @property
    def cycle(self) -> NDArray[np.float64]:
        """Mean absolute error of each return, pixels in [0, 1]."""
        return absolute_errors(self.returned, self.given)

    @property
    def squared(self) -> NDArray[np.float64]:
        """Mean squared error of each translation to the truth."""
        return squared_errors(self.made, self.truth)


class PublishedTranslators:
    """A published folder's two graphs in ONNX Runtime on the CPU.

    Raises `LoadRefused` where one is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        threads = torch.get_num_threads()
        self.ways = {way.source: way for way in manifest.translations}
        self.sessions: dict[str, ort.InferenceSession] = {
            way.graph: onnx_model.open_graph(folder, manifest.graphs[way.graph], threads=threads)
            for way in manifest.translations
        }

    def translate(self, source: str, x: Pixels) -> Floats:
        """Pictures of the domain `source`, (N, H, W, C), as the other domain's, (N, H, W, D) in [0, 1]."""
        session = self.sessions[self.ways[source].graph]
        return onnx_model.run(session, {"image": x}, ["translated"], rows=ROWS_PER_RUN)[0]

    def there_and_back(self, source: str, x: Pixels) -> tuple[Floats, Floats]:
        """The translation, and what comes back of it once it is rounded to 8 bits."""
        made = self.translate(source, x)
        return made, self.translate(self.ways[source].target, in_8_bits(made))

    def score(self, pair: Pair, pictures: tuple[Pixels, Pixels], y: NDArray[np.int64]) -> list[ScoredDirection]:
        """Both directions, on the pictures of the same digits in both domains."""
        found, read = [], digit_reader()
        for i, domain in enumerate(pair.domains):
            made, returned = self.there_and_back(domain.name, pictures[i])
            found.append(
                ScoredDirection(
                    way=self.ways[domain.name],
                    given=pictures[i],
                    made=made,
                    truth=pictures[1 - i],
                    returned=returned,
                    read=read(pair.plain[1 - i](in_8_bits(made))),
                    read_truth=read(pair.plain[1 - i](pictures[1 - i])),
                    y=y,
                )
            )
        return found


def digit_reader() -> Read:
    """The classifier of plain digits that is shipped as `cnn-mnist`. Raises: LoadRefused."""
    return lambda x: onnx_model.probabilities(DIGIT_READER, x, threads=torch.get_num_threads()).argmax(axis=1)


def figures(scored: list[ScoredDirection]) -> dict[str, float]:
    """By the names that the manifest's measures have."""
    found: dict[str, float] = {}
    for one in scored:
        name = one.way.graph
        found[f"accuracy_{name}"] = float((one.read == one.y).mean())
        found[f"psnr_{name}"] = psnr(one.squared)
    for one in scored:
        found[f"mae_cycle_{one.way.source}"] = float(one.cycle.mean())
    for one in scored:
        found[f"accuracy_real_{one.way.target}"] = float((one.read_truth == one.y).mean())
    return found


def psnr(squared: NDArray[np.float64]) -> float:
    """10 log10(1 / mse) in dB of single pictures' squared errors (N,); at most 100."""
    return float(-10 * np.log10(max(squared.mean(), 1e-10)))


def protocols(pair: Pair) -> dict[str, str]:
    """How each of `figures` was measured, in words."""
    found: dict[str, str] = {}
    for i, source in enumerate(pair.domains):
        target = pair.domains[1 - i]
        way = f"{source.name}_to_{target.name}"
        found[f"accuracy_{way}"] = (
            f"label kept: share of the {target.name} pictures made of {source.name} ones that the independent "
            f"classifier cnn-mnist 1 reads as the digit that it was{pair.reading[1 - i]}"
        )
        found[f"psnr_{way}"] = (
            f"10 log10(1 / mse) between the {target.name} picture made of a {source.name} one and the same digit's "
            "true one, which training never saw, the mse being the mean over rows, pixels in [0, 1]"
        )
        found[f"mae_cycle_{source.name}"] = (
            f"mean absolute difference between a {source.name} picture and what comes back of its translation, "
            "rounded to 8 bits in between, pixels in [0, 1]"
        )
        found[f"accuracy_real_{target.name}"] = (
            f"the same classifier on the true {target.name} pictures: what no translation needs to exceed"
        )
    return found


def in_8_bits(x: Floats) -> Pixels:
    """[0, 1] -> 0 to 255."""
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def absolute_errors(pictures: Floats, x: Pixels) -> NDArray[np.float64]:
    """Mean absolute error (N,) of pictures in [0, 1] against rows from 0 to 255, both (N, ...)."""
    difference = np.abs((pictures - x / np.float32(255)).astype(np.float64))
    return np.asarray(difference.reshape(len(x), -1).mean(axis=1))
