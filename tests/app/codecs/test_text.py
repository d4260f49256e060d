"""Text to ids and back, with tokenizers of the library made here; what is no text is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Made
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from app.codecs.text.reading import Reader
from app.codecs.text.tokenizer import Tokenizer
from app.codecs.text.words import list_of_words, plain, read_words, words_of
from app.core.errors import TooLarge, Unprocessable
from app.core.manifest import Text
from tests.app.texts import END, SOURCE, START, text_fields, word_tokenizer

WORDS = Tokenizer(word_tokenizer(SOURCE))


def reader(tokenizer: Tokenizer = WORDS, known: frozenset[str] | None = None, **fields: int) -> Reader:
    return Reader(Text.model_validate(text_fields(b"", **fields)), tokenizer, known)


def subwords() -> Tokenizer:
    """Byte pairs of a few sentences, spaces in the tokens, a token at both ends."""
    made = Made(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<pad>", "<unk>", START, END], show_progress=False)
    made.train_from_iterator(["a man rides a horse", "a woman walks the dog, slowly.", "café"] * 3, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 2), (END, 3)]
    )
    return Tokenizer(made.to_str().encode())


def test_a_text_becomes_the_ids_of_its_words_and_their_places() -> None:
    read = reader().read("The  dog\nsees", "body.text", truncate=False)
    assert read.encoded.ids.tolist() == [4, 6, 7]
    assert read.encoded.offsets == [(0, 3), (5, 8), (9, 13)]
    assert (read.unknown, read.truncated) == ([], False)
    assert WORDS.decode([4, 6, 7]) == "the dog sees"


def test_a_letter_and_its_accent_are_one_character_however_they_are_sent() -> None:
    tokenizer = subwords()
    composed, apart = (reader(tokenizer).read(text, "t", truncate=False).encoded for text in ("café", "cafe\u0301"))
    assert composed.ids.tolist() == apart.ids.tolist()
    assert composed.tokens == apart.tokens


def test_the_words_that_a_tokenizer_does_not_know_are_named_once_each_where_they_stand() -> None:
    unknown = reader().read("the cat sees the cat's tail", "t", truncate=False).unknown
    assert [(word.text, word.start, word.end) for word in unknown] == [
        ("cat", 4, 7),
        ("cat's", 17, 22),
        ("tail", 23, 27),
    ]


def test_with_a_list_of_words_a_word_is_unknown_that_is_not_in_it_though_its_parts_are() -> None:
    known = read_words(list_of_words(["A man rides the Horse.", "It isn\u2019t a dog-house"]))
    assert sorted(known) == ["a", "dog-house", "horse", "isn't", "it", "man", "rides", "the"]
    found = reader(subwords(), known, max_tokens=99).read("A HORSE rides manhorse, isn't it", "t", truncate=False)
    assert [word.text for word in found.unknown] == ["manhorse"]


@given(st.lists(st.text("ab'-é ", min_size=1, max_size=12), max_size=5))
def test_no_word_of_the_texts_that_made_a_list_is_unknown(texts: list[str]) -> None:
    words = {plain(word.text) for text in texts for word in words_of(text)}
    if words:
        assert read_words(list_of_words(texts)) == words


def test_of_a_text_that_is_too_long_the_last_tokens_are_left_out_but_not_the_one_at_the_end() -> None:
    tokenizer = subwords()
    whole = reader(tokenizer, max_tokens=99).read("a man walks the dog", "t", truncate=False).encoded
    assert (whole.tokens[0], whole.tokens[-1], whole.count) == (START, END, len(whole.ids))
    cut = reader(tokenizer, max_tokens=5).read("a man walks the dog", "t", truncate=True)
    assert cut.truncated
    assert cut.encoded.tokens == [*whole.tokens[:4], END]
    assert cut.encoded.offsets == [*whole.offsets[:4], whole.offsets[-1]]
    with pytest.raises(TooLarge, match=rf"^body.text: has {whole.count} tokens, the limit is 5$"):
        reader(tokenizer, max_tokens=5).read("a man walks the dog", "body.text", truncate=False)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", Unprocessable, "^t: has no text, expected text$"),
        (" \n\t ", Unprocessable, "^t: has 4 characters that say nothing"),
        ("the \x00 dog", Unprocessable, r"^t: character 4 is a control character, U\+0000, expected text"),
        ("the\x9bdog", Unprocessable, r"a control character, U\+009B"),
        ("the \ud83d dog", Unprocessable, r"^t: character 4 is a lone surrogate, U\+D83D"),
        ("a" * 201, TooLarge, "^t: has 201 characters, the limit is 200$"),
        ("the " * 17, TooLarge, "^t: has 17 tokens, the limit is 16$"),
    ],
)
def test_what_is_no_text_is_refused_by_name(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        reader().read(text, "t", truncate=False)


@pytest.mark.parametrize("text", ["the собака 狗 \U0001f415", "\u202ethe\u200b", "the\r\n\tdog"])
def test_scripts_may_be_mixed(text: str) -> None:
    assert reader().read(text, "t", truncate=False).encoded.count >= 2


def test_the_pieces_of_a_text_together_are_the_text() -> None:
    tokenizer = subwords()
    for text in ("a man, slowly.", "the café"):
        ids = tokenizer.encode(text).ids.tolist()
        assert "".join(tokenizer.pieces(ids)) == tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "EOF while parsing"),
        (b"[]", "expected struct"),
        (b'{"version": "1.0"}', "Model missing"),
        (b"\xff\xfe", "expected value"),
        (word_tokenizer(SOURCE)[:-9], "EOF while parsing"),
        (word_tokenizer(()).replace(b'"vocab"', b'"words"'), "vocab"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Tokenizer(data)


@pytest.mark.parametrize(("data", "words"), [(b"", "no words"), (b"\n\n", "no words"), (b"\xff", "utf-8")])
def test_a_file_that_is_no_list_of_words_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_words(data)
