"""A drawn 5 under every light, paper and pen; what MNIST made of such strokes is drawn here in its own form."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from app.codecs.images.files import decode
from app.codecs.images.handwriting import centre_of_mass, is_in_form
from app.codecs.images.regions import find_regions
from app.core.errors import Unprocessable
from tests.app.codecs.files import DIGIT, LIMIT, saved

STROKE = ((62, 12), (30, 12), (27, 42), (50, 40), (64, 54), (60, 76), (42, 86), (24, 80))


def drawn(
    size: tuple[int, int] = (300, 200), at: tuple[int, int] = (40, 30), scale: float = 1.5, pen: int = 12
) -> Image.Image:
    """Ink 255 on 0, mode L."""
    image = Image.new("L", size, 0)
    points = [(at[0] + x * scale, at[1] + y * scale) for x, y in STROKE]
    ImageDraw.Draw(image).line(points, 255, round(pen * scale), joint="curve")
    return image.filter(ImageFilter.GaussianBlur(0.7))


def on_paper(
    ink: Image.Image, paper: tuple[int, int, int] = (225, 220, 200), pen: tuple[int, int, int] = (30, 35, 80)
) -> Image.Image:
    return Image.composite(Image.new("RGB", ink.size, pen), Image.new("RGB", ink.size, paper), ink)


def read(image: Image.Image, form: str = "PNG") -> np.ndarray:
    return decode(saved(image, form), DIGIT, subject="image", max_pixels=LIMIT)[:, :, 0]


def shaded(image: Image.Image, seed: int = 0) -> Image.Image:
    h, w = image.height, image.width
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    light = (0.8 - 0.2 * x + 0.1 * y) * (1 - 0.15 * (x**2 + y**2))
    noise = np.random.default_rng(seed).normal(0, 6, (h, w, 1))
    return Image.fromarray(np.clip(np.asarray(image) * light[:, :, None] + noise, 0, 255).astype(np.uint8))


REFERENCE = read(drawn())


def alike(pixels: np.ndarray, tolerance: float = 10) -> bool:
    return bool(np.abs(pixels.astype(int) - REFERENCE).mean() <= tolerance)


def test_what_is_read_has_the_form_of_mnist() -> None:
    rows, columns = np.flatnonzero(REFERENCE.any(1)), np.flatnonzero(REFERENCE.any(0))
    y, x = centre_of_mass(REFERENCE)
    assert (rows[-1] - rows[0] + 1, REFERENCE.max()) == (20, 255)
    assert columns[-1] - columns[0] + 1 < 20  # the aspect is kept
    assert (abs(y - 14) <= 0.6, abs(x - 14) <= 0.6) == (True, True)


def test_a_picture_in_mnists_form_passes_unchanged() -> None:
    faint = (REFERENCE // 3).astype(np.uint8)  # and is not even made brighter
    assert is_in_form(faint, DIGIT)
    assert np.array_equal(read(Image.fromarray(faint)), faint)


def test_a_picture_of_the_right_size_that_is_off_centre_is_centred() -> None:
    moved = np.roll(REFERENCE, (-3, 3), axis=(0, 1))
    assert not is_in_form(moved, DIGIT)
    assert alike(read(Image.fromarray(moved)))


@pytest.mark.parametrize(
    "image",
    [
        on_paper(drawn()),
        on_paper(drawn(), paper=(40, 70, 50), pen=(230, 230, 230)),
        shaded(on_paper(drawn())),
        shaded(on_paper(drawn(at=(190, 60)))),
        on_paper(drawn(scale=0.6, at=(5, 5))),
        on_paper(drawn(size=(1200, 800), scale=6)),
        shaded(on_paper(drawn(size=(1200, 800), scale=3, at=(800, 300)))),
    ],
    ids=["dark-on-light", "chalk", "shaded", "shaded-right", "small", "large", "large-shaded"],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_paper_pen_light_size_and_place_make_no_difference(image: Image.Image, form: str) -> None:
    assert alike(read(image, form))


@pytest.mark.parametrize("level", [0, 255])
def test_ink_on_a_transparent_canvas_is_read_from_its_alpha(level: int) -> None:
    ink = drawn()
    image = Image.new("RGBA", ink.size, (level, level, level, 0))
    image.putalpha(ink)
    assert alike(read(image))


def test_specks_and_a_tables_edge_are_left_out() -> None:
    image = on_paper(drawn())
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 299, 6), (20, 20, 20))
    draw.rectangle((280, 180, 282, 182), (30, 30, 30))
    assert alike(read(image))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("colour", [0, 128, "white"])
def test_a_blank_sheet_answers_422(mode: str, colour: int | str) -> None:
    with pytest.raises(Unprocessable, match="no ink found"):
        read(Image.new(mode, (300, 200), colour if mode == "L" or isinstance(colour, str) else (colour,) * len(mode)))


def test_a_blank_sheet_in_uneven_light_answers_422() -> None:
    with pytest.raises(Unprocessable, match="no ink found"):
        read(shaded(Image.new("RGB", (300, 200), (220, 215, 200))))


@pytest.mark.parametrize("name", ["gradient", "vignette", "shadow", "two shadows"])
@pytest.mark.parametrize("size", [(160, 120), (320, 240), (900, 640)])
def test_light_that_falls_on_a_blank_sheet_is_no_writing(name: str, size: tuple[int, int]) -> None:
    y, x = np.mgrid[0 : 1 : size[1] * 1j, 0 : 1 : size[0] * 1j]
    light = {
        "gradient": 0.5 + 0.5 * x,
        "vignette": 1 - 0.9 * ((x - 0.5) ** 2 + (y - 0.5) ** 2),
        "shadow": np.where(x + 0.6 * y > 0.7, 1, 0.6),
        "two shadows": np.where(x + 0.6 * y > 0.7, 1, 0.7) * np.where(x - 0.4 * y > 0.2, 1, 0.75),
    }[name]
    sheet = 235 * light + np.random.default_rng(0).normal(0, 2, light.shape)
    with pytest.raises(Unprocessable, match="no ink found"):
        read(Image.fromarray(np.clip(sheet, 0, 255).astype(np.uint8)))


def test_regions_that_touch_at_a_corner_are_one() -> None:
    mask = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    regions = find_regions(mask)
    assert sorted(regions.area[1:].tolist()) == [2, 3, 5]
    assert regions.labels[0, 0] == regions.labels[0, 2] != regions.labels[0, 4]
    assert regions.longest_contact[regions.labels[3, 0]] == 1
