"""Labels of frames as strips, one above the other, and numbers over time as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.reporting.mosaics import mosaic

WIDTH: Final = 960
HEIGHT: Final = 22  # of a strip
LEFT: Final = 110  # room for the strips' names
LETTER: Final = 8.0  # pixels that a letter takes at most, and some room


def strips(rows: Sequence[tuple[str, Sequence[str]]], *, background: str = "", label: str) -> str:
    """SVG: labels (one a frame) of several sources, neighbours that are equal drawn as one; the first is the truth.

    Where another differs from it, it is red. Frames of `background` are left empty where they are right.

    Args:
        rows: names and labels, all of one length; text.
        label: what is seen, for those who cannot see it.
    """
    truth = rows[0][1]
    step = (WIDTH - LEFT) / max(1, len(truth))
    parts = []
    for line, (name, labels) in enumerate(rows):
        top = line * (HEIGHT + 4)
        parts.append(f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>')
        start = 0
        for (word, right), group in groupby((a, a == b) for a, b in zip(labels, truth, strict=True)):
            frames = len(list(group))
            x, width = LEFT + start * step, frames * step
            start += frames
            if right and word == background:
                continue
            name_of = "bar" if right else "wrong"
            shade = "" if right else ' opacity="0.45"'
            parts.append(
                f'<rect class="{name_of}"{shade} x="{x + 0.5:.1f}" y="{top}" width="{width - 1:.1f}" '
                f'height="{HEIGHT}"><title>{escape(word)}</title></rect>'
            )
            if LETTER * len(word) <= width:
                parts.append(
                    f'<text class="strong" x="{x + width / 2:.1f}" y="{top + 15}" text-anchor="middle">'
                    f"{escape(word)}</text>"
                )
    height = len(rows) * (HEIGHT + 4)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" style="max-width:{WIDTH}px" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def above(picture: str) -> str:
    """A picture whose left and right ends are those of the strips under it."""
    inner = f'<div style="margin-left:{LEFT / WIDTH:.3%}">{picture}</div>'
    return f'<div style="max-width:{WIDTH}px">{inner}</div>'


def over_time(values: NDArray[Any], *, alt: str, scale: int = 3, stretch: int = 1) -> str:
    """Numbers from -1 to 1 (T, N) as a picture: time to the right, a row for each number, blue below zero, red above.

    Rows that move together are neighbours: they are in the order of their first principal component.

    Args:
        stretch: pixels a frame, before `scale`.
    """
    x = np.asarray(values, np.float64).clip(-1, 1)
    centred = x - x.mean(axis=0)
    first = np.linalg.svd(centred / (np.linalg.norm(centred, axis=0) + 1e-9), full_matrices=False)[2][0]
    x = x[:, np.argsort(first, kind="stable")].T.repeat(stretch, axis=1)  # (N, T)
    colours = np.stack([1 - np.maximum(-x, 0), 1 - np.abs(x), 1 - np.maximum(x, 0)], axis=2)
    return above(mosaic(colours[None, None], alt=alt, scale=scale, fill=True))
