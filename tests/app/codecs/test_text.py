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
from tests.app.texts import END, PAD, SOURCE, SPECIAL, START, UNKNOWN, text_fields, word_tokenizer
from training.data import tokenizer as trained

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


def in_bytes() -> Tokenizer:
    """Characters that are not in its vocabulary are tokens of their bytes."""
    vocabulary = {token: i for i, token in enumerate(("<unk>", "\u2581", "a", *(f"<0x{i:02X}>" for i in range(256))))}
    made = Made(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(parts)
    return Tokenizer(made.to_str().encode())


def spaced(*, marked: bool, padded: bool = False) -> Tokenizer:
    """Whole words between spaces: a special token that is spelt is a word of the vocabulary."""
    made = Made(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, "<0>", *SOURCE))}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if marked:
        made.add_special_tokens(list(SPECIAL))
    if padded:
        made.enable_padding(pad_id=4, pad_token="<0>")
    return Tokenizer(made.to_str().encode())


def pieces_of_words(unknown: int | None = 1) -> Tokenizer:
    """A unigram model, which takes special tokens for pieces of words."""
    likely = [(piece, -1.0) for piece in (*SPECIAL, *"abdeghmnopst", "<", ">", "/")]
    made = Made(models.Unigram(likely, unk_id=unknown))
    made.add_special_tokens(list(SPECIAL))
    return Tokenizer(made.to_str().encode())


def of_the_training(*, end: bool) -> Tokenizer:
    texts = ["the man sees the dog", "a red train", "a pad, s / s"] * 3
    return Tokenizer(trained.file_of(trained.train(texts, vocabulary=60), end=end).encode())


TOKENIZERS = {
    "words": WORDS,
    "words between spaces": spaced(marked=True),
    "words between spaces, nothing marked": spaced(marked=False),
    "byte pairs": subwords(),
    "byte pairs of the training": of_the_training(end=False),
    "byte pairs of the training with an end": of_the_training(end=True),
    "unigram": pieces_of_words(),
}


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


@pytest.mark.parametrize("text", ["cafe\u0301", "the cafe\u0301, a man"])
def test_a_token_stands_for_the_accents_of_its_letters_as_well(text: str) -> None:
    encoded = reader(subwords()).read(text, "t", truncate=False).encoded
    assert "".join(text[begin:end] for begin, end in encoded.offsets).split() == text.split()
    hangul = "\u1112\u1161\u11ab \u1112\u1161"  # two syllables, a character for each of their sounds
    encoded = reader(in_bytes()).read(hangul, "t", truncate=False).encoded
    assert (hangul[: encoded.offsets[0][1]], hangul[slice(*encoded.offsets[-1])]) == (hangul[:3], hangul[-2:])


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


@pytest.mark.parametrize("text", ["the nai\u0308ve café", "the na\u00efve cafe\u0301", "the na\u00adïve ca\u00adfé"])
def test_a_word_is_known_however_its_accents_are_sent_and_where_its_line_may_break(text: str) -> None:
    known = read_words(list_of_words(["The naïve café"]))
    assert reader(subwords(), known, max_tokens=99).read(text, "t", truncate=False).unknown == []
    first, *_, last = words_of(text)
    assert (first.start, last.end) == (0, len(text))
    assert len(words_of(text)) == 3


@given(st.lists(st.text("ab'-é\u0301\u00ad ", min_size=1, max_size=12), max_size=5))
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


@pytest.mark.parametrize("text", [*SPECIAL, "the <pad>", "</s></s> dog <s>", "<PAD> <pad>dog</s>", "dog </s>"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_text_that_spells_special_tokens_has_none(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    at_the_ends = tokenizer.encode("dog").ids.tolist()
    ids = tokenizer.encode(text).ids.tolist()
    assert [ids.count(i) for i in (0, 2, 3)] == [at_the_ends.count(i) for i in (0, 2, 3)]
    if 3 in at_the_ends:
        assert ids[-1] == 3


@given(st.lists(st.sampled_from([*SPECIAL, "dog", " ", "x", "<", "pad>"]), max_size=8).map("".join))
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_no_text_has_special_tokens(kind: str, text: str) -> None:
    ids = TOKENIZERS[kind].encode(text).ids.tolist()
    ends = TOKENIZERS[kind].encode("").ids.tolist()
    assert [ids.count(i) for i in (0, 2, 3)] == [ends.count(i) for i in (0, 2, 3)]


def test_a_special_token_that_a_text_spells_is_an_unknown_word_of_it() -> None:
    for tokenizer in (WORDS, spaced(marked=True), spaced(marked=False), pieces_of_words()):
        read = reader(tokenizer).read("the <pad> dog", "t", truncate=False)
        assert 1 in read.encoded.ids
        assert "pad" in read.unknown_words
    assert spaced(marked=True).encode(f"the {PAD} dog").tokens == ["the", UNKNOWN, "dog"]
    assert spaced(marked=True).encode(f"the {PAD} dog").offsets == [(0, 3), (4, 9), (10, 13)]


def test_where_nothing_is_unknown_a_special_token_that_a_text_spells_is_left_out() -> None:
    tokenizer = pieces_of_words(unknown=None)
    assert tokenizer.encode("dog<pad>").tokens == ["d", "o", "g"]
    cut = tokenizer.encode("dog</s>dog", most=4)
    assert (cut.tokens, cut.offsets, cut.count) == (["d", "o", "g", "d"], [(0, 1), (1, 2), (2, 3), (7, 8)], 6)


def test_what_a_file_pads_with_is_special_whatever_its_name() -> None:
    assert spaced(marked=False).encode("<0> dog").ids.tolist() == [4, 6 + 1]
    assert spaced(marked=False, padded=True).encode("<0> dog").ids.tolist() == [1, 6 + 1]


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


@pytest.mark.parametrize("text", ["\u200b", "\ufeff \u00ad"])
@pytest.mark.parametrize("end", [False, True])
def test_a_text_of_which_nothing_is_left_is_refused_whatever_stands_at_its_end(text: str, end: bool) -> None:
    with pytest.raises(Unprocessable, match=rf"^t: has {len(text)} characters that say nothing, expected text$"):
        reader(of_the_training(end=end)).read(text, "t", truncate=False)


@pytest.mark.parametrize("text", ["the собака 狗 \U0001f415", "\u202ethe\u200b", "the\r\n\tdog"])
def test_scripts_may_be_mixed(text: str) -> None:
    assert reader().read(text, "t", truncate=False).encoded.count >= 2


def test_the_pieces_of_a_text_together_are_the_text() -> None:
    tokenizer = subwords()
    for text in ("a man, slowly.", "the café"):
        ids = tokenizer.encode(text).ids.tolist()
        assert "".join(tokenizer.pieces(ids)) == tokenizer.decode(ids) == text


def test_a_character_of_several_tokens_is_the_last_ones_piece() -> None:
    tokenizer = in_bytes()
    text = "a 猫猫é"
    ids = tokenizer.encode(text).ids.tolist()
    assert tokenizer.pieces(ids) == ["", "a", " ", "", "", "猫", "", "", "猫", "", "é"]
    assert tokenizer.decode(ids) == text


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
