"""Subword units: the same texts give the same file, what is encoded comes back, and no text is a special token."""

from __future__ import annotations

import json
import unicodedata
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from app.codecs.text.tokenizer import Tokenizer as Served
from tests.training.sentences import translations
from training.data import parallel
from training.data import tokenizer as subwords
from training.data.fetch import find

TEXTS = [*chain.from_iterable(translations()[:300]), *['She said: "It\'s 10,5 % (a ção) - über!"'] * 3]
TOKENIZER = subwords.train(TEXTS, vocabulary=150)
LETTERS = sorted({char for text in TEXTS for char in text})


def decoded(text: str) -> str:
    return str(TOKENIZER.decode(TOKENIZER.encode(text).ids))


def test_training_twice_gives_the_same_file() -> None:
    files = {subwords.file_of(subwords.train(TEXTS, vocabulary=150), end=True) for _ in range(2)}
    assert len(files) == 1
    assert Tokenizer.from_str(files.pop()).get_vocab_size() <= 150


def test_the_first_four_ids_are_padding_unknown_start_and_end() -> None:
    assert [TOKENIZER.id_to_token(i) for i in range(4)] == ["<pad>", "<unk>", "<s>", "</s>"]


@pytest.mark.parametrize("text", ["The red man sees the dog.", 'She said: "It\'s 10,5 %"', "a (ção) - 555, über!"])
def test_what_is_encoded_comes_back(text: str) -> None:
    assert 1 not in TOKENIZER.encode(text).ids
    assert decoded(text) == text


@given(st.text(st.sampled_from(LETTERS), max_size=40))
def test_any_text_of_known_letters_comes_back_but_for_its_spaces(text: str) -> None:
    assert decoded(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("men &amp; dogs", "men & dogs"),
        ("10\u00a0men\u2009see", "10 men see"),
        ("\ta\u0000b\n\nc ", "a b c"),
        ("so\u00adft\u200b", "soft"),
        ("„a“ «b» ‘c’", '"a" "b" \'c\''),
        ("a–b…", "a-b..."),
        ("a\u2581b", "a_b"),
        (unicodedata.normalize("NFD", "ção"), "ção"),
    ],
)
def test_characters_that_mean_the_same_are_made_one(text: str, plain: str) -> None:
    assert TOKENIZER.normalizer.normalize_str(text) == plain


def test_without_capitals_a_word_is_the_same_in_any() -> None:
    small = subwords.train(TEXTS, vocabulary=150, lower=True)
    assert small.encode("THE Red man").ids == small.encode("the red man").ids
    assert TOKENIZER.encode("The man").ids != TOKENIZER.encode("the man").ids


@pytest.mark.parametrize("special", subwords.SPECIAL)
def test_a_text_that_spells_a_special_token_is_a_text(special: str) -> None:
    ids = TOKENIZER.encode(f"the {special} man").ids
    assert not {0, 2, 3} & set(ids)
    assert len(ids) > 4


def test_letters_that_were_never_or_seldom_seen_are_unknown() -> None:
    assert 1 in TOKENIZER.encode("☃").ids
    rare = subwords.train([*TEXTS, "ß ß"], vocabulary=150)
    assert 1 in rare.encode("ß").ids
    assert 1 not in subwords.train([*TEXTS, "ß ß ß"], vocabulary=150).encode("ß").ids


def test_what_is_read_ends_in_the_end_and_the_server_reads_it_alike() -> None:
    file = subwords.file_of(TOKENIZER, end=True)
    served = Served(file.encode())
    (ids,) = subwords.encode(Tokenizer.from_str(file), ["The man sees the dog."])
    assert served.encode("The man sees the dog.").ids.tolist() == ids.tolist()
    assert ids.tolist() == [*TOKENIZER.encode("The man sees the dog.").ids, 3]
    assert served.encode("The man sees the dog.", most=3).ids.tolist() == [*ids[:2], 3]
    assert served.unknown == 1
    assert served.decode(ids[:-1].tolist()) == "The man sees the dog."
    assert json.loads(file)["added_tokens"] == []


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(find("multi30k", "val.en.gz") is None, reason="needs Multi30k in LECTERN_DATA")
@pytest.mark.parametrize("pair", [("de", "en"), ("en", "pt")])
def test_every_sentence_of_multi30k_comes_back_as_it_was_read(pair: tuple[str, str]) -> None:
    text = parallel.multi30k(*pair)
    for train, more in (
        (text.train.source, text.tests["test_2016_flickr"].source),
        (text.train.target, text.tests["test_2016_flickr"].target),
    ):
        tokenizer = subwords.train(train, vocabulary=4000)
        for sentence in (*train, *more):
            ids = tokenizer.encode(sentence).ids
            assert 1 in ids or tokenizer.decode(ids) == tokenizer.normalizer.normalize_str(sentence)
