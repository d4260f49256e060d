"""Scenes of one to four coloured handwritten digits, and the one sentence for each: made here, so that truth is exact.

A picture has nine places, three by three. Digits are named in reading order, from the upper left. So each scene has
exactly one sentence in each language:

    1       A red seven in the upper left.
    2       A red seven above and left of a blue three.
    3 to 4  Three digits: a red seven, a blue three and a green zero.

Of the fifty kinds (a digit in a colour) ten are in no scene that is trained on, two of each colour and one of each
digit. Whether a net names them right says if it knows a colour apart from a digit. To learn that, some scenes to train
on have digits in a colour without a name here or in two, a half each, or things whose halves are of two digits; their
sentences leave these words open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Generator, Tensor

from app.core.manifest import DataSource, PhotoPicture
from training.data.augment import handwrite
from training.data.base import ImageDataset

SIDE: Final = 112  # of a picture, in pixels
DIGIT: Final = 28
PLACES: Final = 3  # on each axis
JITTER: Final = 4  # pixels to each side of its place's middle
DARKEST: Final = 48  # levels of the background, at most
NOISE: Final = 12  # levels, at most, of each pixel
MOST: Final = 4  # digits
PICTURE: Final = PhotoPicture(kind="photo", height=SIDE, width=SIDE, channels=3, resize="stretch", background=0)
LANGUAGES: Final = {"en": "English", "pt": "Portuguese"}
COLOURS: Final = {
    "red": (255, 60, 50),
    "green": (60, 220, 70),
    "blue": (80, 120, 255),
    "yellow": (255, 225, 50),
    "white": (255, 255, 255),
}
HELD_OUT: Final = frozenset((digit, digit % len(COLOURS)) for digit in range(10))
"""Pairs of a digit and the number of its colour that are in no scene to train on."""
HELD_SCENES: Final = 500
TEST_SCENES: Final = 1000

NUMBERS: Final = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "pt": ("zero", "um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove"),
}
COLOUR_NAMES: Final = {"en": tuple(COLOURS), "pt": ("vermelho", "verde", "azul", "amarelo", "branco")}
_PLACES: Final = {
    "en": (
        ("in the upper left", "at the top", "in the upper right"),
        ("on the left", "in the middle", "on the right"),
        ("in the lower left", "at the bottom", "in the lower right"),
    ),
    "pt": (
        ("no canto superior esquerdo", "em cima", "no canto superior direito"),
        ("à esquerda", "no meio", "à direita"),
        ("no canto inferior esquerdo", "embaixo", "no canto inferior direito"),
    ),
}
# Of the first named: whether it is in a higher row, and whether it is to the left (-1), in the same column, or right.
_RELATIONS: Final = {
    "en": {
        (False, -1): "left of",
        (True, -1): "above and left of",
        (True, 0): "above",
        (True, 1): "above and right of",
    },
    "pt": {
        (False, -1): "à esquerda de",
        (True, -1): "acima e à esquerda de",
        (True, 0): "acima de",
        (True, 1): "acima e à direita de",
    },
}
_COUNTS: Final = {"en": {3: "Three digits", 4: "Four digits"}, "pt": {3: "Três algarismos", 4: "Quatro algarismos"}}
OPEN: Final = "\u25a1"
"""In a sentence in place of a colour, or of a shape, that has no name."""
UNLIKE: Final = 90.0  # distance of a colour without a name from each that has one, in levels
LEAST_HALF: Final = 0.25  # of a thing's ink, on each side of the line through it
ARTICLES: Final = {"en": "a", "pt": "um"}
_AND: Final = {"en": "and", "pt": "e"}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One digit of a scene: what it is, the number of its colour, its place (row, column), and its middle in pixels.
    `digit` is None of halves of two digits, `colour` of two colours or of one without a name."""

    digit: int | None
    colour: int | None
    place: tuple[int, int]
    middle: tuple[int, int]  # (down, right)


Scene = tuple[Thing, ...]
"""In the order in which they are named."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes:
    """Pictures uint8 (N, SIDE, SIDE, 3), and what is in each."""

    pictures: Tensor
    scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    def first(self, rows: int | None) -> Scenes:
        return Scenes(pictures=self.pictures[:rows], scenes=self.scenes[:rows])

    def sentences(self, language: str) -> list[str]:
        return [sentence(scene, language) for scene in self.scenes]


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitScenes:
    """Scenes of held-out and of test digits; to train on, new ones are made of `digits.train_x` at every step.

    Each of `held_unseen` and `unseen`, of held-out and of test digits, has at least one kind of `HELD_OUT`; the others
    have none.
    """

    digits: ImageDataset
    held: Scenes
    held_unseen: Scenes
    test: Scenes
    unseen: Scenes

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`; rows are digits to train on, scenes to be measured on."""
        return DataSource(
            name=f"{self.digits.title}, in coloured scenes",
            source=f"made by training/data/scenes.py of {self.digits.source}",
            licence=self.digits.licence,
            rows_train=len(self.digits.train_y),
            rows_held_out=len(self.held),
            rows_test=len(self.test) + len(self.unseen),
            note="rows to train on are digits, of which every step makes new scenes; the others are scenes, half of "
            "the tests' with a digit in a colour that it never has in training, where only halves of it may have it",
        )


def of(digits: ImageDataset) -> DigitScenes:
    """The same scenes each time to be measured on."""
    held, test = (digits.held_x, digits.held_y), (digits.test_x, digits.test_y)
    return DigitScenes(
        digits=digits,
        held=scenes(*held, HELD_SCENES, Generator().manual_seed(1)),
        held_unseen=scenes(*held, HELD_SCENES // 2, Generator().manual_seed(5), unseen=True),
        test=scenes(*test, TEST_SCENES, Generator().manual_seed(2)),
        unseen=scenes(*test, TEST_SCENES, Generator().manual_seed(3), unseen=True),
    )


def scenes(
    x: Tensor,
    y: Tensor,
    rows: int,
    generator: Generator,
    *,
    unseen: bool = False,
    strength: float = 0.0,
    unnamed: float = 0.0,
) -> Scenes:
    """New scenes of digits.

    Args:
        x, y: of `ImageDataset`: (N, 28, 28, 1) uint8, and which digits they are.
        rows: how many scenes.
        unseen: each has one digit or more of a kind in `HELD_OUT`; else none has.
        strength: of `handwrite`, how differently from the data set they are written; 0 leaves them as they are.
        unnamed: share of the scenes with something without a name: in half of them the colours, which are others or
            two, in half the shapes.
    """

    def drawn(end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=generator)

    counts = 1 + drawn(MOST, rows)
    chosen = drawn(len(y), rows, MOST)
    digit = y[chosen]  # (rows, MOST)
    forbidden = digit % len(COLOURS)
    colour = (forbidden + 1 + drawn(len(COLOURS) - 1, rows, MOST)) % len(COLOURS)
    if unseen:
        one = (torch.rand(rows, generator=generator) * counts).long()  # which of the digits has its unseen colour
        colour.scatter_(1, one[:, None], forbidden.gather(1, one[:, None]))
    places = torch.rand(rows, PLACES**2, generator=generator).argsort(1)[:, :MOST]
    # Those that are there first, in reading order.
    places = torch.where(torch.arange(MOST) < counts[:, None], places, PLACES**2)
    order = places.argsort(1)
    places, digit, colour, chosen = (part.gather(1, order) for part in (places, digit, colour, chosen))
    grid = torch.stack([places // PLACES, places % PLACES], dim=2)  # (rows, MOST, 2)
    middle = (2 * grid + 1) * SIDE // (2 * PLACES) + drawn(2 * JITTER + 1, rows, MOST, 2) - JITTER
    ink = x[chosen, :, :, 0]  # (rows, MOST, 28, 28)
    if strength:
        flat = ink.reshape(-1, 1, *ink.shape[2:]).float() / 255
        ink = (handwrite(flat, generator, strength=strength) * 255).round().clamp(0, 255).byte().reshape(ink.shape)
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    paint = palette[colour][:, :, None, None].expand(*ink.shape, -1)  # (rows, MOST, 28, 28, 3)
    shapes: list[list[int | None]] = digit.tolist()
    colours: list[list[int | None]] = colour.tolist()
    if unnamed:
        chance = torch.rand(rows, generator=generator)
        no_colour, no_shape = chance < unnamed / 2, (chance >= unnamed / 2) & (chance < unnamed)
        half, others = _halves((rows, MOST), generator), ink.roll(1, 0)  # the next scene's digits
        parted = half & _divides(half, ink)
        whole = torch.rand(rows, MOST, generator=generator) < 0.5
        second = torch.where(
            whole[..., None], _other_colours((rows, MOST), generator), palette[drawn(len(COLOURS), rows, MOST)]
        )
        changed = (parted | whole[:, :, None, None]) & no_colour[:, None, None, None]
        paint = torch.where(changed[..., None], second[:, :, None, None], paint)
        ink = torch.where(parted & _divides(half, others) & no_shape[:, None, None, None], others, ink)
        shapes = [[None] * MOST if other else own for own, other in zip(shapes, no_shape.tolist(), strict=True)]
        colours = [[None] * MOST if other else own for own, other in zip(colours, no_colour.tolist(), strict=True)]
    pictures = _drawn(ink, paint, middle, counts, generator)
    values = zip(counts.tolist(), shapes, colours, grid.tolist(), middle.tolist(), strict=True)
    return Scenes(
        pictures=pictures,
        scenes=tuple(
            tuple(
                Thing(digit=d[i], colour=c[i], place=(p[i][0], p[i][1]), middle=(m[i][0], m[i][1]))
                for i in range(count)
            )
            for count, d, c, p, m in values
        ),
    )


def sentence(scene: Scene, language: str) -> str:
    """What there is to say of it, in "en" or "pt"."""
    names = [_name(one, language) for one in scene]
    first = scene[0]
    if len(scene) == 1:
        row, column = first.place
        said = f"{names[0]} {_PLACES[language][row][column]}"
    elif len(scene) == 2:
        second = scene[1]
        side = (first.place[1] > second.place[1]) - (first.place[1] < second.place[1])
        said = f"{names[0]} {_RELATIONS[language][first.place[0] < second.place[0], side]} {names[1]}"
    else:
        said = f"{_COUNTS[language][len(scene)]}: {', '.join(names[:-1])} {_AND[language]} {names[-1]}"
    return said[0].upper() + said[1:] + "."


def _name(one: Thing, language: str) -> str:
    number = OPEN if one.digit is None else NUMBERS[language][one.digit]
    colour = OPEN if one.colour is None else COLOUR_NAMES[language][one.colour]
    kind = f"{colour} {number}" if language == "en" else f"{number} {colour}"
    return f"{ARTICLES[language]} {kind}"


def _other_colours(shape: tuple[int, int], generator: Generator) -> Tensor:
    """Light ones that are unlike each of `COLOURS`: (*shape, 3), levels."""
    known = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    many = torch.rand(64, *shape, 3, generator=generator)
    many = 255 * many / many.amax(-1, keepdim=True).clamp(min=1e-6)
    far = (many[..., None, :] - known).norm(dim=-1).amin(-1)  # (64, *shape)
    # The first that is unlike all, as nearly half of them are.
    first = (far > UNLIKE).float().argmax(0)
    return many.gather(0, first[None, ..., None].expand(1, *shape, 3))[0]


def _halves(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Which pixels are on one side of a line through a digit's middle, in any direction: (*shape, 28, 28)."""
    angle = 2 * torch.pi * torch.rand(*shape, 1, 1, generator=generator)
    steps = torch.arange(DIGIT) - (DIGIT - 1) / 2
    return angle.cos() * steps[:, None] + angle.sin() * steps > 0


def _divides(half: Tensor, ink: Tensor) -> Tensor:
    """Whether neither side has nearly all of the ink, or else a one in a colour that it must not have could be whole:
    (..., 1, 1)."""
    share = (ink * half).sum((-2, -1), keepdim=True) / ink.sum((-2, -1), keepdim=True).clamp(min=1)
    return (share > LEAST_HALF) & (share < 1 - LEAST_HALF)


def _drawn(ink: Tensor, paint: Tensor, middle: Tensor, counts: Tensor, generator: Generator) -> Tensor:
    """Digits (rows, MOST, h, w), each pixel in its colour (..., 3), on a dark background with some noise: (rows, SIDE,
    SIDE, 3) uint8."""
    rows = len(ink)
    dark = torch.rand(rows, 1, 1, 3, generator=generator) * DARKEST
    noise = torch.randint(NOISE + 1, (rows, SIDE, SIDE, 1), generator=generator)
    field = dark + noise
    steps = torch.arange(DIGIT) - DIGIT // 2
    for i in range(MOST):
        there = (i < counts).nonzero()[:, 0]
        down = (middle[there, i, 0, None] + steps)[:, :, None]
        right = (middle[there, i, 1, None] + steps)[:, None]
        at = there[:, None, None]
        covered = ink[there, i, :, :, None].float() / 255
        field[at, down, right] = field[at, down, right] * (1 - covered) + paint[there, i] * covered
    return field.round().clamp(0, 255).byte()
