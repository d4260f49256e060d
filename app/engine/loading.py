"""From a folder to a model that has proved itself: read, hash, compare, warm, run the golden rows.

Every file is read once, into memory, through one descriptor that is known to be a regular file inside the folder; the
bytes that were hashed are the bytes that are parsed. `report/` is for people and is not looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from app.core.errors import LoadRefused, shown
from app.core.manifest import MANIFEST_FILE, SCHEMA_VERSION, Golden, Graph, Manifest, TensorSpec, numpy_dtype
from app.engine.process import give_back_memory, resident_bytes
from app.engine.session import Device, Session, choose_device
from app.engine.shared_weights import SharedWeights
from app.engine.text_files import TextFiles

MANIFEST_BYTES = 2**20
FILE_BYTES = 2**31
GOLDEN_BYTES = 64 << 20  # unpacked; those that are shipped have one MiB at most
ALLOWED = 0.01  # of the largest golden answer: beyond it the comparison would say nothing

# A run takes every core there is, so two loads beside each other would gain nothing, and neither could be weighed.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Loaded:
    """A model folder that is what its manifest says, ready to run.

    Attributes:
        text_files: tokenizers and lists of words, by their names.
        memory_bytes: growth of the process while the graphs were loaded and warmed: weights, their copy in the order of
            the CPU's kernels, and what a full batch needs beyond the batches of the models before it. Whatever else the
            process did meanwhile is in it too; 0 where the system does not report it.
    """

    manifest: Manifest
    folder: Path
    sessions: dict[str, Session]
    text_files: TextFiles
    load_s: float
    memory_bytes: int


def load_model(
    root: Path,
    name: str,
    version: str,
    *,
    device: Device,
    threads: int,
    gpu_memory_mb: int = 0,
    shared: SharedWeights | None = None,
) -> Loaded:
    """Load `<root>/<name>/<version>/`.

    Raises:
        LoadRefused: the folder is not what its manifest says; the message names the file, the expected and the got.
        OSError: a file cannot be read.
    """
    started = time.perf_counter()
    folder, where = root / name / version, f"{name}/{version}"
    for directory in (folder.parent, folder):
        if directory.is_symlink():
            raise LoadRefused(f"{where}: '{directory.name}' is a symbolic link, expected a folder", subject=where)
    manifest = read_manifest(folder, where)
    for field, want in (("name", name), ("version", version)):
        got = getattr(manifest, field)
        if got != want:
            raise LoadRefused(
                f"{where}/{MANIFEST_FILE}: {field} is '{got}', the folder is called '{want}'",
                subject=f"{where}/{MANIFEST_FILE}",
                expected=want,
                got=got,
            )
    data = {key: _read_hashed(folder, graph.file, graph.sha256, where) for key, graph in manifest.graphs.items()}
    goldens = {
        golden: _golden_arrays(
            _read_hashed(folder, golden.file, golden.sha256, where),
            golden,
            manifest.graphs[golden.graph],
            f"{where}/{golden.file}",
        )
        for golden in manifest.goldens
    }
    text_files = TextFiles.of(
        manifest, {file: _read_hashed(folder, file.file, file.sha256, where) for file in manifest.text_files}, where
    )
    choose_device(device)  # loads the runtime, whose memory is no model's
    with _one_at_a_time:
        before = resident_bytes()
        sessions = {}
        for key, graph in manifest.graphs.items():
            at = f"{where}/{graph.file}"
            sessions[key] = Session(
                data.pop(key),
                graph,
                where=at,
                device=device,
                threads=threads,
                gpu_memory_mb=gpu_memory_mb,
                shared=shared,
            )
            rows = next((arrays for golden, arrays in goldens.items() if golden.graph == key), None)
            # On the CPU the checks are the warm-up: they run a full batch, and one row.
            if rows is None or sessions[key].device != "cpu":
                sessions[key].warm(manifest.max_rows, rows)
        for golden, arrays in goldens.items():
            _check_golden(
                arrays,
                golden,
                manifest.graphs[golden.graph],
                sessions[golden.graph],
                f"{where}/{golden.file}",
                max_rows=manifest.max_rows,
            )
        text_files.check_ids(manifest, sessions, where)
        give_back_memory()
        memory_bytes = max(0, resident_bytes() - before)
    return Loaded(manifest, folder, sessions, text_files, time.perf_counter() - started, memory_bytes)


def read_manifest(folder: Path, where: str) -> Manifest:
    """Read and check `manifest.json`; a newer schema and every wrong field are reported in one sentence."""
    path = f"{where}/{MANIFEST_FILE}"
    data = _read(folder, MANIFEST_FILE, where, limit=MANIFEST_BYTES)
    try:
        document = json.loads(data, object_pairs_hook=_without_duplicates)
    except ValueError as error:  # also bytes that are not UTF-8
        raise LoadRefused(
            f"{path}: expected JSON, got {len(data)} bytes that are not: {error}", subject=path
        ) from error
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        raise LoadRefused(
            f"{path}: made for a newer Lectern: schema {schema}, this one reads {SCHEMA_VERSION}",
            subject=f"{path}: schema_version",
            expected=str(SCHEMA_VERSION),
            got=str(schema),
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise LoadRefused(f"{path}: {_in_words(error)}", subject=path) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"field {shown(next(key for key in names if names.count(key) > 1))} is there twice")
    return found


def _in_words(error: ValidationError) -> str:
    """The first mistake as a sentence, and how many more there are."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    words = first["msg"].removeprefix("Value error, ")
    words = words[:1].lower() + words[1:] if words.startswith(("Input", "String", "Field", "Extra")) else words
    sentence = f"field '{field}': {words}" if field else words
    if first["type"] != "missing" and not isinstance(first["input"], dict | list | tuple):
        sentence += f", got {shown(first['input'])}"
    more = error.error_count() - 1
    return f"{sentence} (and {more} more)" if more else sentence


def _read(folder: Path, file: str, where: str, *, limit: int) -> bytes:
    """A regular file directly inside the folder, whole. Links are refused, and so is whatever could block a reader."""
    path = folder / file
    subject = f"{where}/{file}"
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise LoadRefused(f"{subject}: expected a regular file, got a symbolic link", subject=subject)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise LoadRefused(f"{subject}: the file is missing", subject=subject) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else stat.filemode(status.st_mode)
            raise LoadRefused(f"{subject}: expected a regular file, got {kind}", subject=subject)
        size = status.st_size
        if size <= limit:
            with open(descriptor, "rb", closefd=False) as opened:
                data = opened.read(limit + 1)
            size = len(data)  # it may be growing
    finally:
        os.close(descriptor)
    if size > limit:
        raise _too_large(subject, size, limit)
    return data


def _too_large(subject: str, size: int, most: int, what: str = "") -> LoadRefused:
    detail = f"{subject}: {what}{size} bytes, at most {most} are taken"
    return LoadRefused(detail, subject=subject, expected=f"at most {most} bytes", got=f"{size} bytes")


def _read_hashed(folder: Path, file: str, sha256: str, where: str) -> bytes:
    data = _read(folder, file, where, limit=FILE_BYTES)
    got = hashlib.sha256(data).hexdigest()
    if got != sha256:
        raise LoadRefused(
            f"{where}/{file}: SHA-256 of its {len(data)} bytes is {got}, the manifest says {sha256}: "
            "cut off, changed, or another file",
            subject=f"{where}/{file}",
            expected=sha256,
            got=got,
        )
    return data


def _golden_arrays(data: bytes, golden: Golden, graph: Graph, where: str) -> dict[str, NDArray[Any]]:
    """A golden file's arrays, of the types and shapes of the graph's tensors."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > GOLDEN_BYTES:
            raise _too_large(where, size, GOLDEN_BYTES, "its arrays are ")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = dict(file)
    except LoadRefused:
        raise
    except Exception as error:  # zipfile, zlib, NumPy: each has its own
        raise LoadRefused(
            f"{where}: expected an .npz file, got one that cannot be read: {error}", subject=where
        ) from error
    specs = {spec.name: spec for spec in (*graph.inputs, *graph.outputs)}
    if set(arrays) != set(specs):
        raise LoadRefused(f"{where}: has arrays {sorted(arrays)}, expected {sorted(specs)}", subject=where)
    for name, array in arrays.items():
        _check_array(array, specs[name], golden.rows, f"{where}: '{name}'")
    largest = max(float(np.abs(arrays[spec.name]).max(initial=0)) for spec in graph.outputs)
    most = ALLOWED * max(1.0, largest)
    if not golden.atol <= most:
        raise LoadRefused(
            f"{where}: the manifest allows answers to differ by {golden.atol:.3g}, at most {most:.3g} is taken: "
            f"{ALLOWED:.0%} of the largest answer stored there, or of 1",
            subject=where,
            expected=f"at most {most:.3g}",
            got=f"{golden.atol:.3g}",
        )
    return arrays


def _check_golden(
    arrays: dict[str, NDArray[Any]], golden: Golden, graph: Graph, session: Session, where: str, *, max_rows: int
) -> None:
    """Run the folder's own rows and compare with the folder's own answers: as a full batch, and then each alone, since
    a row that depends on its neighbours would give callers answers that depend on who else is there."""
    inputs = [spec.name for spec in graph.inputs]

    def check(rows: dict[str, NDArray[Any]], alone: int | None = None) -> None:
        _compare(session.run({name: rows[name] for name in inputs}), rows, golden, graph, where, alone)

    def check_each() -> None:
        for i in range(golden.rows if golden.rows > 1 else 0):
            check({name: array[i : i + 1] for name, array in arrays.items()}, alone=i)

    count = max(max_rows, golden.rows)
    try:
        check({name: np.resize(array, (count, *array.shape[1:])) for name, array in arrays.items()})
    except LoadRefused:
        check(arrays)  # if that is right, it is the company that makes the difference, and a row alone says so
        check_each()
        raise
    check_each()


def _compare(
    answers: dict[str, NDArray[Any]],
    arrays: dict[str, NDArray[Any]],
    golden: Golden,
    graph: Graph,
    where: str,
    alone: int | None = None,
) -> None:
    row, run = "", ""
    if alone is not None:
        row, run = f" of row {alone}", " when run alone, not among the others (no row may depend on another)"
    for spec in graph.outputs:
        want, got = arrays[spec.name], answers[spec.name]
        if got.shape != want.shape:
            raise LoadRefused(f"{where}: the graph answers '{spec.name}' as {got.shape}, expected {want.shape}")
        difference = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)), initial=0))
        if not difference <= golden.atol:  # so that NaN is refused too
            raise LoadRefused(
                f"{where}: '{spec.name}'{row} differs by {difference:.3g} from the answer stored there{run}, "
                f"the manifest allows {golden.atol:.3g}",
                subject=f"{where}: '{spec.name}'",
                expected=f"at most {golden.atol:.3g}",
                got=f"{difference:.3g}",
            )


def _check_array(array: NDArray[Any], spec: TensorSpec, rows: int, where: str) -> None:
    fits = len(array.shape) == len(spec.shape) and all(
        got == want for got, want in zip(array.shape, (rows, *spec.shape[1:]), strict=True) if isinstance(want, int)
    )
    if array.dtype != numpy_dtype(spec.dtype) or not fits:
        expected = f"{spec.dtype} {(rows, *spec.shape[1:])}"
        raise LoadRefused(
            f"{where} is {array.dtype} {array.shape}, expected {expected}",
            subject=where,
            expected=expected,
            got=f"{array.dtype} {array.shape}",
        )
