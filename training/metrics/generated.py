"""How good generated pictures are: the project's protocol, from pictures alone, whatever model drew them.

fidelity      FD ratio by extractor, precision, recall, memorisation      test rows: once, for a finished model
quick_fd      the same in seconds from a few thousand pictures            held-out rows: to watch a training
class_share   how many show what was asked for
cas_gap       what a classifier loses that learns from generated pictures
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.base import shuffled
from training.metrics.frechet import frechet_distance, nearest, precision_recall
from training.metrics.reference_classifiers import (
    READERS,
    ReferenceClassifiers,
    ReferenceSettings,
    accuracy,
    as_bytes,
    trained,
)

Pictures = NDArray[np.generic] | Tensor
Labels = NDArray[np.integer[Any]] | Tensor

ROWS: Final = 10_000
RESAMPLES: Final = 5
BY: Final = READERS[0]
"""Whose features precision and recall are measured in."""

CAS: Final = ReferenceSettings(network=READERS[0], seed=301, epochs=3, handwriting=0.0)
"""The small classifier of `cas_gap`: no augmentation, which would help where the pictures do not."""

PROTOCOLS: Final = {
    "fd_ratio": "the mean of the three below",
    "fd_ratio_pooled": "Frechet distance of 10,000 pictures to the test rows over that of as many training rows, "
    "mean of 5 resamples; features of a convolutional classifier",
    "fd_ratio_strided": "the same; features of a residual classifier",
    "fd_ratio_random": "the same; features of random weights",
    "precision": "share of pictures that lie among the test rows' 5 nearest neighbours",
    "recall": "share of test rows that lie among the pictures' 5 nearest neighbours",
    "memorisation": "median distance to the nearest training row over that to the nearest test row, of equally many",
    "class_share": "share of pictures in which an independent classifier reads the asked-for class",
    "cas_gap": "points of test accuracy that a small classifier loses which learns from generated pictures",
}


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What `fidelity` found.

    Attributes:
        fd_ratio, spread: by extractor, mean and standard deviation over the resamples; 1 is what real pictures have.
        precision, recall: shares, 0 to 1, means over the resamples.
        memorisation: 1 where the model draws afresh, towards 0 where it copies.
        copied: 0 where the model draws afresh, 1 where all are copies: by how much more often the nearest of all real
            pictures is one of the training set than the numbers of rows explain.
        rows: pictures a resample.
    """

    fd_ratio: dict[str, float]
    spread: dict[str, float]
    precision: float
    recall: float
    memorisation: float
    copied: float
    rows: int

    @property
    def figures(self) -> dict[str, float]:
        """By the names in `PROTOCOLS`."""
        return {
            "fd_ratio": float(np.mean(list(self.fd_ratio.values()))),
            **{f"fd_ratio_{name}": value for name, value in self.fd_ratio.items()},
            "precision": self.precision,
            "recall": self.recall,
            "memorisation": self.memorisation,
        }


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What `quick_fd` found: to compare one moment of a training with another, not to publish.

    Attributes:
        fd_ratio: by extractor; 1 is what as many training pictures have. With few pictures the noise under the line
            is large, so that it understates what `fidelity` will find.
        excess: by extractor, what lies above the noise, in the features' own units: hardly depends on how many
            pictures there are.
    """

    fd_ratio: dict[str, float]
    excess: dict[str, float]
    precision: float
    recall: float

    @property
    def mean_fd_ratio(self) -> float:
        return float(np.mean(list(self.fd_ratio.values())))


@dataclass(frozen=True, kw_only=True)
class Score:
    """Test accuracies of the same small classifier, trained on real pictures and from generated ones."""

    real: float
    generated: float

    @property
    def gap(self) -> float:
        """In points: 100 times the difference."""
        return 100 * (self.real - self.generated)


def fidelity(
    pictures: Pictures,
    classifiers: ReferenceClassifiers,
    *,
    rows: int = ROWS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Fidelity:
    """Hold generated pictures against the test rows.

    `resamples` times, `rows` pictures and as many training rows are drawn; where there are enough, no row is drawn
    twice. 50,000 pictures are best; with 10,000 it is the training rows alone that change.

    Raises:
        ValueError: fewer than `rows` pictures, training or test rows; or pictures of another shape than the data's.
    """
    drawn, train, test = (
        as_bytes(x, classifiers.data) for x in (pictures, classifiers.data.train_x, classifiers.data.test_x)
    )
    mine = [drawn[i] for i in _portions(len(drawn), rows, resamples, seed=seed, what="pictures")]
    portions = _portions(len(train), rows, resamples, seed=seed, what="training rows")
    real = [train[i] for i in portions]
    test = test[_portions(len(test), rows, 1, seed=seed, what="test rows")[0]]

    target = classifiers.features(test)
    found = [classifiers.features(x) for x in mine]
    floors = [{e: frechet_distance(f[e], target[e]) for e in target} for f in map(classifiers.features, real)]
    distances = [{e: frechet_distance(f[e], target[e]) for e in target} for f in found]
    ratios = {e: [distances[k % len(mine)][e] / floors[k][e] for k in range(len(real))] for e in target}
    among = np.array([precision_recall(target[BY], f[BY]) for f in found]).mean(axis=0)

    to_test = nearest(mine[0], test)[0][:, 0]
    to_train = np.stack([nearest(mine[0], x)[0][:, 0] for x in real])  # (resamples, rows)
    seen = len(np.unique(np.concatenate(portions)))
    fair = seen / (seen + rows)
    closer = float((to_train.min(axis=0) < to_test).mean())
    return Fidelity(
        fd_ratio={e: float(np.mean(r)) for e, r in ratios.items()},
        spread={e: float(np.std(r, ddof=1)) if len(r) > 1 else 0.0 for e, r in ratios.items()},
        precision=float(among[0]),
        recall=float(among[1]),
        memorisation=float(np.median(to_train, axis=1).mean() / np.median(to_test)),
        copied=(closer - fair) / (1 - fair),
        rows=rows,
    )


def quick_fd(pictures: Pictures, classifiers: ReferenceClassifiers) -> Glance:
    """Hold some 2,000 generated pictures against the held-out rows: seconds, for use during a training.

    What the real rows' features are is kept in `classifiers`: the first call takes longer.

    Raises:
        ValueError: pictures of another shape than the data's, or too few to have neighbours.
    """
    mine = classifiers.features(pictures)
    rows = min(len(mine[BY]), len(classifiers.data.train_x))
    held, train = classifiers.real("held", len(classifiers.data.held_x)), classifiers.real("train", rows)
    distance = {e: frechet_distance(mine[e], held[e]) for e in held}
    floor = {e: frechet_distance(train[e], held[e]) for e in held}
    both = min(rows, len(held[BY]))
    precision, recall = precision_recall(held[BY][:both], mine[BY][:both])
    return Glance(
        fd_ratio={e: distance[e] / floor[e] for e in held},
        excess={e: distance[e] - floor[e] for e in held},
        precision=precision,
        recall=recall,
    )


def class_share(pictures: Pictures, asked: Labels, classifiers: ReferenceClassifiers) -> float:
    """The share of pictures (N, ...) that are read as the class asked for, an index into labels (N,)."""
    return float((classifiers.labels(pictures) == np.asarray(asked)).mean())


def cas_gap(
    pictures: Pictures, labels: Labels, classifiers: ReferenceClassifiers, *, settings: ReferenceSettings = CAS
) -> Score:
    """Classification accuracy score (Ravuri and Vinyals 2019, arXiv:1905.10887): minutes.

    The same small net, from the same seed, for as many steps, learns from generated pictures and from the real
    training and held-out rows; both are tested on the test rows. Take as many pictures as there are of these.
    """
    data = classifiers.data
    real_x, real_y = torch.cat([data.train_x, data.held_x]), torch.cat([data.train_y, data.held_y])
    real = trained(classifiers.folder, settings, real_x, real_y, title=data.title)
    x, y = as_bytes(pictures, data), torch.as_tensor(labels, dtype=torch.int64)
    generated = trained(None, settings, x, y, title="generated pictures")
    return Score(real=accuracy(real, data.test_x, data.test_y), generated=accuracy(generated, data.test_x, data.test_y))


def _portions(n: int, rows: int, times: int, *, seed: int, what: str) -> list[NDArray[np.int64]]:
    """Row numbers of `times` draws of `rows` from n rows, disjoint where n allows it; of all rows there is but one."""
    if n < rows:
        raise ValueError(f"{what}: expected at least {rows}, got {n}")
    if n == rows:
        return [np.arange(n)]
    if n >= times * rows:
        return list(shuffled(n, seed=seed)[: times * rows].reshape(times, rows))
    return [shuffled(n, seed=seed * times + k)[:rows] for k in range(times)]
