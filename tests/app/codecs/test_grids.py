"""Grids and pairs against pages put together by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.codecs.images.grids import GAP, PAIR_GAP, PAPER, beside, framed, grid, near_square, pairs


def numbered(n: int, height: int = 2, width: int = 3, channels: int = 1) -> NDArray[Any]:
    """Picture i is of grey level i everywhere."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, height, width, channels))


def test_one_picture_is_itself() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(grid(picture, 5), picture[0])


def test_pictures_are_read_like_a_page_with_paper_between_and_after() -> None:
    page = grid(numbered(3, 1, 2), 2)[:, :, 0]
    p = PAPER
    np.testing.assert_array_equal(
        page,
        [
            [0, 0, p, p, 1, 1],
            [p, p, p, p, p, p],
            [p, p, p, p, p, p],
            [2, 2, p, p, p, p],
        ],
    )


@settings(max_examples=40)
@given(n=st.integers(1, 30), columns=st.integers(1, 40), channels=st.sampled_from([1, 3]))
def test_every_picture_has_its_place_and_all_else_is_paper(n: int, columns: int, channels: int) -> None:
    page = grid(numbered(n, channels=channels), columns)
    across = min(n, columns)
    down = -(-n // across)
    assert page.shape == (down * (2 + GAP) - GAP, across * (3 + GAP) - GAP, channels)
    covered = np.zeros(page.shape, bool)
    for i in range(n):
        top, left = i // across * (2 + GAP), i % across * (3 + GAP)
        assert (page[top : top + 2, left : left + 3] == i).all()
        covered[top : top + 2, left : left + 3] = True
    assert (page[~covered] == PAPER).all()


@pytest.mark.parametrize(
    ("n", "height", "width", "columns"),
    [
        (1, 28, 28, 1),
        (2, 28, 28, 2),
        (4, 28, 28, 2),
        (9, 28, 28, 3),
        (10, 28, 28, 4),
        (100, 28, 28, 10),
        (8, 58, 28, 4),
    ],
)
def test_a_grid_is_near_a_square(n: int, height: int, width: int, columns: int) -> None:
    assert near_square(n, height, width) == columns


@settings(max_examples=40)
@given(n=st.integers(1, 300), height=st.integers(1, 90), width=st.integers(1, 90))
def test_a_grid_is_not_higher_than_wide_and_with_a_column_less_it_would_be(n: int, height: int, width: int) -> None:
    columns = near_square(n, height, width)
    assert 1 <= columns <= n
    area = n * (height + GAP) * (width + GAP)
    if columns < n:
        assert (columns * (width + GAP)) ** 2 >= area
    if columns > 1:
        assert ((columns - 1) * (width + GAP)) ** 2 < area


def test_pairs_stand_one_above_the_other_and_apart_from_the_next() -> None:
    above, below = numbered(4), numbered(4) + 100
    page = pairs(above, below, columns=2)
    cell = 2 + GAP + 2
    assert page.shape == (2 * cell + PAIR_GAP, 2 * 3 + GAP, 1)
    for i in range(4):
        top, left = i // 2 * (cell + PAIR_GAP), i % 2 * (3 + GAP)
        assert (page[top : top + 2, left : left + 3] == i).all()
        assert (page[top + 2 : top + 2 + GAP, left : left + 3] == PAPER).all()
        assert (page[top + 2 + GAP : top + cell, left : left + 3] == 100 + i).all()
    assert (page[cell : cell + PAIR_GAP] == PAPER).all()


def test_pairs_are_near_a_square_by_themselves() -> None:
    page = pairs(numbered(60, 28, 28), numbered(60, 28, 28))
    assert page.shape[:2] == (5 * 58 + 4 * PAIR_GAP, 12 * 28 + 11 * GAP)


def test_pictures_beside_each_other_may_differ_in_size_and_colours() -> None:
    small, large = np.full((2, 4, 3, 1), 10, np.uint8), np.full((2, 8, 5, 3), 20, np.uint8)
    made = beside(small, large)
    assert made.shape == (2, 8, 3 + GAP + 5, 3)
    assert (made[:, 2:6, :3] == 10).all()
    assert (made[:, :, -5:] == 20).all()
    paper = np.concatenate([made[:, :2, :3].ravel(), made[:, 6:, :3].ravel(), made[:, :, 3:-5].ravel()])
    assert (paper == PAPER).all()


def test_pictures_of_different_sizes_are_framed_alike() -> None:
    high, wide = np.full((8, 4, 1), 10, np.uint8), np.full((2, 6, 3), 20, np.uint8)
    made = framed([high, wide])
    assert made.shape == (2, 8, 6, 3)
    assert (made[0, :, 1:5] == 10).all()
    assert (made[1, 3:5] == 20).all()
    assert (made[0, :, 0] == PAPER).all()
    assert (made[1, :3] == PAPER).all()
