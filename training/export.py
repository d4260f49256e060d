"""torch -> ONNX, parity check, manifest, atomic publication.

A model folder is written under a temporary name beside its place and renamed into it when everything in it has
been checked: at no moment is half a model there. What is published is never written again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import MANIFEST_FILE, ROWS, Golden, Graph, Manifest, TensorSpec

PARITY_ATOL = 1e-4
GOLDEN_ROWS = 10
LEAST_FREE_BYTES = 64 * 2**20
OPSET = 18
_NUMBERS = re.compile(r"\[\s+[-+.\deE]+(?:,\s+[-+.\deE]+)*\s+\]")


class PublishError(Exception):
    """A model that cannot be published; one line that says why and where."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """One graph to be: a module that takes tensors and gives one or a tuple of them; real rows to check it on."""

    graph: str
    module: nn.Module
    inputs: Mapping[
        str, Tensor
    ]  # by name, in the module's order: (256 or so, ...) real rows, for parity and golden file
    outputs: tuple[str, ...]
    golden_rows: int = GOLDEN_ROWS

    @property
    def rows(self) -> int:
        """How many it is checked on."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True, kw_only=True)
class Written:
    """A graph that is written: its entry in the manifest, and what it makes of its first rows."""

    graph: Graph
    parity_max_abs: float  # torch against ONNX Runtime
    golden: dict[str, NDArray[Any]]


def next_version(models: Path, name: str) -> str:
    """One more than the highest version that lies in `models/<name>`."""
    folder = models / name
    found = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    return str(max(found, default=0) + 1)


def check_can_publish(models: Path, name: str, version: str | None) -> None:
    """Raise `PublishError` before any training time is spent: no right to write, no room, or a version that exists."""
    if models.exists() and not models.is_dir():
        raise PublishError(f"{models}: expected a folder to publish into, this is a file")
    try:
        models.mkdir(parents=True, exist_ok=True)
        (models / name).mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=models / name):
            pass
    except OSError as error:
        raise PublishError(f"{models / name}: cannot be written ({error.strerror})") from error
    finally:
        _remove_if_empty(models / name)
    free = shutil.disk_usage(models).free
    if free < LEAST_FREE_BYTES:
        raise PublishError(f"{models}: {free / 2**20:.0f} MiB free, expected {LEAST_FREE_BYTES / 2**20:.0f} or more")
    if version is not None and (models / name / version).exists():
        raise PublishError(
            f"{models / name / version}: exists and is never changed; the next version is {next_version(models, name)}"
        )


@contextmanager
def staged(models: Path, name: str, version: str) -> Iterator[Path]:
    """A temporary folder that becomes `models/<name>/<version>` when the block ends well, and vanishes otherwise."""
    target = models / name / version
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=target.parent))
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            _sync(path)
        temporary.chmod(0o755)
        _sync(temporary)
        try:
            temporary.rename(target)  # fails where the target exists and is not empty
        except OSError as error:
            raise PublishError(f"{target}: cannot be put in place ({error.strerror})") from error
        _sync(target.parent)
    except OSError as error:
        raise PublishError(f"{temporary}: cannot be written ({error.strerror}); nothing was published") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_if_empty(target.parent)


def write_graph(folder: Path, export: Export) -> Written:
    """Write `<graph>.onnx` into `folder`.

    Raises: PublishError where torch and ONNX Runtime differ by more than `tolerance` on `export.inputs`.
    """
    module = export.module.eval().to("cpu")
    file = f"{export.graph}.onnx"
    path = folder / file
    inputs = {name: rows.cpu() for name, rows in export.inputs.items()}
    outputs = list(export.outputs)
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        torch.onnx.export(
            module,
            tuple(rows[:2] for rows in inputs.values()),
            path,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple({0: torch.export.Dim(ROWS)} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    _strip(path)
    with torch.no_grad():
        found = module(*inputs.values())
    expected = [found] if isinstance(found, Tensor) else list(found)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {name: rows.numpy() for name, rows in inputs.items()}
    starts = range(0, export.rows, 64)
    parts = [session.run(outputs, {name: rows[i : i + 64] for name, rows in feed.items()}) for i in starts]
    got = [np.concatenate(part) for part in zip(*parts, strict=True)]
    difference = 0.0
    for name, one, other in zip(outputs, got, expected, strict=True):
        allowed = tolerance([other.numpy()])
        if not (apart := float(np.abs(one - other.numpy()).max())) <= allowed:
            raise PublishError(
                f"{file}: '{name}' of ONNX Runtime differs from torch's by {apart:.2e} on {export.rows} rows, "
                f"expected {allowed:.2g} at most"
            )
        difference = max(difference, apart)
    few = {name: rows[: export.golden_rows] for name, rows in feed.items()}
    return Written(
        graph=Graph(
            file=file,
            sha256=sha256(path),
            inputs=tuple(_spec(name, rows) for name, rows in feed.items()),
            outputs=tuple(_spec(name, array) for name, array in zip(outputs, got, strict=True)),
        ),
        parity_max_abs=difference,
        golden=few | dict(zip(outputs, session.run(outputs, few), strict=True)),
    )


def _strip(path: Path) -> None:
    """Leave the graph alone in the file: the exporter also writes down where in which source file each node came from,
    with folders of the machine that it ran on."""
    model = onnx.load(path)
    parts: list[Any] = [model]
    while parts:
        part = parts.pop()
        for field, value in part.ListFields():
            if field.name in ("metadata_props", "doc_string"):
                part.ClearField(field.name)
            elif field.message_type is not None:
                parts += [value] if hasattr(value, "ListFields") else value
    onnx.save(model, path)


def write_golden(folder: Path, file: str, graph: str, written: Written) -> Golden:
    """Write an `.npz` file of the first rows of one graph and its answers."""
    path = folder / file
    np.savez(path, **written.golden)  # type: ignore[arg-type]  # NumPy's stub takes the arrays for its own options
    rows = len(next(iter(written.golden.values())))
    atol = tolerance([array for name, array in written.golden.items() if name in _outputs(written)])
    return Golden(file=path.name, sha256=sha256(path), graph=graph, rows=rows, atol=atol)


def tolerance(answers: Sequence[NDArray[Any]]) -> float:
    """How far two runtimes may be apart: 1e-4, and in proportion where answers are greater than one (euros, grams)."""
    return PARITY_ATOL * max(1.0, *(float(np.abs(one).max()) for one in answers))


def _outputs(written: Written) -> set[str]:
    return {spec.name for spec in written.graph.outputs}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """For people too: a line for each field, and for each list of numbers."""
    text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), manifest.model_dump_json(indent=2))
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _spec(name: str, array: NDArray[Any]) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": str(array.dtype), "shape": (ROWS, *array.shape[1:])})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # not empty, or never made


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
