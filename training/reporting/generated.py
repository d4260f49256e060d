"""Content for sections of generative models: samples, nearest training pictures, failures. HTML texts.

Pictures are (N, H, W, C), floats from 0 to 1 or bytes. None of them is chosen by hand: each function says by what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.metrics.frechet import nearest
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.reporting import mosaics
from training.reporting.charts import COLOURS, Line, line_chart
from training.reporting.formatting import count, percent
from training.reporting.html import note
from training.reporting.mosaics import mosaic, thumbnail

Pictures = NDArray[Any]
Integers = NDArray[np.integer[Any]]

SHOWN: Final = 100
NEIGHBOURS: Final = 3
FAILURES: Final = 24


def samples(
    pictures: Pictures, requested: Integers | None = None, *, labels: Sequence[str] = (), how: str = "."
) -> str:
    """The pictures of the first seeds as a sheet; a column for each class where classes were requested.

    Args:
        requested: (N,), index into `labels`; the same number of each class is shown, a hundred in all or fewer.
        how: HTML that ends the sentence about the pictures.
    """
    if requested is None:
        shown = _floats(pictures[:SHOWN])
        words = f"The first {count(len(shown))} seeds{how}"
        return f"{note(words)}{mosaic(shown, alt='Generated pictures', columns=min(len(shown), 20))}"
    columns = [np.flatnonzero(np.asarray(requested) == k) for k in range(len(labels))]
    deep = min(max(1, SHOWN // len(labels)), *map(len, columns))
    sheet = np.stack([_floats(pictures[rows[:deep]]) for rows in columns], axis=1)  # (deep, K, H, W, C)
    words = f"The first {count(deep)} seeds of each class, in columns: {', '.join(map(escape, labels))}{how}"
    return f"{note(words)}{mosaic(sheet, alt='Generated pictures, by class', scale=2)}"


def strips(frames: Pictures, words: str) -> str:
    """Interpolations: frames (rows, frames, H, W, C), a line for each row; `words` (HTML) describe them."""
    return f"{note(words)}{mosaic(_floats(frames), alt='Interpolations, step by step', gap=1)}"


def neighbours(pictures: Pictures, train: Pictures, *, limit: int = 20) -> str:
    """The first pictures, and under each its nearest training pictures by the distance of their pixels."""
    first = _floats(pictures[:limit])
    distances, index = nearest(first, _floats(train), limit=NEIGHBOURS)
    near = np.moveaxis(_floats(train[index]), 1, 0)  # (NEIGHBOURS, limit, H, W, C)
    words = (
        f"Above, the first {len(first)} generated pictures; below each, the {NEIGHBOURS} of {count(len(train))} "
        f"training pictures with the nearest pixels. The smallest distance is {distances[:, 0].min():.2f}, the median "
        f"{np.median(distances[:, 0]):.2f} (Euclidean, pixels from 0 to 1). A copy would have 0."
    )
    return f"{note(words)}{mosaic(np.concatenate([first[None], near]), alt='Pictures and their nearest', scale=2)}"


def failures(
    pictures: Pictures, requested: Integers | None, readers: ReferenceClassifiers, *, limit: int = FAILURES
) -> str:
    """The pictures in which independent classifiers are least sure of the requested class; or, where none was
    requested, of any. With their prediction."""
    p = readers.probabilities(pictures)
    read = p.argmax(axis=1)
    wanted = read if requested is None else np.asarray(requested)
    sure = p[np.arange(len(p)), wanted]
    chosen = np.argsort(sure, kind="stable")[:limit]
    labels = readers.data.labels
    cards = []
    for i in chosen:
        want, got = escape(labels[int(wanted[i])]), escape(labels[int(read[i])])
        words = f"<div><span>{want}</span><i>{100 * sure[i]:.0f}</i></div>"
        if want != got:
            words += f'<div class="missed"><span>✗ {got}</span><i>{100 * p[i].max():.0f}</i></div>'
        cards.append(f"<figure>{thumbnail(_bytes(pictures[i]), alt=want)}<figcaption>{words}</figcaption></figure>")
    if requested is None:
        intro = f"Of {count(len(p))} pictures those in which two reference classifiers are least sure of any class."
    else:
        intro = (
            f"Of {count(len(p))} pictures those in which two reference classifiers are least sure of the requested "
            "class: its probability in %, and below it their prediction. They predict the requested class for "
            f"{percent(float((read == wanted).mean()), len(p))} of all."
        )
    return note(intro) + mosaics.gallery(cards, pictures, close=True)


def ratio_chart(curves: Mapping[str, Sequence[tuple[int, float, int]]], *, what: str = "FD ratio") -> str:
    """FD ratio over evaluations, both on log scales, as SVG: by sampler, points (evaluations, ratio, pictures).

    Points from fewer pictures than others are hollow: they are not to be compared with those. Five samplers at most.
    """
    counts = sorted({pictures for points in curves.values() for _, _, pictures in points})
    lines = [
        Line(
            label=name,
            points=[(at, ratio) for at, ratio, _ in sorted(points)],
            colour=colour,
            hollow=[(at, ratio) for at, ratio, pictures in points if pictures < counts[-1]],
        )
        for (name, points), colour in zip(curves.items(), COLOURS, strict=False)
    ]
    fewer = f"from {' or '.join(map(count, counts[:-1]))} pictures" if len(counts) > 1 else ""
    every = [at for points in curves.values() for at, _, _ in points]
    ticks = [2.0**k for k in range(11) if every and min(every) <= 2**k <= max(every)]
    return line_chart(lines, x_label="Evaluations", y_label=what, log_x=True, log_y=True, x_ticks=ticks, hollow=fewer)


def _floats(x: Pictures) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = x.astype(np.float32)
    return floats / np.float32(255) if x.dtype == np.uint8 else floats


def _bytes(x: Pictures) -> NDArray[np.uint8]:
    return x if x.dtype == np.uint8 else np.rint(x.clip(0, 1) * 255).astype(np.uint8)
