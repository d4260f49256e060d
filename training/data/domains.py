"""Pairs of picture domains made of MNIST's digits, for translation without pairs.

Each domain is a law that makes its picture of a digit. One half of the training digits is seen in one domain, the other
half in the other: no digit in both, so nothing to learn a pair from. Of held-out and test digits both pictures are
made: the truth that training never sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from app.core.manifest import DataSource, DigitPicture, Domain, PhotoPicture
from training.data import cifar10, mnist
from training.data.base import ImageDataset, shuffled, tensor
from training.data.thinning import skeletons

Pixels = NDArray[np.uint8]
Law = Callable[[Pixels], Pixels]
"""Digits (N, H, W, 1), light on black, -> their pictures in a domain, (N, H, W, 1 or 3); or the other way."""

HALVES_SEED: Final = 2017
FINER: Final = 3  # skeletons are thinned and pens drawn at so many times the resolution
CHUNK: Final = 100  # digits at a time: what they need stays in the processor's cache
THIN, THICK = 0.6, 1.6  # radii of the two pens, pixels
PHOTO: Final = 31664  # row of CIFAR-10's training part: a horse on a meadow


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two domains, and the digits that are seen in them.

    `train` is unpaired: row i of one and row i of the other are different digits. `held` and `test` are paired.
    Pictures are uint8 (N, *domain.picture.shape).
    """

    name: str
    title: str
    domains: tuple[Domain, Domain]
    laws: tuple[Law, Law]
    plain: tuple[Law, Law]  # each domain's pictures, so that a classifier of plain digits can read them
    reading: tuple[str, str] = ("", "")  # how that is done, in words
    placed: bool = False  # whether a domain shows the same thing in the same place
    digits: ImageDataset
    licences: tuple[str, ...]
    sources: tuple[str, ...]
    note: str

    @cached_property
    def halves(self) -> tuple[Tensor, Tensor]:
        """Rows of the training digits that each domain is made of: as many in both, none in both."""
        order = torch.from_numpy(shuffled(len(self.digits.train_x), seed=HALVES_SEED))
        half = len(order) // 2
        return order[:half].sort().values, order[half : 2 * half].sort().values

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """Unpaired pictures of the two domains, to train on."""
        first, second = (self.digits.train_x[rows] for rows in self.halves)
        return self._made(0, first), self._made(1, second)

    @cached_property
    def held(self) -> tuple[Tensor, Tensor]:
        """Each held-out digit in both domains."""
        return self._made(0, self.digits.held_x), self._made(1, self.digits.held_x)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """Each test digit in both domains."""
        return self._made(0, self.digits.test_x), self._made(1, self.digits.test_x)

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`; rows to train are those of both halves."""
        return DataSource(
            name=self.title,
            spec=self.name,
            source="; ".join(self.sources),
            licence="; ".join(self.licences),
            rows_train=sum(map(len, self.halves)),
            rows_held_out=len(self.digits.held_x),
            rows_test=len(self.digits.test_x),
            note=self.note,
        )

    def _made(self, domain: int, digits: Tensor) -> Tensor:
        return tensor(self.laws[domain](digits.numpy()))


def strokes(digits: ImageDataset) -> Pair:
    """Digits redrawn with a thin pen, and with a thick one."""
    h, w = digits.picture.height, digits.picture.width
    return Pair(
        name="strokes",
        title=f"{digits.title}, drawn thin and drawn thick",
        domains=(
            Domain(name="thin", title="Thin strokes", picture=DigitPicture(kind="digit", height=h, width=w, box=20)),
            Domain(name="thick", title="Thick strokes", picture=DigitPicture(kind="digit", height=h, width=w, box=22)),
        ),
        laws=(lambda x: redrawn(x, THIN), lambda x: redrawn(x, THICK)),
        plain=(unchanged, unchanged),
        digits=digits,
        sources=(digits.source,),
        licences=(digits.licence,),
        note=f"each digit is thinned to its skeleton and drawn again with a round pen of radius {THIN} or {THICK} "
        f"pixels; {DISJOINT}",
    )


def photo(digits: ImageDataset, photograph: Pixels, of: ImageDataset) -> Pair:
    """Plain digits, and digits blended into a photograph as in MNIST-M: |photo - digit| (Ganin et al. 2016)."""
    # At full brightness ink and paper differ in shape alone, and come out the wrong way round here and there.
    background = photograph // 2
    h, w, _ = background.shape
    return Pair(
        name="photo",
        title=f"{digits.title}, plain and on a photograph from {of.title} at dusk",
        domains=(
            Domain(name="plain", title="Plain digits", picture=digits.picture),
            Domain(
                name="photo",
                title="Digits on a photograph",
                picture=PhotoPicture(kind="photo", height=h, width=w, channels=3),
            ),
        ),
        laws=(unchanged, lambda x: blended(x, background)),
        plain=(unchanged, lambda x: unblended(x, background)),
        reading=("", "; it is shown the digit whose blend with the photograph is nearest, pixel by pixel"),
        placed=True,
        digits=digits,
        sources=(digits.source, of.source),
        licences=(digits.licence, of.licence),
        note="on the photograph, shown at half its brightness so that ink is brighter than paper, a digit turns "
        "colours into their negative: |photo - digit|; the photograph is always the same one, so that a digit has one "
        f"true picture; {DISJOINT}",
    )


DISJOINT: Final = "one half of the training digits is seen in one domain only, the other half in the other only"


def redrawn(digits: Pixels, radius: float) -> Pixels:
    """Digits (N, H, W, 1) with every stroke as wide as a round pen of `radius` pixels draws it, their centres of mass
    in the middle."""
    out = np.empty_like(digits)
    for i in range(0, len(digits), CHUNK):
        x = torch.from_numpy(digits[i : i + CHUNK, None, :, :, 0]).float()
        fine = F.interpolate(x, scale_factor=FINER, mode="bilinear", align_corners=False)[:, 0]
        drawn = dilated(centred(skeletons((fine >= 127.5).numpy())), radius * FINER)
        grey = F.avg_pool2d(torch.from_numpy(drawn)[:, None].float(), FINER)
        out[i : i + CHUNK, :, :, 0] = grey.round().byte().numpy()[:, 0]
    return out


def centred(points: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points (N, H, W) at the finer resolution, each picture's moved so that their mean lies where MNIST has the centre
    of mass, in the middle of the pixel (H / 2, W / 2)."""
    n, h, w = points.shape
    beyond = (FINER - 1) / 2
    out = np.zeros_like(points)
    row, y, x = np.nonzero(points)
    count = np.maximum(1, np.bincount(row, minlength=n))
    up = np.rint(np.bincount(row, y, minlength=n) / count - h / 2 - beyond).astype(np.int64)
    left = np.rint(np.bincount(row, x, minlength=n) / count - w / 2 - beyond).astype(np.int64)
    out[row, np.clip(y - up[row], 0, h - 1), np.clip(x - left[row], 0, w - 1)] = True
    return out


def dilated(points: NDArray[np.bool_], radius: float) -> Pixels:
    """Grey dilation by a disc with a soft edge: each pixel is 255 * clip(radius + 1/2 - d, 0, 1), d its distance to the
    nearest of the points (N, H, W)."""
    reach = int(radius + 0.5)
    h, w = points.shape[1:]
    padded = np.pad(points, ((0, 0), (reach, reach), (reach, reach))).view(np.uint8)
    out = np.zeros(points.shape, np.uint8)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            level = round(255 * min(1.0, radius + 0.5 - (dy * dy + dx * dx) ** 0.5))
            if level > 0:
                np.maximum(out, padded[:, reach + dy :][:, :h, reach + dx :][:, :, :w] * np.uint8(level), out=out)
    return out


def blended(digits: Pixels, background: Pixels) -> Pixels:
    """|background - digit|: (N, H, W, 1) and (H, W, C) -> (N, H, W, C) (Ganin et al. 2016, section 5.2.1)."""
    apart: Pixels = np.abs(background.astype(np.int16) - digits).astype(np.uint8)
    return apart


def unblended(pictures: Pixels, background: Pixels) -> Pixels:
    """The digits (N, H, W, 1), in steps of 5 grey levels, whose blends are nearest to pictures (N, H, W, C)."""
    levels = np.arange(0, 256, 5)
    blends = np.abs(background[..., None].astype(np.int16) - levels)  # (H, W, C, L)
    out = np.empty((*pictures.shape[:3], 1), np.uint8)
    for i in range(0, len(pictures), CHUNK):
        apart = np.abs(pictures[i : i + CHUNK, ..., None] - blends).sum(axis=3)  # (CHUNK, H, W, L)
        out[i : i + CHUNK, ..., 0] = levels[apart.argmin(axis=3)]
    return out


def unchanged(x: Pixels) -> Pixels:
    """A domain of plain digits."""
    return x


def load(name: str) -> Pair:
    """The pair of that name in `PAIRS`, of MNIST's digits. Raises: DataError."""
    return PAIRS[name]()


def _photo() -> Pair:
    photos = cifar10.load()
    return photo(mnist.load(), photos.train_x[PHOTO, 2:-2, 2:-2].numpy(), photos)


PAIRS: Final[dict[str, Callable[[], Pair]]] = {"strokes": lambda: strokes(mnist.load()), "photo": _photo}
