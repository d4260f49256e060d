"""What the cells of a column are: numbers, or a few words; and one fault reported where they are neither."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.data.base import DataError
from training.data.csv_cells import Cells

MISSING: Final = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "?"})
_POINT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA: Final = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+)(?:,[0-9]*)?(?:[eE][+-]?[0-9]+)?|[+-]?,[0-9]+")
MOST: Final = float(np.finfo(np.float32).max)
SLIPS: Final = 0.1  # a smaller share of cells that are no numbers are slips of the pen, not categories


@dataclass(frozen=True)
class Values:
    """The cells of one column: `numbers` (N,) float64 where all that are there are numbers, else None; `texts` (N,)
    are the cells, None where one is missing."""

    texts: list[str | None]
    numbers: NDArray[np.float64] | None

    @property
    def present(self) -> list[str]:
        return [text for text in self.texts if text is not None]


def values(cells: Cells, column: int) -> Values:
    """Read one column.

    Numbers have a decimal point; or, all of a column and where cells are not parted by commas, a decimal comma, and
    then perhaps points between thousands.

    Raises: DataError at the first cell that is no number in a column where nine of ten are; or beyond float32.
    """
    raw = [row[column] for row in cells.rows]
    texts = [None if text.casefold() in MISSING else text for text in raw]
    present = [text for text in texts if text is not None]
    if not present:
        return Values(texts, None)
    patterns = (_POINT,) if cells.delimiter == "," else (_POINT, _COMMA)
    fits = [sum(pattern.fullmatch(text) is not None for text in present) for pattern in patterns]
    best = int(np.argmax(fits))
    if fits[best] == len(present):
        return Values(texts, _numbers(cells, column, texts, comma=best == 1))
    if fits[best] > (1 - SLIPS) * len(present):
        slip = next(i for i, t in enumerate(texts) if t is not None and not patterns[best].fullmatch(t))
        raise DataError(
            f"{cells.at(slip, column)}: {_shown(texts[slip] or '')} is not a number, as {fits[best]} of "
            f"{len(present)} cells of the column are; mend it, or leave the cell empty"
        )
    return Values(texts, None)


def places(cells: Cells, column: int, texts: Sequence[str | None], words: Sequence[str]) -> NDArray[np.float64]:
    """Each cell's place among `words`, NaN where it is missing. Raises: DataError at a cell that is none of them."""
    place = {word: float(i) for i, word in enumerate(words)}
    found = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if text is None:
            continue
        if text not in place:
            some = ", ".join(list(place)[:10]) + (", ..." if len(place) > 10 else "")
            raise DataError(f"{cells.at(i, column)}: {_shown(text)} is none of {some}")
        found[i] = place[text]
    return found


def words(present: Sequence[str]) -> tuple[str, ...]:
    """The different texts in order: numbers by their size, other words by the alphabet."""
    different = set(present)
    if all(_POINT.fullmatch(text) for text in different):
        return tuple(sorted(different, key=lambda text: (float(text), text)))
    return tuple(sorted(different, key=lambda text: (text.casefold(), text)))


def counts_rows(numbers: NDArray[np.float64]) -> bool:
    """Whether a column only numbers the rows: whole numbers, each one more than the one before."""
    return len(numbers) > 2 and bool(np.isfinite(numbers).all() and (np.diff(numbers) == 1).all())


def repeats_little(present: Sequence[str]) -> bool:
    """Whether texts are names or prose rather than categories: more than half of them occur once, or over 1,000."""
    counts = Counter(present)
    once = sum(count == 1 for count in counts.values())
    return len(counts) > 1000 or (len(counts) > 2 and once > len(present) / 2)


def _numbers(cells: Cells, column: int, texts: Sequence[str | None], *, comma: bool) -> NDArray[np.float64]:
    found = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if text is None:
            continue
        found[i] = float(text.replace(".", "").replace(",", ".") if comma else text)
        if abs(found[i]) > MOST:
            raise DataError(f"{cells.at(i, column)}: {_shown(text)} is beyond what float32 holds, {MOST:.3g}")
    return found


def _shown(text: str) -> str:
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"
