"""The pairs of domains: their morphology against brute force and SciPy, and that no digit is seen in both."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from app.codecs.images.handwriting import is_in_form
from app.core.manifest import DigitPicture
from tests.training.pictures import dataset_of
from training.data import domains
from training.data.base import ImageDataset
from training.data.domains import Pair, blended, dilated, photo, redrawn, strokes, unblended
from training.data.thinning import skeletons

SIDE = 28


def written(rows: int, *, seed: int) -> NDArray[np.uint8]:
    """Strokes of several widths: thick curves through random points, (rows, SIDE, SIDE, 1)."""
    rng = np.random.default_rng(seed)
    out = np.zeros((rows, SIDE, SIDE, 1), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    for row in out:
        ends, width = rng.uniform(8, 20, (3, 2)), rng.uniform(1, 2.5)
        for t in np.linspace(0, 1, 40):
            at = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
            near = np.clip(width + 0.5 - np.hypot(y - at[0], x - at[1]), 0, 1)
            row[..., 0] = np.maximum(row[..., 0], np.rint(255 * near))
    return out


def digits(rows: int = 40) -> ImageDataset:
    def part(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(written(rows, seed=seed)), torch.arange(rows) % 10

    train, held, test = part(rows, 1), part(20, 2), part(12, 3)
    return dataset_of("curves", tuple("0123456789"), train=train, held=held, test=test, box=20)


def background() -> NDArray[np.uint8]:
    """A colour of its own in every place, none near the middle grey that a negative leaves as it is."""
    rng = np.random.default_rng(5)
    return np.where(rng.random((SIDE, SIDE, 3)) < 0.5, rng.integers(0, 80, 3), rng.integers(180, 256, 3)).astype(
        np.uint8
    )


def pairs() -> list[Pair]:
    return [strokes(digits()), photo(digits(), background(), digits())]


def thinned_one_by_one(picture: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Zhang and Suen's two half-steps as their paper writes them, a pixel at a time."""
    ink = np.pad(picture, 1).astype(int)
    while True:
        before = ink.copy()
        for half in (0, 1):
            seen = ink.copy()
            for y, x in zip(*np.nonzero(seen), strict=True):
                p2, p3, p4 = seen[y - 1, x], seen[y - 1, x + 1], seen[y, x + 1]
                p5, p6, p7 = seen[y + 1, x + 1], seen[y + 1, x], seen[y + 1, x - 1]
                p8, p9 = seen[y, x - 1], seen[y - 1, x - 1]
                ring = [p2, p3, p4, p5, p6, p7, p8, p9, p2]
                rises = sum(a == 0 and b == 1 for a, b in pairwise(ring))
                first = (p2 * p4 * p6, p4 * p6 * p8) if half == 0 else (p2 * p4 * p8, p2 * p6 * p8)
                if 2 <= sum(ring[:-1]) <= 6 and rises == 1 and first == (0, 0):
                    ink[y, x] = 0
        if (ink == before).all():
            return ink[1:-1, 1:-1].astype(bool)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0.2, 0.95))
def test_thinning_many_at_once_is_thinning_one_pixel_at_a_time(seed: int, h: int, w: int, ink: float) -> None:
    pictures = np.random.default_rng(seed).random((3, h, w)) < ink
    found = skeletons(pictures)
    for one, picture in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(one, thinned_one_by_one(picture))


def test_a_skeleton_is_thin_lies_in_the_stroke_and_is_connected_as_it_was() -> None:
    pictures = written(30, seed=0)[..., 0] > 127
    found = skeletons(pictures)
    assert (found <= pictures).all()
    everywhere = np.ones((3, 3))
    for one, picture in zip(found, pictures, strict=True):
        assert ndimage.label(one, everywhere)[1] == ndimage.label(picture, everywhere)[1]
        assert not ndimage.binary_erosion(one, np.ones((2, 2))).any()  # nowhere two by two


@pytest.mark.parametrize("radius", [0.4, 1.0, 1.8, 3.3, 4.8])
def test_a_pen_is_a_disc_around_each_point(radius: float) -> None:
    points = np.random.default_rng(2).random((4, 20, 23)) < 0.02
    points[:, 3, 4] = True
    for one, drawn in zip(points, dilated(points, radius), strict=True):
        away = ndimage.distance_transform_edt(~one)
        expected = np.rint(255 * np.clip(radius + 0.5 - away, 0, 1))
        np.testing.assert_allclose(drawn, expected, atol=1)


def test_strokes_are_as_wide_as_the_pen_whatever_was_written() -> None:
    written_ = written(40, seed=4)
    thin, thick = (redrawn(written_, radius)[..., 0] for radius in (domains.THIN, domains.THICK))
    assert (thick >= thin).all()
    for pictures, radius in ((thin, domains.THIN), (thick, domains.THICK)):
        widest = np.array([2 * ndimage.distance_transform_edt(one > 127).max() for one in pictures])
        assert widest.min() > 2 * radius - 0.7
        # Where a line meets itself at a sharp angle the ink is wider than the pen.
        assert np.median(widest) < 2 * radius + 1.5


def test_redrawn_digits_lie_as_those_do_that_the_server_takes_unchanged() -> None:
    x = written(40, seed=6)
    for radius, box in ((domains.THIN, 20), (domains.THICK, 22)):
        picture = DigitPicture(kind="digit", height=SIDE, width=SIDE, box=box)
        assert all(is_in_form(one, picture) for one in redrawn(x, radius)[..., 0])


def test_a_blend_is_the_distance_between_photograph_and_digit() -> None:
    photograph = np.array([[[10, 200, 128]]], np.uint8)
    made = blended(np.array([0, 255, 100], np.uint8).reshape(3, 1, 1, 1), photograph)
    np.testing.assert_array_equal(made[:, 0, 0], [[10, 200, 128], [245, 55, 127], [90, 100, 28]])


def test_a_digit_is_read_back_from_its_blend() -> None:
    x = written(20, seed=7)
    found = unblended(blended(x, background()), background())
    assert found.shape == x.shape
    sharp = (x == 0) | (x == 255)
    np.testing.assert_array_equal(found[sharp], x[sharp])


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: str(pair.name))
def test_no_digit_is_seen_in_both_domains(pair: Pair) -> None:
    first, second = (set(rows.tolist()) for rows in pair.halves)
    assert not first & second
    assert len(first) == len(second) == len(pair.digits.train_x) // 2
    for law, rows, pictures in zip(pair.laws, pair.halves, pair.train, strict=True):
        np.testing.assert_array_equal(pictures.numpy(), law(pair.digits.train_x[rows].numpy()))


@pytest.mark.parametrize(("pair", "again"), list(zip(pairs(), pairs(), strict=True)), ids=["strokes", "photo"])
def test_a_pair_is_the_same_every_time_and_its_pictures_fit_their_domains(pair: Pair, again: Pair) -> None:
    for part in ("train", "held", "test"):
        for mine, other, domain in zip(getattr(pair, part), getattr(again, part), pair.domains, strict=True):
            assert torch.equal(mine, other)
            assert mine.dtype == torch.uint8
            assert tuple(mine.shape[1:]) == domain.picture.shape
    assert pair.data_source.rows_train == 40


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: str(pair.name))
def test_held_out_and_test_rows_are_the_same_digit_in_both_domains(pair: Pair) -> None:
    for pictures, of in ((pair.held, pair.digits.held_x), (pair.test, pair.digits.test_x)):
        for law, made in zip(pair.laws, pictures, strict=True):
            np.testing.assert_array_equal(made.numpy(), law(of.numpy()))
