"""Scores of captions: the values that COCO's own scorers give, and what follows from their definitions."""

from __future__ import annotations

import pytest

from training.metrics.captions import bleu_4, cider_d, cider_d_each, words

# Scored by `CiderScorer(n=4, sigma=6.0)` and `BleuScorer(n=4)`, closest, of pycocoevalcap 1.2, on the same words.
CASES = (
    ("A dog runs.", ["A dog runs through the grass.", "A brown dog is running."], 2.139815094100811),
    ("Two men on a bench in the park.", ["Two men sit on a bench.", "Men sitting in the park.", "Two old men."],
     2.29348524201967),
    ("A dog a dog a dog a dog.", ["A boy and his dog.", "The boy's dog jumps."], 0.17760200508085966),
    ("Blue.", ["A blue car."], 1.6722358879789971),
    ("A man is riding a bike on a path.", ["A man rides a bike on a path.", "A man is riding a bicycle."],
     5.244885891915045),
)  # fmt: skip
WRITTEN = [text for text, _, _ in CASES]
REFERENCES = [own for _, own, _ in CASES]


def test_cider_d_is_what_the_authors_scorer_gives() -> None:
    assert cider_d_each(WRITTEN, REFERENCES) == pytest.approx([score for _, _, score in CASES], rel=1e-12)
    assert cider_d(WRITTEN, REFERENCES) == pytest.approx(2.3056048242190768, rel=1e-12)


def test_bleu_4_is_what_cocos_scorer_gives() -> None:
    assert bleu_4(WRITTEN, REFERENCES) == pytest.approx(48.594889, abs=1e-4)


def test_the_reference_itself_scores_ten_where_it_is_the_only_one() -> None:
    texts = ["A dog runs over the field.", "Two men sit down.", "The boat is red and old."]
    assert cider_d_each(texts, [[text] for text in texts]) == pytest.approx([10.0, 10.0, 10.0])
    assert bleu_4(texts, [[text] for text in texts]) == pytest.approx(100)


def test_no_word_in_common_scores_nothing_nor_does_what_every_reference_has() -> None:
    texts = ["Blue sky.", "A dog."]
    assert cider_d_each(texts, [["A dog."], ["A cat."]])[0] == 0
    assert cider_d_each(["A", "A"], [["A"], ["A"]]) == [0, 0]


def test_a_word_said_often_counts_no_more_than_in_the_reference() -> None:
    references = [["A dog runs."], ["A cat sits."]]
    once, often = (cider_d_each([text, "x"], references)[0] for text in ("dog runs a", "dog dog dog"))
    assert often < once


def test_signs_and_capitals_are_no_words() -> None:
    assert words('The "Boy\'s" T-shirt, é 2!') == ["the", "boys", "t", "shirt", "é", "2"]


def test_pictures_may_have_different_numbers_of_references() -> None:
    assert bleu_4(
        ["A dog runs over grass.", "Two men sit down."], [["A dog runs over grass."], ["x", "Two men sit down."]]
    ) == (pytest.approx(100))
