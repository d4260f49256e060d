"""Sections of a classifier of pictures: confusion matrix, mistakes, a random sample, figures by class.

Every label is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.metrics import classification as measure
from training.reporting import charts
from training.reporting.formatting import count, percent
from training.reporting.html import Section, note
from training.reporting.mosaics import gallery, thumbnail
from training.reporting.table import Row, table
from training.reporting.table import label as name

MATRIX_CLASSES: Final = 25
MISTAKES: Final = 24
SAMPLE: Final = 60
SAMPLE_SEED: Final = 0
PAIRS: Final = 10
WEAKEST: Final = 20

Pictures = NDArray[np.uint8]  # (N, H, W, C)
Probabilities = NDArray[np.float32]  # (N, K)
Labels = Sequence[str]


def confusion(matrix: NDArray[np.int64], labels: Labels) -> Section:
    """The confusion matrix up to 25 classes, above that a map; beside it the most frequent confusions."""
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    words = f"{count(int(off.sum()))} of {count(int(matrix.sum()))} rows are wrong. "
    if len(labels) <= MATRIX_CLASSES:
        words += "Rows are true labels, columns predicted ones; red grows with the number of mistakes."
        drawing = _matrix(matrix, off, labels)
    else:
        words += f"With {len(labels)} classes the matrix is a map: a square for each pair of classes that was confused."
        drawing = f'<div class="map">{charts.confusion_map(matrix)}</div>'
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, off.shape), strict=True) if off[i, j]]
    rows = [
        (name(labels[i]), name(labels[j]), int(off[i, j]), percent(off[i, j] / matrix[i].sum(), 1000)) for i, j in pairs
    ]
    titles = ("True", "<Predicted", "Rows", "Of the class")
    frequent = f"<div><h3>Most frequent</h3>{table(titles, rows)}</div>" if pairs else ""
    return Section(
        "confusion",
        "Confusion matrix",
        f'{note(words)}<div class="side"><div class="scroll">{drawing}</div>{frequent}</div>',
    )


def _matrix(matrix: NDArray[np.int64], off: NDArray[np.int64], labels: Labels) -> str:
    most = max(1, int(off.max()))
    tall = max(map(len, labels)) > 3
    body = []
    for i, label in enumerate(labels):
        cells = []
        for j, n in enumerate(matrix[i]):
            if i == j:
                cells.append(f'<td class="right">{n}</td>')
            elif n:
                cells.append(f'<td style="--t:{0.1 + 0.6 * math.sqrt(n / most):.2f}">{n}</td>')
            else:
                cells.append('<td class="none">·</td>')
        head = f'<th title="{escape(label)}">{escape(label)}</th>'
        total = f'<td class="edge count">{count(int(matrix[i].sum()))}</td>'
        body.append(f"<tr>{head}{''.join(cells)}{total}</tr>")
    heads = "".join(f'<th title="{escape(label)}"><span>{escape(label)}</span></th>' for label in labels)
    return (
        f'<table class="confusion"><thead{" class=tall" if tall else ""}><tr><td></td>{heads}'
        f'<th class="edge count"><span>rows</span></th></tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def mistakes(x: Pictures, p: Probabilities, y: NDArray[np.int64], labels: Labels) -> Section:
    """Pictures with a wrong prediction, the most confident first."""
    section = Section("mistakes", "The most confident mistakes", "")
    wrong = int((p.argmax(axis=1) != y).sum())
    if not wrong:
        return replace(section, body=note("None: every row was classified correctly."))
    chosen = measure.most_confident_mistakes(p, y, limit=MISTAKES)
    cards = []
    for i in chosen:
        g, t = int(p[i].argmax()), int(y[i])
        cards.append(
            f"<figure>{thumbnail(x[i], alt=f'{labels[t]}, predicted {labels[g]}')}<figcaption>"
            f"{_bar(labels[g], float(p[i, g]), right=False)}{_bar(labels[t], float(p[i, t]), right=True)}"
            "</figcaption></figure>"
        )
    which = f"The {len(chosen)} most confident of {count(wrong)} mistakes" if wrong > len(chosen) else "All mistakes"
    words = f"{which}. ✗ and red: the predicted label and its probability in %. ✓ and blue: the same of the true label."
    return replace(section, body=note(words) + gallery(cards, x, long=_are_words(labels)))


def sample(x: Pictures, p: Probabilities, y: NDArray[np.int64], labels: Labels) -> Section:
    """Rows chosen by a fixed seed."""
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(y))[:SAMPLE]
    guess = p.argmax(axis=1)
    cards = []
    for i in chosen:
        g, t = int(guess[i]), int(y[i])
        predicted, true, sure = escape(labels[g]), escape(labels[t]), _sure(float(p[i, g]))
        if g == t:
            words = f'<div><span title="{predicted}">{predicted}</span><i>{sure}</i></div>'
        else:
            words = (
                f'<div class="missed"><span title="{predicted}">✗ {predicted}</span><i>{sure}</i></div>'
                f'<div><span title="{true}">✓ {true}</span></div>'
            )
        mark = "" if g == t else ' class="wrong"'
        cards.append(f"<figure{mark}>{thumbnail(x[i], alt=labels[t])}<figcaption>{words}</figcaption></figure>")
    words = (
        f"{len(chosen)} rows chosen at random (seed {SAMPLE_SEED}), each with the predicted label and its probability "
        f"in %; {int((guess[chosen] != y[chosen]).sum())} of them wrong."
    )
    body = note(words) + gallery(cards, x, close=True, long=_are_words(labels))
    return Section("sample", "A random sample", body)


def classes(matrix: NDArray[np.int64], labels: Labels) -> Section:
    """Recall, precision and F1 of every class; of many classes the weakest first, the rest folded."""
    precision, recall = measure.precision_recall(matrix)
    order = np.arange(len(labels))
    if many := len(labels) > MATRIX_CLASSES:
        order = np.argsort(np.nan_to_num(recall, nan=2.0), kind="stable")
    rows: list[Row] = []
    for i in map(int, order):
        n, right, predicted = int(matrix[i].sum()), int(matrix[i, i]), int(matrix[:, i].sum())
        f1 = 2 * right / (n + predicted) if n + predicted else math.nan
        shares = (percent(float(v), int(matrix.sum())) for v in (recall[i], precision[i], f1))
        rows.append((name(labels[i]), n, n - right, predicted - right, *shares))
    titles = ("Class", "Rows", "False negatives", "False positives", "Recall", "Precision", "F1")
    words = "Recall: the share of the rows of a class that are predicted as it. Precision: the share of the rows "
    words += "predicted as a class that are of it."
    body = note(words) + table(titles, rows)
    if many:
        rest = table(titles, rows[WEAKEST:])
        body = (
            f"{note(f'{words} The weakest first.')}{table(titles, rows[:WEAKEST])}"
            f"<details><summary>The other {len(rows) - WEAKEST} classes</summary>{rest}</details>"
        )
    return Section("classes", "Figures by class", body)


def _bar(label: str, share: float, *, right: bool) -> str:
    role, sign, name = "true" if right else "predicted", "✓" if right else "✗", escape(label)
    shown = f"{100 * share:.{1 if share < 0.9995 else 2}f}" if share >= 0.0005 else "&lt;0.1"
    return (
        f'<div><span title="{role}: {name}">{sign} <b>{name}</b></span><i>{shown}</i></div>'
        f'<div class="meter {role}" style="--p:{share:.4f}"></div>'
    )


def _are_words(labels: Labels) -> bool:
    """Whether the cards must be wide."""
    return max(map(len, labels)) > 6


def _sure(share: float) -> str:
    """Per cent without decimals, but 100 only where it is: 0.996 -> `>99`."""
    return "&gt;99" if 0.995 <= share < 0.99995 else f"{100 * share:.0f}"
