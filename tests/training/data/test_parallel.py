"""Collections of sentence pairs: lines that belong together, and files that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.sentences import write_lines
from training.data.base import DataError
from training.data.buckets import deal
from training.data.fetch import find
from training.data.parallel import LANGUAGES, joined, multi30k, tatoeba

NEEDED = pytest.mark.skipif(
    find("multi30k", "val.en.gz") is None, reason="needs Multi30k: set LECTERN_DATA to a folder with multi30k/"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    for split, count in (("train", 3), ("val", 2), ("test_2016_flickr", 2), ("test_2018_flickr", 1)):
        for code in ("de", "en"):
            lines = [f"{code} {split} {i}" for i in range(count)]
            write_lines(tmp_path / "multi30k" / f"{split}.{code}.gz", lines)
    for code in ("pt",):
        for split, count in (("train", 3), ("val", 2), ("test_2016_flickr", 2)):
            write_lines(tmp_path / "multi30k" / f"{split}.{code}.gz", [f"{code} {split} {i}" for i in range(count)])
    for split in ("train", "val", "test"):
        write_lines(tmp_path / "tatoeba-en-pt" / f"{split}.tsv.gz", [f"Where {split}?\tOnde {split}?"])
    return tmp_path


@pytest.mark.usefixtures("home")
def test_line_n_of_one_language_is_the_translation_of_line_n_of_the_other() -> None:
    text = multi30k("de", "en")
    assert text.train.source == ("de train 0", "de train 1", "de train 2")
    assert text.train.target == ("en train 0", "en train 1", "en train 2")
    assert list(text.tests) == ["test_2016_flickr", "test_2018_flickr"]
    assert multi30k("en", "de").held.source == ("en val 0", "en val 1")


@pytest.mark.usefixtures("home")
def test_a_test_that_lacks_one_language_is_left_out() -> None:
    assert list(multi30k("en", "pt").tests) == ["test_2016_flickr"]


@pytest.mark.usefixtures("home")
def test_portuguese_is_said_to_be_under_its_own_licence() -> None:
    assert "CC BY-NC 4.0" in multi30k("en", "pt").licence
    assert "CC BY-NC 4.0" not in multi30k("de", "en").licence


@pytest.mark.usefixtures("home")
def test_everyday_sentences_are_read_both_ways() -> None:
    assert tatoeba().tests["tatoeba"].target == ("Onde test?",)
    assert tatoeba("pt", "en").train.source == ("Onde train?",)
    assert joined([tatoeba().train, tatoeba().held]).source == ("Where train?", "Where val?")


def test_what_unicode_calls_a_line_end_does_not_end_a_line(home: Path) -> None:
    for code in ("de", "en"):
        write_lines(home / "multi30k" / f"val.{code}.gz", ["one\u2028still one\x85", "two"])
    assert multi30k("de", "en").held.source == ("one\u2028still one\x85", "two")


def test_files_that_do_not_fit_each_other_are_refused_by_name(home: Path) -> None:
    write_lines(home / "multi30k" / "val.de.gz", ["alone"])
    with pytest.raises(DataError, match="val of Multi30k has 1 de lines and 2 en ones"):
        multi30k("de", "en")
    write_lines(home / "tatoeba-en-pt" / "val.tsv.gz", ["a\tb", "no tab"])
    with pytest.raises(DataError, match=r"val\.tsv\.gz of Tatoeba, line 2"):
        tatoeba()


def test_what_is_missing_or_broken_is_named(home: Path) -> None:
    (home / "multi30k" / "val.en.gz").write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(DataError, match=r"val\.en\.gz: not a whole file"):
        multi30k("de", "en")
    (home / "multi30k" / "val.en.gz").unlink()
    with pytest.raises(DataError, match=r"val\.en\.gz: is missing"):
        multi30k("de", "en")
    with pytest.raises(DataError, match="xx: no language of Multi30k"):
        multi30k("xx", "en")
    with pytest.raises(DataError, match="de to en"):
        tatoeba("de", "en")


def test_batches_hold_rows_of_similar_length_and_no_row_twice() -> None:
    lengths = np.random.default_rng(1).integers(3, 60, 1000)
    dealt = deal(lengths, 16, seed=0, epoch=0)
    assert dealt.shape == (62, 16)
    assert len(np.unique(dealt)) == dealt.size
    padding = np.mean([lengths[row].max() * 16 - lengths[row].sum() for row in dealt]) / (16 * lengths.mean())
    assert padding < 0.08
    starts = lengths[dealt].mean(axis=1)
    assert abs(np.corrcoef(starts[:-1], starts[1:])[0, 1]) < 0.4  # batches themselves are in no order


def test_each_epoch_is_dealt_anew_and_always_the_same() -> None:
    lengths = np.arange(100) % 7
    one, again, other = (deal(lengths, 10, seed=3, epoch=epoch) for epoch in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()
    assert deal(lengths[:4], 10, seed=0, epoch=0).shape == (1, 4)


def test_all_languages_of_multi30k_have_a_name() -> None:
    assert LANGUAGES["pt"] == "Portuguese"


@pytest.mark.data
@NEEDED
def test_the_collections_have_the_official_sizes() -> None:
    for pair, tests in ((("de", "en"), [1000, 1000, 461, 1071]), (("en", "pt"), [1000])):
        text = multi30k(*pair)
        assert (len(text.train), len(text.held)) == (29_000, 1_014)
        assert [len(pairs) for pairs in text.tests.values()] == tests
    everyday = tatoeba()
    assert [len(part) for part in (everyday.train, everyday.held, everyday.tests["tatoeba"])] == [11_254, 630, 1_338]


@pytest.mark.data
@NEEDED
def test_no_test_has_what_the_tokenizer_makes_plain_but_two_lines_of_quotes_and_spaces() -> None:
    for pair in (("de", "en"), ("en", "pt")):
        for pairs in multi30k(*pair).tests.values():
            assert not any("&amp;" in text for text in (*pairs.source, *pairs.target))
    german = multi30k("de", "en").train
    assert sum("&amp;" in text for text in german.target) == 16
    assert sum("\u00a0" in text for text in german.source) == 44
