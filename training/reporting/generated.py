"""Sections for models that draw pictures: what they draw, what is nearest to it, what they fail at. HTML texts.

Pictures are (N, H, W, C), floats from 0 to 1 or bytes. None of them is chosen by hand, and each section says by what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.metrics.frechet import nearest
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.reporting.charts import Colour, Line, line_chart
from training.reporting.mosaics import mosaic
from training.reporting.words import count, percent, picture

Pictures = NDArray[Any]
Integers = NDArray[np.integer[Any]]

SHOWN: Final = 100
NEIGHBOURS: Final = 3
FAILURES: Final = 24
COLOURS: Final[tuple[Colour, ...]] = ("one", "two", "three", "four", "five")


def gallery(pictures: Pictures, asked: Integers | None = None, *, labels: Sequence[str] = (), how: str = ".") -> str:
    """The pictures of the first seeds as a sheet; where classes were asked for, a column for each. `how` (HTML) ends
    the sentence that says so.

    Args:
        asked: (N,), index into `labels`; of each class as many are shown, a hundred in all or fewer.
    """
    if asked is None:
        shown = _floats(pictures[:SHOWN])
        across = min(len(shown), 20)
        words = f"The first {count(len(shown))} seeds{how}"
        return f"{note(words)}{mosaic(shown, alt='What it draws', columns=across)}"
    columns = [np.flatnonzero(np.asarray(asked) == k) for k in range(len(labels))]
    deep = min(max(1, SHOWN // len(labels)), *map(len, columns))
    sheet = np.stack([_floats(pictures[rows[:deep]]) for rows in columns], axis=1)  # (deep, K, H, W, C)
    words = f"Of each class the first {count(deep)} seeds, in columns: {', '.join(map(escape, labels))}{how}"
    return f"{note(words)}{mosaic(sheet, alt='What it draws, by class', scale=2)}"


def ways(frames: Pictures, words: str) -> str:
    """Interpolations, or chains: frames (rows, frames, H, W, C), a line for each row; `words` (HTML) say of what."""
    return f"{note(words)}{mosaic(_floats(frames), alt='Step by step', gap=1)}"


def neighbours(pictures: Pictures, train: Pictures, *, limit: int = 20) -> str:
    """The first pictures, and under each its nearest training pictures by the distance of their pixels."""
    first = _floats(pictures[:limit])
    distances, index = nearest(first, _floats(train), limit=NEIGHBOURS)
    near = np.moveaxis(_floats(train[index]), 1, 0)  # (NEIGHBOURS, limit, H, W, C)
    words = (
        f"Above, the first {len(first)} pictures; below each, the {NEIGHBOURS} of {count(len(train))} training pictures"
        f" that are nearest by their pixels. The smallest distance is {distances[:, 0].min():.2f}, the median "
        f"{np.median(distances[:, 0]):.2f} (Euclidean, pixels from 0 to 1): 0 would be a copy."
    )
    return f"{note(words)}{mosaic(np.concatenate([first[None], near]), alt='Pictures and their nearest', scale=2)}"


def failures(pictures: Pictures, asked: Integers | None, judge: ReferenceClassifiers, *, limit: int = FAILURES) -> str:
    """The pictures in which independent classifiers are least sure of the asked-for class; or, where none was asked
    for, of any. With what they read instead."""
    p = judge.probabilities(pictures)
    read = p.argmax(axis=1)
    wanted = read if asked is None else np.asarray(asked)
    sure = p[np.arange(len(p)), wanted]
    chosen = np.argsort(sure, kind="stable")[:limit]
    labels = judge.data.labels
    cards = []
    for i in chosen:
        want, got = escape(labels[int(wanted[i])]), escape(labels[int(read[i])])
        words = f"<div><span>{want}</span><i>{100 * sure[i]:.0f}</i></div>"
        if want != got:
            words += f'<div class="missed"><span>✗ {got}</span><i>{100 * p[i].max():.0f}</i></div>'
        cards.append(f"<figure>{picture(_bytes(pictures[i]), alt=want)}<figcaption>{words}</figcaption></figure>")
    if asked is None:
        intro = f"Of {count(len(p))} pictures those in which two independent classifiers are least sure of any class."
    else:
        intro = (
            f"Of {count(len(p))} pictures those in which two independent classifiers are least sure of the asked-for "
            f"class: it, its probability in %, and below what they read. They read the asked-for class in "
            f"{percent(float((read == wanted).mean()), len(p))} of all."
        )
    shape = f"{pictures.shape[2]}/{pictures.shape[1]}"
    return f'{note(intro)}<div class="pictures close" style="--shape:{shape}">{"".join(cards)}</div>'


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
    asked = [at for points in curves.values() for at, _, _ in points]
    ticks = [2.0**k for k in range(11) if asked and min(asked) <= 2**k <= max(asked)]
    return line_chart(lines, x_label="Evaluations", y_label=what, log_x=True, log_y=True, x_ticks=ticks, hollow=fewer)


def note(words: str) -> str:
    """A paragraph of HTML `words` that says what is seen below it."""
    return f'<p class="note">{words}</p>'


def _floats(x: Pictures) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = x.astype(np.float32)
    return floats / np.float32(255) if x.dtype == np.uint8 else floats


def _bytes(x: Pictures) -> NDArray[np.uint8]:
    return x if x.dtype == np.uint8 else np.rint(x.clip(0, 1) * 255).astype(np.uint8)
