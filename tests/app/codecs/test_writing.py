"""Sheets drawn here: a 5 in shadow, in glare and on ruled paper is the same 5; two digits are two pieces."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from app.codecs.images.files import decode
from app.codecs.images.morphology import closing, dilation, opening, span
from app.codecs.images.regions import find_regions
from app.codecs.images.ruling import without_ruling
from app.core.errors import SeveralPieces, Unprocessable
from tests.app.codecs.files import DIGIT, LIMIT
from tests.app.codecs.test_handwriting import alike, drawn, on_paper, read


def shadowed(image: Image.Image, share: float, border: list[tuple[int, int]]) -> Image.Image:
    mask = Image.new("L", image.size, 255)
    ImageDraw.Draw(mask).polygon(border, fill=round(255 * (1 - share)))
    return Image.fromarray((np.asarray(image) * (np.asarray(mask) / 255)[:, :, None]).astype(np.uint8))


def ruled(image: Image.Image, pitch: int, *, width: int = 2, fall: int = 0, down: bool = False) -> Image.Image:
    """Lines half as bright as the paper."""
    lines = Image.new("L", image.size, 255)
    draw = ImageDraw.Draw(lines)
    for at in range(pitch // 2 - abs(fall), image.height + abs(fall), pitch):
        draw.line((0, at, image.width, at + fall), 128, width)
    for at in range(pitch // 2, image.width if down else 0, pitch):
        draw.line((at, 0, at - fall, image.height), 128, width)
    return Image.fromarray((np.asarray(image) * (np.asarray(lines) / 255)[:, :, None]).astype(np.uint8))


HALF = [(0, 0), (110, 0), (90, 200), (0, 200)]
ACROSS = [(0, 90), (300, 60), (300, 200), (0, 200)]


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("border", [HALF, ACROSS], ids=["beside", "across"])
def test_the_edge_of_a_shadow_is_no_ink(share: float, border: list[tuple[int, int]]) -> None:
    assert alike(read(shadowed(on_paper(drawn()), share, border), "JPEG"))


@pytest.mark.parametrize("pitch", [12, 25, 40])
@pytest.mark.parametrize("fall", [0, 9], ids=["level", "aslant"])
@pytest.mark.parametrize("down", [False, True], ids=["lined", "squared"])
def test_ruling_is_no_ink(pitch: int, fall: int, down: bool) -> None:
    paper = Image.new("RGB", (300, 200), (225, 220, 200))
    sheet = Image.composite(
        Image.new("RGB", paper.size, (30, 35, 80)), ruled(paper, pitch, fall=fall, down=down), drawn()
    )
    assert alike(read(sheet.filter(ImageFilter.GaussianBlur(0.6)), "JPEG"), tolerance=14)


@pytest.mark.parametrize("radius", [0, 15], ids=["sharp", "soft"])
def test_glare_on_a_white_board_is_no_ink(radius: int) -> None:
    glare = Image.new("L", (300, 200), 0)
    ImageDraw.Draw(glare).ellipse((180, 20, 290, 160), fill=255)
    board = on_paper(drawn(), paper=(205, 205, 205))
    lit = Image.composite(Image.new("RGB", board.size, "white"), board, glare.filter(ImageFilter.GaussianBlur(radius)))
    assert alike(read(lit))


def test_lines_are_taken_away_and_a_stroke_stays_whole_where_they_cross_it() -> None:
    dark = np.zeros((200, 300), np.uint8)
    dark[20::30] = dark[21::30] = 120
    dark[40:160, 140:150] = 120  # as dark as the lines
    left = without_ruling(dark)
    assert left[42:158, 141:149].min() >= 100
    left[38:162, 138:152] = 0
    assert left.max() == 0


def test_a_picture_without_lines_is_left_as_it_is() -> None:
    dark = np.zeros((200, 300), np.uint8)
    dark[60:64, 40:250] = dark[60:140, 246:250] = 200  # a 7
    assert without_ruling(dark) is dark


def test_two_digits_are_refused_with_the_box_of_each_in_pixels_of_the_upright_picture() -> None:
    ink = np.maximum(np.asarray(drawn((900, 600), (60, 60), 3, 9)), np.asarray(drawn((900, 600), (560, 160), 3, 9)))
    picture = on_paper(Image.fromarray(ink))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(out, "JPEG", exif=exif)
    with pytest.raises(SeveralPieces, match="image: has 2 pieces of writing, expected one") as caught:
        decode(out.getvalue(), DIGIT, subject="image", max_pixels=LIMIT)
    truth = find_regions(ink > 90).boxes[1:, [1, 0, 3, 2]]
    np.testing.assert_allclose(caught.value.boxes, truth, atol=8)


@pytest.mark.parametrize(
    "strokes",
    [
        [((170, 40), (120, 42)), ((112, 60), (110, 100), (150, 96), (165, 125), (140, 160), (105, 155))],
        [((120, 40), (105, 105), (170, 100)), ((158, 60), (150, 165))],
        [((100, 40), (170, 40), (130, 160)), ((118, 100), (165, 98))],
        [((140, 40), (138, 90)), ((137, 100), (136, 160))],
    ],
    ids=["a five with a loose bar", "an open four", "a seven with a bar", "a broken one"],
)
def test_a_digit_of_two_strokes_is_one_piece(strokes: list[tuple[tuple[int, int], ...]]) -> None:
    ink = Image.new("L", (300, 200), 0)
    for stroke in strokes:
        ImageDraw.Draw(ink).line(stroke, 255, 12, joint="curve")
    for x, y in ((30, 30), (250, 150), (255, 40)):
        ImageDraw.Draw(ink).ellipse((x, y, x + 3, y + 3), fill=255)
    assert read(on_paper(ink)).max() == 255


@pytest.mark.parametrize("side", [3, 5, 9, 31, 1001])
def test_morphology_is_the_extreme_of_each_window(side: int) -> None:
    grey = np.random.default_rng(side).integers(0, 256, (17, 23), np.uint8)
    half = side // 2

    def each(picture: np.ndarray, choose: np.ufunc) -> np.ndarray:
        h, w = picture.shape
        boxes = [
            [np.s_[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] for x in range(w)]
            for y in range(h)
        ]
        return np.array([[choose.reduce(picture[box], axis=None) for box in row] for row in boxes])

    most, least = each(grey, np.maximum), each(grey, np.minimum)
    assert np.array_equal(dilation(grey, side), most)
    assert np.array_equal(span(grey, side), most - least)
    assert np.array_equal(closing(grey, side, side), each(most, np.minimum))
    assert np.array_equal(opening(grey, side, side), each(least, np.maximum))


@pytest.mark.parametrize(("paper", "ink"), [(30, 205), (230, 25)])
def test_ink_that_fills_a_picture_is_one_piece(paper: int, ink: int) -> None:
    # Strokes of a quarter of the picture, wider than any window that looks for ink.
    page = Image.new("L", (300, 200), paper)
    ImageDraw.Draw(page).ellipse((75, 6, 245, 192), outline=ink, width=46)
    ring = read(page).astype(float)
    assert ring[12:16, 12:16].mean() < 30  # hollow
    assert (ring > 128).sum() > 60


def test_a_shadow_on_blank_paper_is_no_ink_however_clear_its_edge() -> None:
    page = Image.new("L", (300, 200), 220)
    ImageDraw.Draw(page).rectangle((150, 0, 300, 200), fill=110)
    with pytest.raises(Unprocessable, match="no ink found"):
        read(page)
