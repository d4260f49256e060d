"""A tiny Flickr8k for tests: pictures whose colour and side say what their sentences are."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.flickr8k import EACH, HEAD, SIDE

COLOURS = {"red": (210, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 220)}
THINGS = {"ball": 24, "wall": 110}  # px of its side
COUNTS = {"train": 60, "val": 12, "test": 12}


def sentences(colour: str, thing: str) -> list[str]:
    return [
        f"A {colour} {thing} .",
        f"There is a {colour} {thing}",
        f"a {colour} {thing} is here .",
        f"One {colour} {thing} alone .",
        f"The {thing} is {colour} .",
    ][:EACH]


def write_flickr8k(root: Path, *, seed: int = 0) -> Path:
    """`root/flickr8k/`, as the loader reads it; pictures of all three splits."""
    rng = np.random.default_rng(seed)
    folder = root / "flickr8k"
    folder.mkdir(parents=True)
    lines, number = ["\t".join(HEAD)], 0
    with tarfile.open(folder / "images.tar.xz", "w:xz") as archive:
        for split, count in (*COUNTS.items(), ("extra", 1)):
            for _ in range(count):
                colour, thing = rng.choice(list(COLOURS)), rng.choice(list(THINGS))
                pixels = rng.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
                side = THINGS[thing]
                top, left = rng.integers(0, SIDE - side + 1, 2)
                pixels[top : top + side, left : left + side] = COLOURS[colour]
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, "WEBP", quality=80)
                member = tarfile.TarInfo(f"images/{number:04d}.webp")
                member.size = len(stream.getvalue())
                archive.addfile(member, io.BytesIO(stream.getvalue()))
                lines.append("\t".join([f"{number:04d}", split, *sentences(colour, thing)]))
                number += 1
    (folder / "captions.tsv.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return root
