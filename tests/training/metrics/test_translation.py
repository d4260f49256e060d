"""BLEU and chrF by known answers, and searches that share runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.core.decoding.writing import Search
from training.metrics.translation import bleu, bleu_lower, bleu_of_words, chrf, sentence_chrf
from training.metrics.writing import finish


def test_bleu_of_one_sentence_is_the_mean_of_its_precisions() -> None:
    # Of "the man sees a red dog .": 7 words, 6 pairs, 5 threes, 4 fours; one word is another than in the reference.
    written, reference = "The man sees a red dog.", "The man sees a big dog."
    precisions = (6 / 7) * (4 / 6) * (2 / 5) * (1 / 4)
    assert bleu([written], [reference]) == pytest.approx(100 * precisions**0.25)


def test_short_translations_are_punished() -> None:
    reference = "one two three four five six seven eight ."
    written = "one two three four five six"
    assert bleu([written], [reference]) == pytest.approx(100 * exp(1 - 9 / 6))


def test_case_counts_unless_it_is_said_not_to() -> None:
    written, reference = ["the man sees a red dog."], ["The Man sees a red dog."]
    assert bleu(written, reference) < bleu_lower(written, reference) == pytest.approx(100)


def test_bleu_takes_for_equal_what_chrf_does_not() -> None:
    written, reference = ["Dogs &amp; men run in the &quot;park&quot;"], ['Dogs & men run in the "park"']
    assert bleu(written, reference) == pytest.approx(100)
    assert chrf(written, reference) < 80


def test_chrf_of_no_common_letter_is_zero_and_of_the_same_text_all() -> None:
    assert sentence_chrf(["abc", "same text"], ["xyz", "same text"]) == pytest.approx([0, 100])


SCORES = np.log(np.array([[0.1, 0.2, 0.6, 0.1], [0.5, 0.1, 0.1, 0.3], [0.2, 0.5, 0.2, 0.1]]))


def step(rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Tokens 4 to 6 follow each other by `SCORES`, 3 is the end; the memory's sum decides how likely the end is."""
    count = len(rows["token"])
    last = np.where(rows["token"] == 2, 0, rows["token"] - 4)
    logs = SCORES[last] + np.array([0, 0, 0, 1.0]) * rows["memory"].sum(axis=(1, 2))[:, None]
    order = np.argsort(-logs, axis=1, kind="stable")
    inside = np.arange(rows["memory"].shape[1]) < rows["length"][:, None]
    return {
        "best": np.array([4, 5, 6, 3])[order],
        "log_probabilities": np.take_along_axis(logs, order, axis=1).astype(np.float32),
        "attention": inside / rows["length"][:, None],
        "next_state": rows["state"] + np.ones((count, 1), np.float32),
    }


def search(places: int, value: float, beam: int) -> Search:
    memory = np.full((1, places, 1), value / places, np.float32)
    state = {"state": np.zeros((1, 1), np.float32)}
    return Search(memory, state, length=places, start=2, end=3, most=5, beam=beam, penalty=1.0)


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("beam", [1, 3])
def test_searches_that_share_runs_find_what_each_finds_alone(rows: int, beam: int) -> None:
    made = [(1, 0.0), (4, 2.0), (7, 1.0), (2, 0.0)]
    together = [search(*one, beam) for one in made]
    finish(together, step, rows=rows)
    for one, shared in zip(made, together, strict=True):
        alone = search(*one, beam)
        finish([alone], step, rows=64)
        assert [h.tokens for h in shared.hypotheses()] == [h.tokens for h in alone.hypotheses()]
        assert [h.log_probability for h in shared.hypotheses()] == [h.log_probability for h in alone.hypotheses()]
    assert len({shared.hypotheses()[0].tokens for shared in together}) > 1


def test_no_run_has_more_rows_than_are_allowed() -> None:
    seen = []

    def counted(rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        seen.append(len(rows["token"]))
        return step(rows)

    finish([search(3, 0.0, 2) for _ in range(7)], counted, rows=5)
    assert max(seen) <= 5


@pytest.mark.parametrize("score", [bleu, bleu_lower, chrf, lambda a, b: bleu_of_words(a, [b])])
def test_as_many_references_as_texts_are_asked_for(score: Callable[[list[str], list[str]], float]) -> None:
    with pytest.raises(ValueError, match="2 texts and 1 references"):
        score(["a man", "a dog"], ["a man"])
