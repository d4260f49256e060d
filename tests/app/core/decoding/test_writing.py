"""Greedy and beam search against brute force over all texts of a small vocabulary, and in company."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.core.decoding.writing import LEAST_PLACES, Hypothesis, Search, padded, rescore, write
from app.core.errors import InferenceFailed
from app.core.manifest import Tensors

START, END, WORDS = 0, 1, (2, 3, 4)
SIZE = 5
MOST = 3


class Net:
    """A decoder whose distribution depends on the last two tokens; its state is the last but one."""

    def __init__(self, seed: int, *, best: int = SIZE, noise: Callable[[int], float] = lambda rows: 0.0) -> None:
        logits = np.random.default_rng(seed).normal(size=(SIZE, SIZE, SIZE)) * 1.5
        logits[:, :, START] = -np.inf
        self.table = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        self.best, self.noise = best, noise
        self.rows: list[int] = []

    def __call__(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        token, last = inputs["token"], inputs["last"][:, 0].astype(int)
        self.rows.append(len(token))
        all_of_them = self.table[last, token] + self.noise(len(token)) * np.resize([1, -1], SIZE)
        best = np.argsort(-all_of_them, axis=1, kind="stable")[:, : self.best]
        attention = np.zeros(inputs["memory"].shape[:2], np.float32)
        attention[np.arange(len(token)), token % 3] = 1
        return {
            "best": best,
            "log_probabilities": np.take_along_axis(all_of_them, best, axis=1).astype(np.float32),
            "attention": attention,
            "next_last": token[:, None].astype(np.float32),
        }

    def log_p(self, tokens: tuple[int, ...], by: int = END) -> float:
        """Of a text and the token that ends it, by the table."""
        last, before, found = START, START, 0.0
        for token in (*tokens, by):
            found += self.table[last, before, token]
            last, before = before, token
        return found


MEMORY = np.ones((1, 3, 2), np.float32)
STATES = {"last": np.full((1, 1), START, np.float32)}


def searched(
    net: Net,
    *,
    beam: int = 1,
    most: int = MOST,
    penalty: float = 0.0,
    fits: Callable[[Sequence[int]], bool] | None = None,
) -> list[Hypothesis]:
    search = Search(MEMORY, STATES, length=3, start=START, end=END, most=most, beam=beam, penalty=penalty, fits=fits)
    run(write(search), net)
    return search.hypotheses()


def run(sampler: Any, net: Net) -> Tensors:
    rows = next(sampler)
    while True:
        try:
            rows = sampler.send(net(rows))
        except StopIteration as end:
            found: Tensors = end.value
            return found


def all_texts(net: Net, penalty: float = 0.0) -> list[tuple[float, tuple[int, ...]]]:
    texts = [text for n in range(MOST + 1) for text in itertools.product(WORDS, repeat=n)]
    return sorted(((net.log_p(text) / (len(text) + 1) ** penalty, text) for text in texts), reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_a_beam_that_holds_every_hypothesis_finds_the_best_texts_of_all(seed: int, penalty: float) -> None:
    net = Net(seed)
    found = [one for one in searched(net, beam=120, penalty=penalty) if one.finished]
    want = all_texts(net, penalty)
    assert [one.tokens for one in found] == [text for _, text in want]
    np.testing.assert_allclose([one.score(penalty) for one in found], [score for score, _ in want], atol=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_greedy_takes_the_best_token_at_each_step(seed: int) -> None:
    net, last, before, want = Net(seed), START, START, []
    while len(want) < 6 and (token := int(np.argmax(net.table[last, before]))) != END:
        want.append(token)
        last, before = before, token
    (one,) = searched(net, most=6)
    assert list(one.tokens) == want
    assert one.finished == (len(want) < 6)
    assert len(one.log_probabilities) == len(want) + one.finished
    assert one.log_probability == pytest.approx(sum(one.log_probabilities))


def words(tokens: Sequence[int]) -> int:
    """Where 2 and 3 begin words and 4 goes on with one."""
    return sum(token != 4 for token in tokens) + (tokens[:1] == (4,))


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_greedy_stops_before_the_token_that_does_not_fit(seed: int, most: int) -> None:
    (whole,) = searched(Net(seed), most=6)
    (one,) = searched(Net(seed), most=6, fits=lambda tokens: words(tokens) <= most)
    assert whole.tokens[: len(one.tokens)] == one.tokens
    assert words(one.tokens) <= most
    if one.tokens == whole.tokens:
        assert one.finished == whole.finished
        return
    assert words(whole.tokens[: len(one.tokens) + 1]) == most + 1
    assert not one.finished
    assert one.log_probabilities == whole.log_probabilities[: len(one.tokens)]
    assert one.log_probability == pytest.approx(sum(one.log_probabilities))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_a_beam_that_holds_all_ranks_texts_by_what_ends_them_each_once(seed: int, penalty: float) -> None:
    """What ends a text is the end, or the likelier of the tokens that begin one word too many."""
    net, best = Net(seed), dict[tuple[int, ...], float]()
    for n in range(MOST + 1):
        for text in itertools.product(WORDS, repeat=n):
            if words(text) <= 1:
                ways = [END, *(token for token in (2, 3) if words((*text, token)) > 1)]
                best[text] = max(net.log_p(text, by) for by in ways) / (n + 1) ** penalty
    found = searched(net, beam=120, penalty=penalty, fits=lambda tokens: words(tokens) <= 1)
    assert [one.tokens for one in found] == sorted(best, key=lambda text: -best[text])
    for one in found:
        assert one.log_probability == pytest.approx(sum(one.log_probabilities))
        assert len(one.log_probabilities) == len(one.tokens) + one.finished


@pytest.mark.parametrize("seed", range(8))
def test_a_wider_beam_finds_nothing_worse_and_has_no_more_rows_than_its_width(seed: int) -> None:
    bests = []
    for beam in (1, 2, 4, 120):
        net = Net(seed)
        found = [one for one in searched(net, beam=beam) if one.finished]
        assert max(net.rows) <= beam
        assert len(found) <= beam
        bests.append(found[0].log_probability if found else -np.inf)
    assert bests[-1] == max(bests)
    assert bests[-1] == pytest.approx(all_texts(Net(seed))[0][0], abs=1e-3)


def test_of_equally_likely_tokens_the_lower_id_is_written_whatever_the_order_in_which_the_graph_has_them() -> None:
    for order in ([2, 3, 4], [3, 4, 2], [4, 2, 3]):
        search = Search(MEMORY, STATES, length=3, start=START, end=END, most=1, beam=2)
        search.feed(step(order, [-1.0, -1.0, -1.0]))
        assert [one.tokens for one in search.living] == [(2,), (3,)]
    search = Search(MEMORY, STATES, length=3, start=START, end=END, most=1)
    search.feed(step([4, 2, END], [-1.0, -1.0, -1.0]))
    assert search.hypotheses()[0].tokens == ()  # the end has the lowest id of all


def step(best: list[int], log_probabilities: list[float]) -> Tensors:
    return {
        "best": np.array([best]),
        "log_probabilities": np.array([log_probabilities], np.float32),
        "attention": np.ones((1, 3), np.float32),
        "next_last": np.zeros((1, 1), np.float32),
    }


@pytest.mark.parametrize("beam", [1, 3])
def test_noise_of_rounding_between_near_tied_tokens_changes_nothing(beam: int) -> None:
    """All words equally likely: what a run of other rows adds or takes away would else decide."""

    def tied(noise: float) -> Net:
        net = Net(0, noise=lambda rows: noise)
        net.table[:] = np.log([1e-9, 0.1, 0.3, 0.3, 0.3])
        return net

    texts = {tuple(one.tokens for one in searched(tied(noise), beam=beam)) for noise in (-4e-6, -1e-6, 0.0, 1e-6, 4e-6)}
    assert len(texts) == 1
    assert next(iter(texts))[0][:1] in {(2,), ()}


def test_each_token_has_the_attention_of_the_step_that_wrote_it_over_the_real_places() -> None:
    net = Net(3)
    search = Search(padded(MEMORY), STATES, length=3, start=START, end=END, most=4, beam=2)
    run(write(search), net)
    for one in search.hypotheses():
        assert len(one.attention) == len(one.tokens)
        for token, seen in zip((START, *one.tokens), one.attention, strict=False):
            np.testing.assert_array_equal(seen, np.eye(3)[token % 3])


def test_the_rows_of_a_step_are_the_tokens_and_states_of_their_hypotheses() -> None:
    search = Search(MEMORY, STATES, length=2, start=START, end=END, most=5, beam=2)
    first = search.rows()
    assert {name: rows.shape for name, rows in first.items()} == {
        "token": (1,), "memory": (1, 3, 2), "length": (1,), "last": (1, 1),
    }  # fmt: skip
    search.feed(Net(0)(first))
    rows = search.rows()
    assert rows["token"].tolist() == [one.tokens[-1] for one in search.living]
    assert rows["memory"].shape == (2, 3, 2)
    assert rows["length"].tolist() == [2, 2]


@pytest.mark.parametrize("seed", range(4))
def test_a_text_that_was_written_is_rescored_with_the_same_log_probabilities(seed: int) -> None:
    net = Net(seed)
    for one in searched(net, beam=4):
        tokens = (*one.tokens, *((END,) if one.finished else ()))
        found = run(rescore(MEMORY, STATES, tokens, length=3, start=START), net)["log_probabilities"]
        np.testing.assert_allclose(found, one.log_probabilities, atol=1e-4)


def test_a_token_that_is_not_among_the_best_counts_as_the_last_of_them() -> None:
    net = Net(1, best=2)
    worst = int(np.argmin(net.table[START, START, 1:])) + 1
    found = run(rescore(MEMORY, STATES, [worst], length=3, start=START), net)["log_probabilities"]
    assert found[0] == pytest.approx(np.sort(net.table[START, START])[-2], abs=1e-6)


def test_log_probabilities_that_are_not_numbers_are_an_error() -> None:
    search = Search(MEMORY, STATES, length=3, start=START, end=END, most=1)
    with pytest.raises(InferenceFailed, match="not numbers"):
        search.feed(step([2, 3], [np.nan, -1.0]))
    with pytest.raises(InferenceFailed, match="no token a probability"):
        search.feed(step([2, 3], [-np.inf, -np.inf]))


@pytest.mark.parametrize(("places", "size"), [(1, 32), (32, 32), (33, 64), (65, 128), (200, 256)])
def test_memories_are_filled_up_to_a_few_sizes(places: int, size: int) -> None:
    whole = padded(np.ones((1, places, 2), np.float32))
    assert whole.shape == (1, size, 2)
    assert whole.sum() == 2 * places
    assert size % LEAST_PLACES == 0
