"""Files of a data set: found in the data folder, else fetched from their own home, checked, renamed into place."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO

from tqdm import tqdm

from training.data.base import DataError, cache_folder, data_folder

TIMEOUT_S = 20.0
BLOCK_BYTES = 1 << 16

Check = Callable[[bytes], None]
"""Raises DataError for content that is not the file that was asked for."""


def find(folder: str, file: str) -> Path | None:
    """The file in the data folder, or in the cache where a download went when that was read-only."""
    for root in (data_folder(), cache_folder()):
        path = root / folder / file
        if path.is_file():
            return path
    return None


def find_or_fetch(folder: str, file: str, *, url: str, check: Check) -> Path:
    """The file's path; where it is nowhere, downloaded from `url`.

    Raises:
        DataError: its home cannot be reached or sends something else; names the folder to fill by hand.
    """
    return find(folder, file) or fetch(url, _writable(folder) / file, check=check)


def fetch(url: str, target: Path, *, check: Check, timeout_s: float = TIMEOUT_S) -> Path:
    """Download `url` to `target`: whole and checked, or not at all.

    Raises:
        DataError: unreachable, cut off, not what `check` wants, or nowhere to write.
    """
    try:
        data = _download(url, name=target.name, timeout_s=timeout_s)
        check(data)
        write_atomically(target, lambda out: out.write(data))
    except (OSError, HTTPException, ValueError, DataError) as error:
        cause = getattr(error, "reason", None) or error
        by_hand = f"put it into {target.parent.absolute()} by hand"
        raise DataError(f"{target.name}: cannot be fetched from {url} ({cause}); {by_hand}") from error
    return target


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that has its name only once it is whole. Raises OSError, and leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as out:
            write(out)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_md5(data: bytes, *, want: str, where: str) -> None:
    """Raises DataError unless the MD5 of `data` is `want` (as published: a check of identity, not of trust)."""
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if got != want:
        raise DataError(f"{where}: not the published file: the content's MD5 is {got}, expected {want}")


def _download(url: str, *, name: str, timeout_s: float) -> bytes:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - the URLs are constants of this package
        total = int(answer.headers.get("Content-Length") or 0)
        received = bytearray()
        with tqdm(total=total or None, desc=name, unit="B", unit_scale=True, leave=False) as bar:
            while block := answer.read(BLOCK_BYTES):
                received += block
                bar.update(len(block))
    if total and len(received) != total:
        raise OSError(f"cut off after {len(received)} of {total} bytes")
    return bytes(received)


def _writable(folder: str) -> Path:
    for root in (data_folder(), cache_folder()):
        path = root / folder
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(path, os.W_OK):
            return path
    raise DataError(f"{data_folder() / folder}: is missing files, and neither it nor {cache_folder()} can be written")
