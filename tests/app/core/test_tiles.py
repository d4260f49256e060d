"""Tiles cover a plane of any size, and blending them is exact where nothing was changed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.imaging.tiles import Tiling


def plane(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width), np.float32)


@given(height=st.integers(1, 90), width=st.integers(1, 90), tile=st.sampled_from([8, 16, 31]), share=st.floats(0, 0.5))
def test_what_is_not_changed_comes_back_whatever_the_size(height: int, width: int, tile: int, share: float) -> None:
    x = plane(height, width)
    tiling = Tiling.of(height, width, tile=tile, overlap=int(share * tile))
    np.testing.assert_allclose(tiling.blend(tiling.cut(x)), x, rtol=0, atol=1e-6)


@given(size=st.integers(1, 400), tile=st.sampled_from([16, 32]), overlap=st.integers(0, 8))
def test_neighbours_overlap_as_asked_and_there_is_no_tile_too_many(size: int, tile: int, overlap: int) -> None:
    starts = Tiling.of(size, 1, tile=tile, overlap=overlap).tops
    assert starts[0] == 0
    assert starts[-1] == max(0, size - tile)
    assert all(b - a <= tile - overlap for a, b in pairwise(starts))
    fewer = len(starts) - 1
    assert fewer == 0 or fewer * tile - (fewer - 1) * overlap < size


def test_a_photo_cut_a_few_tiles_at_a_time_is_the_same() -> None:
    x = plane(70, 90)
    tiling = Tiling.of(70, 90, tile=32, overlap=8)
    canvas = tiling.canvas()
    for start in range(0, len(tiling), 5):
        tiling.add(canvas, tiling.cut(x, start, start + 5), start)
    np.testing.assert_array_equal(canvas, tiling.blend(tiling.cut(x)))


def test_a_small_plane_is_mirrored_about_its_last_line() -> None:
    tiling = Tiling.of(3, 1, tile=8, overlap=2)
    (tile,) = tiling.cut(np.array([[1], [2], [3]], np.float32))
    np.testing.assert_array_equal(tile, np.repeat([[1], [2], [3], [2], [1], [2], [3], [2]], 8, axis=1))


def test_what_a_net_makes_of_the_pixels_at_an_inner_edge_of_a_tile_is_not_seen() -> None:
    tiling = Tiling.of(64, 100, tile=32, overlap=16)
    x = plane(64, 100)
    tiles = tiling.cut(x)
    for number, (top, left) in enumerate((top, left) for top in tiling.tops for left in tiling.lefts):
        if top > 0:
            tiles[number, :3] = 99
        if left + 32 < 100:
            tiles[number, :, -3:] = 99
    np.testing.assert_allclose(tiling.blend(tiles), x, rtol=0, atol=1e-6)


def test_neighbours_that_differ_meet_without_a_step() -> None:
    tiling = Tiling.of(32, 48, tile=32, overlap=16)
    tiles = np.stack([np.zeros((32, 32), np.float32), np.ones((32, 32), np.float32)])
    line = tiling.blend(tiles)[0]
    assert (line[0], line[-1]) == (0, 1)
    assert 0 < np.diff(line).max() <= 1 / 8  # over half of the overlap


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [((0, 5), 2, "0x5"), ((5, 5), -1, "overlap by -1, expected 0 to 8"), ((5, 5), 9, "overlap by 9, expected 0 to 8")],
)
def test_no_plane_and_no_such_overlap_are_named(size: tuple[int, int], overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiling.of(*size, tile=16, overlap=overlap)


def test_arrays_of_other_shapes_are_named() -> None:
    tiling = Tiling.of(20, 30, tile=16, overlap=4)
    with pytest.raises(ValueError, match=r"plane: of shape \(30, 20\), expected \(20, 30\)"):
        tiling.cut(plane(30, 20))
    with pytest.raises(ValueError, match=r"tiles: of shape \(1, 16, 16\), expected \(6, 16, 16\)"):
        tiling.blend(np.zeros((1, 16, 16), np.float32))
    with pytest.raises(ValueError, match="tiles 5 to 7 of 6"):
        tiling.add(tiling.canvas(), np.zeros((2, 16, 16), np.float32), 5)
