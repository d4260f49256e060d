"""Reviews of films, negative or positive: SST-2 (sentences and their phrases), rt-polarity (sentences), IMDB (long).

SST's sentences are rt-polarity's: a model of one must not be scored on the other. Both lie in the files divided into
words ("it 's good , is n't it ?"); here they are put together again, as people write.
"""

from __future__ import annotations

import bz2
import lzma
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.data.base import DataError, data_folder, shuffled
from training.data.fetch import find

LABELS: Final = ("negative", "positive")
FOLDS: Final = 10
IMDB_HELD: Final = 2500
NEUTRAL: Final = 2
_BRACKETS: Final = {"-LRB-": "(", "-RRB-": ")", "-lrb-": "(", "-rrb-": ")", "``": '"', "''": '"'}
_JOINED: Final = (
    (re.compile(r" (?=(?:'s|'re|'ve|'ll|'d|'m|n't|'S|N'T)(?: |$))"), ""),
    (re.compile(r" (?=[,.;:!?)\]](?: |$|[,.;:!?)\]]))"), ""),
    (re.compile(r"(?<=[(\[]) "), ""),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """Texts, and of each the index of its label (N,)."""

    texts: tuple[str, ...]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, rows: Sequence[int] | NDArray[np.int64]) -> Texts:
        return Texts(texts=tuple(self.texts[i] for i in rows), y=self.y[np.asarray(rows, np.int64)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Reviews:
    """One data set. `phrases` are parts of training sentences with labels of their own, where there are any."""

    name: str
    title: str
    train: Texts
    held: Texts
    test: Texts
    phrases: Texts
    source: str
    licence: str
    note: str = ""


NONE: Final = Texts(texts=(), y=np.zeros(0, np.int64))


def sst2() -> Reviews:
    """6,920, 872 and 1,821 sentences of the Stanford Sentiment Treebank that are not neutral, and the training ones'
    phrases. Raises: DataError."""

    def sentences(file: str, parts: dict[str, int] | None = None) -> Texts:
        """Whole ones that are not neutral; phrases go into `parts`."""
        whole: list[tuple[str, int]] = []
        for number, line in enumerate(_lines("sst", file, lzma.decompress), 1):
            try:
                (label, text), *below = subtrees(line) if parts is not None else [next(subtrees(line))]
            except (ValueError, IndexError) as error:
                raise DataError(f"{file}, line {number}: not a tree of SST ({error})") from error
            if label != NEUTRAL:
                whole.append((text, label))
            if parts is not None:
                parts |= {text: label for label, text in below if label != NEUTRAL}
        return _texts([(text, label > NEUTRAL) for text, label in whole])

    phrases: dict[str, int] = {}
    train = sentences("train.ptb.xz", phrases)
    return Reviews(
        name="sst2",
        title="Stanford Sentiment Treebank, two labels",
        train=train,
        phrases=_texts([(text, label > NEUTRAL) for text, label in phrases.items()]),
        held=sentences("dev.ptb.xz"),
        test=sentences("test.ptb.xz"),
        source="Socher et al. 2013: Recursive deep models for semantic compositionality, EMNLP",
        licence="none stated; distributed for research",
        note="Neutral sentences are left out, as the task SST-2 does.",
    )


def rt_polarity(fold: int = 0) -> Reviews:
    """10,662 sentences, a tenth of them the test, the next tenth held out; folds are always the same.

    Raises: DataError.
    """
    if not 0 <= fold < FOLDS:
        raise DataError(f"fold {fold} of rt-polarity: expected 0 to {FOLDS - 1}")
    rows = [
        (joined(line.split()), label == "pos")
        for label in ("neg", "pos")
        for line in _lines("rt-polarity", f"rt-polarity.{label}", bytes, encoding="cp1252")
    ]
    every = _texts(rows)
    number = np.empty(len(rows), np.int64)
    number[shuffled(len(rows), seed=0)] = np.arange(len(rows)) % FOLDS
    held = (fold + 1) % FOLDS
    return Reviews(
        name="rt-polarity",
        title="rt-polarity",
        train=every.at(np.flatnonzero((number != fold) & (number != held))),
        held=every.at(np.flatnonzero(number == held)),
        test=every.at(np.flatnonzero(number == fold)),
        phrases=NONE,
        source="Pang and Lee 2005: Seeing stars, ACL",
        licence="none stated; distributed for research",
        note=f"Fold {fold} of {FOLDS} is the test, the next one held out.",
    )


def imdb() -> Reviews:
    """25,000 long reviews, 2,500 of them held out, and 10,000 of the official test. Raises: DataError."""

    def reviews(file: str) -> Texts:
        rows = []
        for number, line in enumerate(_lines("imdb", file, bz2.decompress), 1):
            label, *_, text = line.split("\t", 3)
            if label not in ("neg", "pos"):
                raise DataError(f"{file} of IMDB, line {number}: expected neg or pos, got {label[:20]!r}")
            rows.append((" ".join(text.replace("<br />", " ").split()), label == "pos"))
        return _texts(rows)

    every = reviews("train.tsv.bz2")
    order = shuffled(len(every), seed=0)
    held = min(IMDB_HELD, len(every) // 10)
    return Reviews(
        name="imdb",
        title="Large Movie Review Dataset (IMDB)",
        train=every.at(np.sort(order[held:])),
        held=every.at(np.sort(order[:held])),
        test=reviews("test.tsv.bz2"),
        phrases=NONE,
        source="Maas et al. 2011: Learning word vectors for sentiment analysis, ACL",
        licence="none stated; for research",
        note="Tested on 10,000 of the official test's 25,000 reviews; the 95 % interval at 89 % is 0.6 points "
        "wide each way.",
    )


DATA: Final[dict[str, Callable[[], Reviews]]] = {"sst2": sst2, "rt-polarity": rt_polarity, "imdb": imdb}


def subtrees(line: str) -> Iterator[tuple[int, str]]:
    """Label (0 to 4) and text of a tree of SST, the whole first, then of each of its subtrees.

    Raises: ValueError, IndexError where it is none.
    """
    opened: list[tuple[int, int]] = []  # label and first word
    spans: list[tuple[int, int, int]] = []  # label, first and last word
    words: list[str] = []
    for part in re.findall(r"\(\d|\)|[^\s()]+", line):
        if part == ")":
            spans.append((*opened.pop(), len(words)))
        elif part.startswith("("):
            opened.append((int(part[1]), len(words)))
        else:
            words.append(_BRACKETS.get(part, part))
    if opened or not spans:
        raise ValueError("brackets are not closed" if opened else "no brackets")
    for label, first, last in reversed(spans):
        yield label, joined(words[first:last])


def joined(words: Sequence[str]) -> str:
    """Words of a treebank as a person writes them: no space before a comma, "isn't" in one piece."""
    text = " ".join(words)
    for pattern, by in _JOINED:
        text = pattern.sub(by, text)
    return text


def _texts(rows: Sequence[tuple[str, bool]]) -> Texts:
    return Texts(texts=tuple(text for text, _ in rows), y=np.array([int(label) for _, label in rows], np.int64))


def _lines(folder: str, file: str, unpack: Callable[[bytes], bytes], *, encoding: str = "utf-8") -> list[str]:
    path: Path | None = find(folder, file)
    if path is None:
        raise DataError(f"{data_folder() / folder / file}: is missing; put it there by hand (see docs/training.md)")
    try:
        text = unpack(path.read_bytes()).decode(encoding, errors="replace" if encoding == "cp1252" else "strict")
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a whole file of text ({error})") from error
    return text.removesuffix("\n").split("\n")
