"""The noise of a photo is found where it shows, whatever of it is flat, transparent or cut off by 8 bits."""

from __future__ import annotations

import io
from itertools import product
from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import encode_png
from app.core.manifest import Plane
from app.tasks.denoise import photos
from app.tasks.denoise.tiled_photo import Photo
from app.tasks.denoise.unclipped import CELL, UnclippedPart, unclipped
from tests.app.coders import PNG, ask
from tests.app.denoisers import OVERLAP, TILE
from tests.app.live import LiveServer
from tests.app.tasks.test_denoise import PATH, send

SIGMA = 25.0
SHAPE = (140, 160)


def noisy(levels: NDArray[np.float64] | float, channels: int = 1, sigma: float = SIGMA) -> NDArray[np.uint8]:
    """In 8 bits, of grey levels (H, W) or one."""
    clean = np.broadcast_to(levels, SHAPE)[..., None]
    noise = sigma * np.random.default_rng(0).normal(size=(*SHAPE, channels))
    return np.rint(np.clip(clean + noise, 0, 255)).astype(np.uint8)


def half(level: float) -> NDArray[np.float64]:
    """Grey, and from a third of the width on a level; the edge lies within cells."""
    return np.where(np.arange(SHAPE[1]) < 55, 128.0, level) * np.ones((SHAPE[0], 1))


def found(server: LiveServer, body: bytes) -> float:
    return float(str(ask(server, PATH, body, "model=still", kind=PNG, accept=PNG).header("x-sigma-255")))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0, 255, -200, 400])
def test_on_black_or_white_the_noise_is_not_taken_for_less(denoisers: LiveServer, level: float, channels: int) -> None:
    assert found(denoisers, encode_png(noisy(half(level), channels))) == pytest.approx(SIGMA, rel=0.03)


def test_a_transparent_part_does_not_count(denoisers: LiveServer) -> None:
    opaque = np.where(np.hypot(*np.mgrid[-70:70, -80:80]) < 65, 255, 0).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.dstack([noisy(128, 3), opaque])).save(file, "PNG")
    assert found(denoisers, file.getvalue()) == pytest.approx(SIGMA, rel=0.05)


@pytest.mark.parametrize("level", [20, 30, 230])
def test_what_is_clipped_of_noise_near_black_or_white_is_made_up_for(denoisers: LiveServer, level: float) -> None:
    sent = noisy(level)
    assert sent.std() < 0.94 * SIGMA
    assert found(denoisers, encode_png(sent)) == pytest.approx(SIGMA, rel=0.02)


def test_where_all_is_clipped_the_noise_that_is_left_is_told(denoisers: LiveServer) -> None:
    left = SIGMA * sqrt(1 / 2 - 1 / (2 * pi))  # of normal noise whose upper half is gone
    assert found(denoisers, encode_png(noisy(255))) == pytest.approx(left, rel=0.03)


@pytest.mark.parametrize("graphic", [np.full(SHAPE, 255), np.full(SHAPE, 90), np.where(half(255) > 200, 255, 0)])
def test_a_picture_without_noise_has_none(denoisers: LiveServer, graphic: NDArray[np.int64]) -> None:
    assert found(denoisers, encode_png(graphic.astype(np.uint8))) == pytest.approx(0, abs=1e-3)


def test_floats_beyond_black_are_not_clipped(denoisers: LiveServer) -> None:
    noise = SIGMA / 255 * np.random.default_rng(0).normal(size=(1, *SHAPE, 1))
    for x, wanted in ((noise, SIGMA), (half(300)[None, ..., None] / 255 + noise, SIGMA)):
        sent = x if x is noise else np.clip(x, 0, 1)
        reply = send(denoisers, sent.astype(np.float32), "model=still", accept=PNG)
        assert float(str(reply.header("x-sigma-255"))) == pytest.approx(wanted, rel=0.03)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_part_is_the_largest_without_a_clipped_cell(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, 4 * CELL)) for _ in range(2))
    rows, columns = -(-height // CELL), -(-width // CELL)
    clipped = np.array(data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns)))
    cells = clipped.reshape(rows, columns)
    pixels = np.where(cells.repeat(CELL, 0).repeat(CELL, 1)[:height, :width, None], 255, 100).astype(np.uint8)
    part = unclipped(pixels)
    areas = [
        (bottom - top) * (right - left)
        for top, bottom, left, right in product(range(rows), range(1, rows + 1), range(columns), range(1, columns + 1))
        if top < bottom and left < right and not cells[top:bottom, left:right].any()
    ]
    if part is None:
        assert not areas
        return
    assert (pixels[part.top : part.bottom, part.left : part.right] == 100).all()
    assert -(-(part.bottom - part.top) // CELL) * -(-(part.right - part.left) // CELL) == max(areas)
    assert part.kept == 1


@pytest.mark.parametrize(("black", "white"), [(0, 1), (0, 64), (26, 0), (64, 0), (32, 32), (60, 4)])
def test_what_clipping_leaves_is_that_of_a_normal_distribution(black: int, white: int) -> None:
    pixels = np.full(CELL * CELL, 100, np.uint8)  # in any order: only shares count
    pixels[:black], pixels[pixels.size - white :] = 0, 255
    part = unclipped(pixels.reshape(CELL, CELL, 1))
    assert part is not None
    x = np.sort(np.random.default_rng(0).normal(size=256 * 400))
    clipped = np.clip(x, x[400 * black], x[-1 - 400 * white])
    assert part.kept == pytest.approx(clipped.std(), abs=0.005)


def test_a_photo_that_is_not_clipped_is_looked_at_in_whole_tiles_evenly_spread() -> None:
    photo = Photo(noisy(128, sigma=5), Plane(tile=TILE, overlap=OVERLAP))
    parts = photo.noisy_parts(1000)
    assert len(parts) == len(photo)
    np.testing.assert_array_equal(photo.cut_parts(parts), photo.cut(range(len(photo))))
    few = photo.noisy_parts(5)
    assert [few[0], few[-1], len(few)] == [parts[0], parts[-1], 5]


def test_a_photo_smaller_than_a_cell_is_looked_at() -> None:
    photo = Photo(np.full((4, 5, 3), 255, np.uint8), Plane(tile=TILE, overlap=OVERLAP))
    assert photo.noisy_parts(64) == [UnclippedPart(0, 0, 4, 5)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_parts_of_one_size_have_the_median_of_what_is_found_in_them(values: list[float], size: int) -> None:
    column = np.array(values)[:, None]
    median = photos._median(column, np.full(len(values), size))
    np.testing.assert_allclose(median, np.median(column, axis=0), atol=1e-12)


def test_a_larger_part_has_more_of_a_say() -> None:
    values = np.array([[1.0, 30.0], [2.0, 20.0], [3.0, 10.0]])
    np.testing.assert_allclose(photos._median(values, np.array([1000, 1, 1])), [1, 30], atol=0.1)
