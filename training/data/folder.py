"""Your own pictures: a folder with one sub-folder per class, or train/ and test/ (and val/) above them.

They are read by the server's own codec, so that a picture is the same pixels in training and in service. All are
read before any training starts, and what is wrong with them is said then.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from app.codecs.images import files as images
from app.core.errors import ClientError
from app.core.manifest import PhotoPicture
from training.data.base import DataError, ImageDataset, RowNumbers, stratified, tensor
from training.data.image_folder_index import Classes, find_files, side_cars
from training.data.near_copies import near_copies

DEFAULT_SIZE = 64
MAX_SIZE = 1024
MAX_PIXELS = 200_000_000
SHARE = 10  # one in so many is taken for a part that the folder does not have
SHOWN = 3
USES = {"held": "selection", "test": "test"}
SPLIT_SEED = 1


@dataclass(frozen=True, slots=True)
class _Read:
    """One file as read, or why it could not be."""

    pixels: NDArray[np.uint8] | None  # (size, size, 3)
    digest: bytes  # of the pixels: whatever the file's format, the same picture has the same
    resized: bool
    problem: str


@dataclass(frozen=True, slots=True)
class _Row:
    path: str  # below the root
    label: int
    read: _Read


@dataclass(frozen=True, slots=True)
class _Part:
    x: NDArray[np.uint8]  # (N, size, size, 3)
    y: RowNumbers

    def take(self, rows: RowNumbers) -> _Part:
        return _Part(self.x[rows], self.y[rows])


def load(spec: str, *, size: int = DEFAULT_SIZE) -> ImageDataset:
    """The pictures in the folder `spec`, each brought to `size` x `size`, grey if all of them are.

    Where there is no test/, a tenth of each class is kept for testing; where there is no val/, a tenth of each
    class's training pictures is held out; one at least. Copies of a picture in one class are used once, whatever the
    format of their files; near-copies in two parts are told in the note.

    Raises:
        DataError: in one line, why it cannot be trained on.
    """
    if not 1 <= size <= MAX_SIZE:
        raise DataError(f"size: is {size}, expected 1 to {MAX_SIZE} pixels")
    root = Path(spec)
    found = find_files(root)
    labels = tuple(found["train"])
    picture = PhotoPicture(kind="photo", height=size, width=size, channels=3)
    rows = {part: _read_part(root, classes, picture) for part, classes in found.items()}
    _check_readable(root, [row for part in rows.values() for row in part])
    unique, copies = _without_copies(root, rows, labels)
    near = near_copies({part: [(row.path, row.read.pixels) for row in kept] for part, kept in unique.items()})
    parts = _split(root, {part: _stack(kept) for part, kept in unique.items()}, labels)
    if all(_is_grey(part.x) for part in parts.values()):
        picture = picture.model_copy(update={"channels": 1})
        parts = {name: _Part(part.x[..., :1], part.y) for name, part in parts.items()}
    used = [row for part in unique.values() for row in part]
    return ImageDataset(
        name=_slug(root.resolve().name),
        title=root.resolve().name or "pictures",
        labels=labels,
        picture=picture,
        train_x=tensor(parts["train"].x),
        train_y=tensor(parts["train"].y),
        held_x=tensor(parts["held"].x),
        held_y=tensor(parts["held"].y),
        test_x=tensor(parts["test"].x),
        test_y=tensor(parts["test"].y),
        source=f"the folder {root.resolve().name}",
        licence="not stated",
        note="; ".join(
            [
                _note(found, len(used), sum(row.read.resized for row in used), size),
                *([f"{copies} exact copies left out"] if copies else []),
                *([f"{beside} files that are no pictures passed over"] if (beside := side_cars(root)) else []),
                *([_told(near)] if near else []),
            ]
        ),
    )


def _read_part(root: Path, classes: Classes, picture: PhotoPicture) -> list[_Row]:
    jobs = [(path, label) for label, files in enumerate(classes.values()) for path in files]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes without the GIL
        reads = pool.map(lambda job: _read(job[0], picture), jobs)
        bar = tqdm(reads, total=len(jobs), desc=f"{root.name}: reading", unit="picture", delay=1.0, leave=False)
        return [
            _Row(path.relative_to(root).as_posix(), label, read) for (path, label), read in zip(jobs, bar, strict=True)
        ]


def _read(path: Path, picture: PhotoPicture) -> _Read:
    try:
        data = path.read_bytes()
        pixels = images.decode(data, picture, subject="picture", max_pixels=MAX_PIXELS)
        with Image.open(io.BytesIO(data)) as header:
            resized = header.size != (picture.width, picture.height)
    except OSError as error:
        return _Read(None, b"", False, error.strerror or str(error))
    except ClientError as error:
        return _Read(None, b"", False, error.detail.removeprefix("picture: "))
    flat = pixels.min() == pixels.max()  # of one colour: as good as any other such picture, and no copy of it
    return _Read(pixels, hashlib.sha256(data if flat else pixels.tobytes()).digest(), resized, "")


def _check_readable(root: Path, rows: list[_Row]) -> None:
    bad = [f"{row.path} {row.read.problem}" for row in rows if row.read.problem]
    if bad:
        raise DataError(f"{root}: {len(bad)} of {len(rows)} files cannot be read as pictures: {_first(bad)}")


def _without_copies(
    root: Path, rows: dict[str, list[_Row]], labels: tuple[str, ...]
) -> tuple[dict[str, list[_Row]], int]:
    """The rows with every content once, and how many were left out. The test part is asked first, training last:
    of a picture that is in both, the training's copy goes."""
    seen: dict[bytes, _Row] = {}
    kept: dict[str, list[_Row]] = {}
    clashes, copies = [], 0
    for part in ("test", "held", "train"):
        for row in rows.get(part, []):
            first = seen.setdefault(row.read.digest, row)
            if first is row:
                kept.setdefault(part, []).append(row)
            elif first.label != row.label:
                clashes.append(f"{first.path} = {row.path}")
            else:
                copies += 1
    if clashes:
        raise DataError(f"{root}: the same file lies in two classes ({len(clashes)} found): {_first(clashes)}")
    for part in rows:
        present = {row.label for row in kept.get(part, [])}
        if missing := [label for k, label in enumerate(labels) if k not in present]:
            raise DataError(
                f"{root}: every {part} picture of the class {missing[0]!r} is a copy of one in another part"
            )
    return kept, copies


def _split(root: Path, parts: dict[str, _Part], labels: tuple[str, ...]) -> dict[str, _Part]:
    """Take from the training rows the parts that the folder does not have."""
    missing = [part for part in ("test", "held") if part not in parts]
    counts = np.bincount(parts["train"].y, minlength=len(labels))
    need = 1 + len(missing)
    if small := [f"{label!r} has {count}" for label, count in zip(labels, counts, strict=True) if count < need]:
        uses = ", ".join(["training", *(USES[part] for part in missing)])
        raise DataError(
            f"{root}: each class needs {need} different pictures, one each for {uses}: the class {_first(small)}"
        )
    split = dict(parts)
    for part in missing:
        take = [max(1, round(int(count) / SHARE)) for count in counts]
        kept, taken = stratified(split["train"].y, take, seed=SPLIT_SEED)
        split[part], split["train"] = split["train"].take(taken), split["train"].take(kept)
    return split


def _stack(rows: list[_Row]) -> _Part:
    return _Part(
        np.stack([row.read.pixels for row in rows if row.read.pixels is not None]),
        np.array([row.label for row in rows], dtype=np.int64),
    )


def _is_grey(x: NDArray[np.uint8]) -> bool:
    return all(bool((row[..., :1] == row).all()) for row in x)


def _note(found: dict[str, Classes], rows: int, resized: int, size: int) -> str:
    own = [part for part in ("held", "test") if part in found]
    split = f"its own {' and '.join(own)} part" if own else "split by class, a tenth held out and a tenth for the test"
    return f"{resized} of {rows} pictures resized to {size}x{size}; {split}"


def _told(near: list[tuple[str, str]]) -> str:
    some = _first([f"{one} is nearly {other}" for one, other in near])
    return f"{len(near)} of other parts look like copies of training pictures, which makes figures too good: {some}"


def _slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name)[:40].strip("-") or "pictures"


def _first(items: list[str]) -> str:
    return "; ".join(items[:SHOWN]) + (f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
