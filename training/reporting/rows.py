"""The sections that show classes and rows: what is taken for what, mistakes, a sample. Every label is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.metrics import classification as measure
from training.reporting import charts
from training.reporting.words import count, percent, picture, table

MATRIX_CLASSES: Final = 25
MISTAKES: Final = 24
SAMPLE: Final = 60
SAMPLE_SEED: Final = 0
PAIRS: Final = 10
WEAKEST: Final = 20

Pictures = NDArray[np.uint8]  # (N, H, W, C)
Probabilities = NDArray[np.float32]  # (N, K)
Labels = Sequence[str]


def confusion(matrix: NDArray[np.int64], labels: Labels) -> str:
    """The confusion matrix up to 25 classes, above that a map; beside it the most frequent confusions."""
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    note = f"{count(int(off.sum()))} of {count(int(matrix.sum()))} rows are wrong. "
    if len(labels) <= MATRIX_CLASSES:
        note += "Rows are true labels, columns the given ones; red grows with the number of mistakes."
        drawing = _matrix(matrix, off, labels)
    else:
        note += f"With {len(labels)} classes the matrix is a map: a square for each pair of classes that was confused."
        drawing = f'<div class="map">{charts.confusion_map(matrix)}</div>'
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, off.shape), strict=True) if off[i, j]]
    rows = [
        f"<tr>{_name(labels[i])}{_name(labels[j])}"
        f"<td>{count(int(off[i, j]))}</td><td>{percent(off[i, j] / matrix[i].sum(), 1000)}</td></tr>"
        for i, j in pairs
    ]
    frequent = f"<div><h3>Most frequent</h3>{table(('True', '<Taken for', 'Rows', 'Of the class'), rows)}</div>"
    beside = frequent if pairs else ""
    return f'<p class="note">{note}</p><div class="side"><div class="scroll">{drawing}</div>{beside}</div>'


def _name(label: str) -> str:
    return f'<td class="label left" title="{escape(label)}">{escape(label)}</td>'


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


def mistakes(x: Pictures, p: Probabilities, y: NDArray[np.int64], labels: Labels) -> str:
    """Pictures that were answered wrongly, the surest answer first."""
    wrong = int((p.argmax(axis=1) != y).sum())
    if not wrong:
        return '<p class="note">None: every row was answered correctly.</p>'
    chosen = measure.most_confident_mistakes(p, y, limit=MISTAKES)
    cards = []
    for i in chosen:
        g, t = int(p[i].argmax()), int(y[i])
        cards.append(
            f"<figure>{picture(x[i], alt=f'{labels[t]}, taken for {labels[g]}')}<figcaption>"
            f"{_bar(labels[g], float(p[i, g]), right=False)}{_bar(labels[t], float(p[i, t]), right=True)}"
            "</figcaption></figure>"
        )
    which = f"The {len(chosen)} surest of {count(wrong)} mistakes" if wrong > len(chosen) else "Every mistake there is"
    return (
        f'<p class="note">{which}. ✗ and red: the given label and its probability in %. ✓ and blue: the true label and '
        f"what was left for it.</p>{_gallery(cards, x, labels, close=False)}"
    )


def sample(x: Pictures, p: Probabilities, y: NDArray[np.int64], labels: Labels) -> str:
    """Rows drawn by a fixed seed."""
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(y))[:SAMPLE]
    guess = p.argmax(axis=1)
    cards = []
    for i in chosen:
        g, t = int(guess[i]), int(y[i])
        given, true, sure = escape(labels[g]), escape(labels[t]), _sure(float(p[i, g]))
        if g == t:
            words = f'<div><span title="{given}">{given}</span><i>{sure}</i></div>'
        else:
            words = (
                f'<div class="missed"><span title="{given}">✗ {given}</span><i>{sure}</i></div>'
                f'<div><span title="{true}">✓ {true}</span></div>'
            )
        mark = "" if g == t else ' class="wrong"'
        cards.append(f"<figure{mark}>{picture(x[i], alt=labels[t])}<figcaption>{words}</figcaption></figure>")
    return (
        f'<p class="note">{len(chosen)} rows drawn at random (seed {SAMPLE_SEED}), not chosen by hand, each with the '
        f"given label and its probability in %; {int((guess[chosen] != y[chosen]).sum())} of them wrong.</p>"
        f"{_gallery(cards, x, labels, close=True)}"
    )


def classes(matrix: NDArray[np.int64], labels: Labels) -> str:
    """Recall, precision and F1 of every class; of many classes the weakest first, the rest folded."""
    precision, recall = measure.precision_recall(matrix)
    order = np.arange(len(labels))
    if many := len(labels) > MATRIX_CLASSES:
        order = np.argsort(np.nan_to_num(recall, nan=2.0), kind="stable")
    rows = []
    for i in map(int, order):
        n, right, given = int(matrix[i].sum()), int(matrix[i, i]), int(matrix[:, i].sum())
        f1 = 2 * right / (n + given) if n + given else math.nan
        shares = "".join(f"<td>{percent(float(v), int(matrix.sum()))}</td>" for v in (recall[i], precision[i], f1))
        rows.append(
            f"<tr>{_name(labels[i])}<td>{count(n)}</td><td>{count(n - right)}</td><td>{count(given - right)}</td>"
            f"{shares}</tr>"
        )
    titles = ("Class", "Rows", "Missed", "Wrongly given", "Recall", "Precision", "F1")
    note = '<p class="note">Recall: right of those that have the label. Precision: right of those given it.'
    if not many:
        return f"{note}</p>{table(titles, rows)}"
    rest = table(titles, rows[WEAKEST:])
    return (
        f"{note} The weakest first.</p>{table(titles, rows[:WEAKEST])}"
        f"<details><summary>The other {len(rows) - WEAKEST} classes</summary>{rest}</details>"
    )


def _bar(label: str, share: float, *, right: bool) -> str:
    role, sign, name = "true" if right else "given", "✓" if right else "✗", escape(label)
    shown = f"{100 * share:.{1 if share < 0.9995 else 2}f}" if share >= 0.0005 else "&lt;0.1"
    return (
        f'<div><span title="{role}: {name}">{sign} <b>{name}</b></span><i>{shown}</i></div>'
        f'<div class="meter {role}" style="--p:{share:.4f}"></div>'
    )


def _gallery(cards: Sequence[str], x: Pictures, labels: Labels, *, close: bool) -> str:
    """A grid of pictures, wider where labels are words."""
    name = f"pictures{' close' if close else ''}{' long' if max(map(len, labels)) > 6 else ''}"
    return f'<div class="{name}" style="--shape:{x.shape[2]}/{x.shape[1]}">{"".join(cards)}</div>'


def _sure(share: float) -> str:
    """Per cent without decimals, but 100 only where it is: 0.996 -> `>99`."""
    return "&gt;99" if 0.995 <= share < 0.99995 else f"{100 * share:.0f}"
