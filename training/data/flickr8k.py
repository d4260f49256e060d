"""Flickr8k (Hodosh, Young, Hockenmaier 2013): 8,000 photographs with five English sentences each.

Photographs are 128x128, their aspect ratio lost. For non-commercial research; none of them may be published.

Sentences are made plain here, once and for all parts: spaces before a sign go, the first letter is a capital, other
words that are in capitals alone are small, and a full stop ends each.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import lzma
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from app.core.manifest import DataSource
from training.data.base import DataError, cache_folder, data_folder, tensor
from training.data.fetch import find, write_atomically

FOLDER: Final = "flickr8k"
PICTURES: Final = "images.tar.xz"
SENTENCES: Final = "captions.tsv.gz"
SIDE: Final = 128
EACH: Final = 5  # sentences of a photograph
HEAD: Final = ["image", "split", *(f"caption{i}" for i in range(EACH))]
SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Captioned:
    """Photographs uint8 (N, 128, 128, 3), and the sentences of each."""

    names: tuple[str, ...]
    pictures: Tensor
    sentences: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def first(self, rows: int | None) -> Captioned:
        return Captioned(names=self.names[:rows], pictures=self.pictures[:rows], sentences=self.sentences[:rows])

    def resized(self, side: int) -> Tensor:
        """The photographs as the server reads them: (N, side, side, 3) uint8."""
        small = [
            np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0))
            for one in self.pictures.numpy()
        ]
        return torch.from_numpy(np.stack(small))


@dataclass(frozen=True, kw_only=True, eq=False)
class Flickr8k:
    """The official split. `held` is for selection and calibration; `test` is looked at once, at the end."""

    train: Captioned
    held: Captioned
    test: Captioned

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`."""
        return DataSource(
            name="Flickr8k",
            source="Hodosh, Young, Hockenmaier: Framing Image Description as a Ranking Task (2013), JAIR 47; pictures "
            "at 128x128 by github.com/RlNZLER/Image-Text-Matching",
            licence="non-commercial research and education; each photograph stays its author's",
            rows_train=len(self.train),
            rows_held_out=len(self.held),
            rows_test=len(self.test),
            note="The model may not be used commercially: it was learnt from data that may not. Rows are photographs, "
            "with five sentences each",
        )


def load() -> Flickr8k:
    """6,000 photographs to train on, 1,000 held out, 1,000 to test.

    Raises:
        DataError: a file is missing, is not whole, or does not fit the other.
    """
    rows = _rows()
    pictures = _pictures({name for name, _, _ in rows})
    parts = []
    for split in SPLITS:
        chosen = [(name, said) for name, part, said in rows if part == split]
        if not chosen:
            raise DataError(f"{SENTENCES}: no picture of the split '{split}'")
        parts.append(
            Captioned(
                names=tuple(name for name, _ in chosen),
                pictures=tensor(np.stack([pictures[name] for name, _ in chosen])),
                sentences=tuple(said for _, said in chosen),
            )
        )
    return Flickr8k(train=parts[0], held=parts[1], test=parts[2])


def plain(text: str) -> str:
    """A sentence as it is read and written here."""
    words = [word.lower() if word.isupper() else word for word in text.split()]
    said = re.sub(r"\s+([.,;:!?'])", r"\1", " ".join(words)).rstrip(" .,;:").strip()
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _rows() -> list[tuple[str, str, tuple[str, ...]]]:
    """The name, the split and the sentences of each picture; sentences without a word are left out."""
    data, where = _file(SENTENCES)
    try:
        lines = gzip.decompress(data).decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not a whole file of gzipped text ({error})") from error
    table = [line.split("\t") for line in lines]
    if table[0] != HEAD:
        raise DataError(f"{where}: its first line is {table[0]}, expected {HEAD}")
    found = []
    for i, row in enumerate(table[1:], 2):
        if len(row) != len(HEAD):
            raise DataError(f"{where}, line {i}: {len(row)} columns, expected {len(HEAD)}")
        said = tuple(filter(None, (plain(text) for text in row[2:])))
        if row[1] in SPLITS and not said:
            raise DataError(f"{where}, line {i}: picture {row[0]} has no sentence")
        found.append((row[0], row[1], said))
    return found


def _pictures(wanted: set[str]) -> dict[str, NDArray[np.uint8]]:
    """By name. Decoded once: the copy is kept under the archive's hash."""
    data, where = _file(PICTURES)
    path = cache_folder() / f"{FOLDER}-{hashlib.sha256(data).hexdigest()[:16]}.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            names, pixels = stored["names"].tolist(), stored["pixels"]
    except (OSError, EOFError, ValueError, KeyError):
        names, pixels = _decoded(data, where)  # not there, or not whole: made again
        # A cache that cannot be written costs half a minute at the next start, nothing else.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda out: np.savez(out, names=np.array(names), pixels=pixels))
    if lacking := sorted(wanted - set(names)):
        raise DataError(f"{where}: lacks {len(lacking)} pictures that {SENTENCES} names, the first is {lacking[0]}")
    return dict(zip(names, pixels, strict=True))


def _decoded(data: bytes, where: str) -> tuple[list[str], NDArray[np.uint8]]:
    names, pixels = [], []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:xz") as archive:
            for member in tqdm(archive, desc="Flickr8k: decoding, once", total=8091, unit="file", leave=False):
                if not member.isfile():
                    continue
                content = archive.extractfile(member)
                assert content is not None
                with Image.open(content, formats=["WEBP"]) as picture:
                    one = np.asarray(picture.convert("RGB"))
                if one.shape != (SIDE, SIDE, 3):
                    raise ValueError(f"{member.name} is {one.shape}, expected {(SIDE, SIDE, 3)}")
                names.append(member.name.rpartition("/")[2].removesuffix(".webp"))
                pixels.append(one)
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError, ValueError) as error:
        raise DataError(f"{where}: not a whole archive of WebP pictures ({error})") from error
    if not names:
        raise DataError(f"{where}: has no picture")
    return names, np.stack(pixels)


def _file(name: str) -> tuple[bytes, str]:
    path = find(FOLDER, name)
    if path is None:
        raise DataError(f"{data_folder() / FOLDER / name}: is missing; put it there by hand (see docs/training.md)")
    return path.read_bytes(), str(path)
