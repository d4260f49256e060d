"""Scenes of digits: what the sentence says is what is in the picture, and unseen kinds are unseen."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Generator

from training.data import scenes as made
from training.data.scenes import COLOURS, DIGIT, HELD_OUT, LANGUAGES, NUMBERS, SIDE, Scenes, Thing, scenes, sentence


def some(rows: int = 300, *, seed: int = 0, unseen: bool = False, strength: float = 0.0) -> Scenes:
    """Of ten digits, each a full square, so that its colour is all there is of it."""
    x = torch.full((10, 28, 28, 1), 255, dtype=torch.uint8)
    return scenes(x, torch.arange(10), rows, Generator().manual_seed(seed), unseen=unseen, strength=strength)


def thing(digit: int, colour: int, row: int, column: int) -> Thing:
    return Thing(digit=digit, colour=colour, place=(row, column), middle=(0, 0))


@pytest.mark.parametrize(
    ("scene", "english", "portuguese"),
    [
        ([(7, 0, 0, 0)], "A red seven in the upper left.", "Um sete vermelho no canto superior esquerdo."),
        ([(1, 4, 1, 1)], "A white one in the middle.", "Um um branco no meio."),
        ([(7, 0, 1, 0), (3, 2, 1, 2)], "A red seven left of a blue three.",
         "Um sete vermelho à esquerda de um três azul."),
        ([(7, 0, 0, 1), (3, 2, 2, 1)], "A red seven above a blue three.", "Um sete vermelho acima de um três azul."),
        ([(7, 0, 0, 0), (3, 2, 2, 1)], "A red seven above and left of a blue three.",
         "Um sete vermelho acima e à esquerda de um três azul."),
        ([(7, 0, 0, 2), (3, 2, 2, 1)], "A red seven above and right of a blue three.",
         "Um sete vermelho acima e à direita de um três azul."),
        ([(7, 0, 0, 0), (3, 2, 0, 1), (0, 1, 2, 2)], "Three digits: a red seven, a blue three and a green zero.",
         "Três algarismos: um sete vermelho, um três azul e um zero verde."),
    ],
)  # fmt: skip
def test_a_scene_has_one_sentence(scene: list[tuple[int, int, int, int]], english: str, portuguese: str) -> None:
    things = tuple(thing(*one) for one in scene)
    assert sentence(things, "en") == english
    assert sentence(things, "pt") == portuguese


def test_what_is_said_is_where_and_in_which_colour_it_is_said_to_be() -> None:
    data = some()
    assert data.pictures.dtype == torch.uint8
    assert data.pictures.shape == (300, SIDE, SIDE, 3)
    paints = np.array(list(COLOURS.values()))
    for picture, scene in zip(data.pictures.numpy(), data.scenes, strict=True):
        for one in scene:
            down, right = one.middle
            assert (one.place[0], one.place[1]) == (down * 3 // SIDE, right * 3 // SIDE)
            assert (picture[down - 14 : down + 14, right - 14 : right + 14] == paints[one.colour]).all()
        dark = (picture.max(axis=2) <= made.DARKEST + made.NOISE).sum()
        assert dark == SIDE * SIDE - 28 * 28 * len(scene)


def test_digits_are_named_in_reading_order_and_no_place_has_two() -> None:
    for scene in some().scenes:
        places = [one.place for one in scene]
        assert places == sorted(set(places))


def test_unseen_kinds_are_in_every_unseen_scene_and_in_no_other() -> None:
    assert {digit for digit, _ in HELD_OUT} == set(range(10))
    assert sorted(colour for _, colour in HELD_OUT) == sorted(2 * list(range(5)))
    for unseen in (False, True):
        for scene in some(unseen=unseen).scenes:
            assert any((one.digit, one.colour) in HELD_OUT for one in scene) == unseen


def test_all_seen_kinds_counts_and_places_occur() -> None:
    found = some(3000).scenes
    kinds = {(one.digit, one.colour) for scene in found for one in scene}
    assert len(kinds) == 40
    counts = np.bincount([len(scene) for scene in found])
    assert (np.abs(counts[1:] / 3000 - 1 / 4) < 0.04).all()
    assert len({one.place for scene in found for one in scene}) == 9


def test_the_same_seed_makes_the_same_scenes_and_handwriting_makes_others() -> None:
    one, again, other, bent = some(20), some(20), some(20, seed=1), some(20, strength=1.0)
    assert torch.equal(one.pictures, again.pictures)
    assert one.scenes == again.scenes != other.scenes
    assert one.scenes == bent.scenes
    assert not torch.equal(one.pictures, bent.pictures)


def test_sentences_of_all_scenes_differ_in_nothing_but_their_scene() -> None:
    data = some()
    for language in LANGUAGES:
        for said, scene in zip(data.sentences(language), data.scenes, strict=True):
            named = re.findall("|".join(NUMBERS[language]), said.removeprefix("Um ").replace(" um ", " "))
            expected = [NUMBERS[language][one.digit] for one in scene]
            if language == "en":
                assert named == expected
    assert len(data.first(7)) == len(data.first(7).pictures) == 7


def test_what_has_no_name_is_left_open_and_no_kind_that_is_held_out_is_whole() -> None:
    x, y = torch.zeros(10, 28, 28, 1, dtype=torch.uint8), torch.arange(10)
    x[:, 4:24, 13:15] = 255  # a stroke, which could be on one side of a line
    for digit in range(10):
        x[digit, 4 : 5 + digit, 4:24] = 255  # and a bar of its own width
    some = scenes(x, y, 400, Generator().manual_seed(0), unnamed=0.6)
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    middle = slice(-DIGIT // 2, DIGIT // 2)
    alone = 0
    several = Counter[tuple[bool, bool]]()
    kinds = Counter[tuple[bool, bool]]()
    for picture, scene, text in zip(some.pictures, some.scenes, some.sentences("en"), strict=True):
        (kind,) = {(one.digit is not None, one.colour is not None) for one in scene}
        assert text.count(made.OPEN) == sum((one.digit is None) + (one.colour is None) for one in scene)
        for one in scene:
            down, right = (slice(at + middle.start, at + middle.stop) for at in one.middle)
            away = (picture[down, right, None].float() - palette).norm(dim=-1)  # (28, 28, colours)
            inked = away.amin(-1) < 2
            if one.colour is None and not inked.any():  # a colour of its own
                assert away.amin(-1)[x[one.digit, :, :, 0] == 255].min() > 80
                alone += 1
                continue
            counts = (away.argmin(-1)[inked, None] == torch.arange(len(COLOURS))).sum(0)
            kinds[kind] += 1
            if one.digit is None:  # one colour, and not the shape of any digit
                assert int((counts > 0).sum()) == 1
                several[kind] += bool((inked != (x[..., 0] == 255)).flatten(1).any(1).all())
            elif one.colour is None:
                assert torch.equal(inked, x[one.digit, :, :, 0] == 255)
                several[kind] += int((counts > 0).sum()) == 2
                assert counts[one.digit % len(COLOURS)] < 0.76 * counts.sum()
            else:
                assert torch.equal(inked, x[one.digit, :, :, 0] == 255)
                assert counts.argmax() == one.colour
                assert int((counts > 0).sum()) == 1
    assert set(kinds) == {(True, True), (True, False), (False, True)}
    assert alone > 0.5 * kinds[True, False]
    # The others are of two halves of the same colour, or of digits of which one side has nearly all ink.
    assert several[True, False] > 0.3 * kinds[True, False]
    assert several[False, True] > 0.3 * kinds[False, True]
