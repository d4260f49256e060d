"""Sentences and their translations: Multi30k (captions of pictures) and Tatoeba (everyday sentences).

Text is as it lies in the files. What is odd in them (Multi30k has `&amp;` in 16 lines of English, and no-break spaces
in 45 of German and 2 of Portuguese) is made plain by the tokenizer, so that it is the same for what is served. Scores
are against references as they are: BLEU's 13a and chrF make no difference between spaces, and no test set has `&amp;`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.data.base import DataError, data_folder
from training.data.fetch import find

MULTI30K: Final = "multi30k"
TATOEBA: Final = "tatoeba-en-pt"
LANGUAGES: Final = {"cs": "Czech", "de": "German", "en": "English", "fr": "French", "pt": "Portuguese"}
TESTS: Final = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco", "test_2018_flickr")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Sentences, and of each its translation."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)

    def first(self, rows: int | None) -> Pairs:
        return Pairs(source=self.source[:rows], target=self.target[:rows])


@dataclass(frozen=True, kw_only=True)
class ParallelText:
    """One collection in one direction. `held` is for selection and calibration; `tests` by name, the usual one first.

    `source` and `target` are codes of languages; `origin` says where the text is from.
    """

    name: str
    title: str
    source: str
    target: str
    train: Pairs
    held: Pairs
    tests: dict[str, Pairs]
    origin: str
    licence: str


def multi30k(source: str, target: str) -> ParallelText:
    """29,000 captions of pictures, 1,014 held out, and the tests that there are in both languages.

    Raises: DataError.
    """
    for code in (source, target):
        if code not in LANGUAGES:
            raise DataError(f"{code}: no language of Multi30k; there are {', '.join(LANGUAGES)}")

    def pairs(split: str) -> Pairs:
        lines = [_lines(MULTI30K, f"{split}.{code}.gz") for code in (source, target)]
        if len(lines[0]) != len(lines[1]):
            raise DataError(f"{split} of Multi30k has {len(lines[0])} {source} lines and {len(lines[1])} {target} ones")
        return Pairs(source=tuple(lines[0]), target=tuple(lines[1]))

    there = [
        test for test in TESTS if all(find(MULTI30K, f"{test}.{code}.gz") is not None for code in (source, target))
    ]
    portuguese = "pt" in (source, target)
    return ParallelText(
        name=MULTI30K,
        title="Multi30k",
        source=source,
        target=target,
        train=pairs("train"),
        held=pairs("val"),
        tests={test: pairs(test) for test in there or TESTS[:1]},
        origin="Elliott et al. 2016: Multi30K, github.com/multi30k/dataset"
        + ("; Viridiano et al. 2024: Framed Multi30K (Brazilian Portuguese)" if portuguese else ""),
        licence="non-commercial research and education" + (" (Portuguese: CC BY-NC 4.0)" if portuguese else ""),
    )


def tatoeba(source: str = "en", target: str = "pt") -> ParallelText:
    """11,254 everyday sentences in English and Portuguese, 630 held out, 1,338 to test; no sentence is in two of them.

    Raises: DataError.
    """
    if {source, target} != {"en", "pt"}:
        raise DataError(f"{source} to {target}: the Tatoeba sentences are English and Portuguese")

    def pairs(split: str) -> Pairs:
        rows = [line.split("\t") for line in _lines(TATOEBA, f"{split}.tsv.gz")]
        wrong = next((i for i, row in enumerate(rows, 1) if len(row) != 2), None)
        if wrong:
            raise DataError(f"{split}.tsv.gz of Tatoeba, line {wrong}: expected two sentences and a tab between them")
        english, portuguese = zip(*rows, strict=True)
        one, other = (english, portuguese) if source == "en" else (portuguese, english)
        return Pairs(source=one, target=other)

    return ParallelText(
        name=TATOEBA,
        title="Tatoeba",
        source=source,
        target=target,
        train=pairs("train"),
        held=pairs("val"),
        tests={"tatoeba": pairs("test")},
        origin="tatoeba.org and its contributors, by github.com/Helsinki-NLP/OPUS-MT-testsets",
        licence="CC BY 2.0 FR",
    )


def joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(
        source=tuple(text for part in parts for text in part.source),
        target=tuple(text for part in parts for text in part.target),
    )


def _lines(folder: str, file: str) -> list[str]:
    """The lines of a gzipped file. Only a line feed ends one: some hold characters that Unicode calls line ends."""
    path: Path | None = find(folder, file)
    if path is None:
        raise DataError(f"{data_folder() / folder / file}: is missing; put it there by hand (see docs/training.md)")
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a whole file of gzipped text ({error})") from error
    return text.removesuffix("\n").split("\n")
