"""Words a second: what is asked, when an answer is wrong, and that both servers translate alike."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.app.live import open_server
from tests.app.texts import make_turner
from tests.bench.hand_words import by_graphs, transformer_of
from tests.bench.words import LENGTHS, MODEL, Answered, Asked, answers, asked, first_tokens, sentence, table

TEXTS = ("the man sees the red dog", "dog train", "the train sees the man sees the dog")


@pytest.mark.parametrize("words", LENGTHS)
def test_a_sentence_has_as_many_words_as_it_is_asked_for(words: int) -> None:
    assert len(sentence(words, random.Random(words)).split()) == words


def test_answers_that_depend_on_their_company_are_counted(tmp_path: Path) -> None:
    make_turner(tmp_path, MODEL)
    some = [Asked.of(text) for text in TEXTS]
    with open_server(tmp_path) as live:
        alone = asyncio.run(answers(live.port, some))
        told = [replace(alone[0], right="another"), *alone[1:]]
        found = asyncio.run(asked(live.port, told, 1, 0.3))
        together = asyncio.run(asked(live.port, alone, 3, 0.3))
        waits = asyncio.run(first_tokens(live.port, some))
    assert found.answers > len(TEXTS)
    assert found.wrong == (found.answers + 2) // 3
    assert not together.wrong
    assert found.words >= found.answers
    assert len(found.waits_ms) == found.answers
    assert len(waits) == len(TEXTS)


def test_the_server_written_by_hand_translates_as_lectern_does(tmp_path: Path) -> None:
    folder = make_turner(tmp_path, MODEL)
    with open_server(tmp_path) as live:
        alone = asyncio.run(answers(live.port, [Asked.of(text) for text in TEXTS]))
    assert by_graphs(folder)(TEXTS) == [one.right for one in alone]


def test_the_transformer_that_is_decoded_beside_it_has_about_as_many_parameters() -> None:
    width, (encoder, decoder) = transformer_of(4_000_000, 4000)
    parameters = 2 * 4000 * width + (12 * encoder + 16 * decoder) * width**2
    assert 0.9 < parameters / 4_000_000 < 1.1


def test_the_table_has_medians_of_rounds_and_the_ratio() -> None:
    def row(*words: int) -> list[Answered]:
        return [Answered(n, words=some, seconds=1.0, waits_ms=[5.0]) for n, some in zip((1, 8, 32), words, strict=True)]

    rounds = [row(100, 300, 500), row(200, 500, 700)]
    assert table({"one": rounds})[-1] == "| one | 150 | 400 | 600 | 4.0 | 5.0 ms | 5.0 ms |"
