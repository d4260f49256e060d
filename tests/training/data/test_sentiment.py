"""Reviews of films: trees, words that are put together again, folds, official sizes."""

from __future__ import annotations

import bz2
import lzma
from pathlib import Path

import numpy as np
import pytest

from training.data.base import DataError
from training.data.fetch import find
from training.data.sentiment import imdb, joined, rt_polarity, sst2, subtrees

NEEDED = pytest.mark.skipif(find("sst", "dev.ptb.xz") is None, reason="needs the sets of reviews in LECTERN_DATA")


def test_a_tree_is_its_sentence_and_all_its_phrases_with_their_labels() -> None:
    found = list(subtrees("(3 (2 It) (4 (2 's) (4 good)))"))
    assert found[0] == (3, "It's good")
    assert sorted(found[1:]) == [(2, "'s"), (2, "It"), (4, "'s good"), (4, "good")]
    assert next(subtrees("(1 (2 -LRB-) (0 (2 bad) (2 -RRB-)))")) == (1, "(bad)")


@pytest.mark.parametrize("line", ["", "(3 (2 It)", "It 's)", "good"])
def test_what_is_no_tree_is_an_error(line: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        list(subtrees(line))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("it 's laddish , only boys could find it funny .", "it's laddish, only boys could find it funny."),
        ("is n't it ?", "isn't it?"),
        ("the film ( which i liked ) !", "the film (which i liked)!"),
        ("well ... maybe", "well... maybe"),
    ],
)  # fmt: skip
def test_words_are_put_together_as_people_write(words: str, text: str) -> None:
    assert joined(words.split()) == text


def packed(path: Path, lines: list[str], pack: object = lzma.compress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack("".join(f"{line}\n" for line in lines).encode()))  # type: ignore[operator]


def test_neutral_sentences_are_left_out_and_phrases_are_of_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    packed(tmp_path / "sst/train.ptb.xz", ["(3 (2 a) (4 joy))", "(2 (2 so) (1 dull))"])
    packed(tmp_path / "sst/dev.ptb.xz", ["(0 (2 a) (1 bore))"])
    packed(tmp_path / "sst/test.ptb.xz", ["(1 (2 a) (1 mess))", "(4 bliss)"])
    data = sst2()
    assert (data.train.texts, data.train.y.tolist()) == (("a joy",), [1])
    assert dict(zip(data.phrases.texts, data.phrases.y.tolist(), strict=True)) == {"joy": 1, "dull": 0}
    assert data.test.y.tolist() == [0, 1]
    packed(tmp_path / "sst/dev.ptb.xz", ["(0 (2 a)"])
    with pytest.raises(DataError, match=r"dev\.ptb\.xz, line 1: not a tree"):
        sst2()


def test_the_ten_folds_are_the_sentences_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    for label in ("neg", "pos"):
        packed(tmp_path / f"rt-polarity/rt-polarity.{label}", [f"{label} {i} ." for i in range(25)], bytes)
    folds = [rt_polarity(fold) for fold in range(10)]
    assert sorted(text for fold in folds for text in fold.test.texts) == sorted(
        f"{label} {i}." for label in ("neg", "pos") for i in range(25)
    )
    for fold, following in zip(folds, [*folds[1:], folds[0]], strict=True):
        assert fold.held.texts == following.test.texts
        assert not set(fold.train.texts) & set(fold.test.texts + fold.held.texts)
        assert len(fold.train) + len(fold.held) + len(fold.test) == 50
        assert all(text.startswith("pos") == bool(y) for text, y in zip(fold.test.texts, fold.test.y, strict=True))
    with pytest.raises(DataError, match="fold 10 of rt-polarity"):
        rt_polarity(10)


def test_long_reviews_are_read_without_their_line_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    rows = [f"{'neg' if i % 2 else 'pos'}\t3\t{i}\tText {i}.<br /><br />End." for i in range(20)]
    packed(tmp_path / "imdb/train.tsv.bz2", rows, bz2.compress)
    packed(tmp_path / "imdb/test.tsv.bz2", rows[:4], bz2.compress)
    data = imdb()
    assert data.test.texts[1] == "Text 1. End."
    assert data.test.y.tolist() == [1, 0, 1, 0]
    assert (len(data.train), len(data.held)) == (18, 2)
    packed(tmp_path / "imdb/test.tsv.bz2", ["good\t1\t2\tx"], bz2.compress)
    with pytest.raises(DataError, match=r"test\.tsv\.bz2 of IMDB, line 1: expected neg or pos, got 'good'"):
        imdb()
    (tmp_path / "imdb/test.tsv.bz2").unlink()
    with pytest.raises(DataError, match="is missing"):
        imdb()


@pytest.mark.data
@NEEDED
def test_the_sets_have_the_official_sizes() -> None:
    data = sst2()
    assert [len(part) for part in (data.train, data.held, data.test)] == [6920, 872, 1821]
    assert [int(part.y.sum()) for part in (data.train, data.held, data.test)] == [3610, 444, 909]
    fold = rt_polarity(3)
    assert len(fold.train) + len(fold.held) + len(fold.test) == 10_662
    assert np.concatenate([part.y for part in (fold.train, fold.held, fold.test)]).sum() == 5331
