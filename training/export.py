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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import MANIFEST_FILE, ROWS, Golden, Graph, Manifest, TensorSpec
from training.parity import Axes, Compared, PublishError, compare, cut_to_longest, tolerance

__all__ = ["Axes", "Export", "PublishError", "Written", "tolerance", "write_golden", "write_graph", "write_manifest"]

GOLDEN_ROWS = 10
FRAMES = "frames"
LEAST_FREE_BYTES = 64 * 2**20
OPSET = 18
_NUMBERS = re.compile(r"\[\s+[-+.\deE]+(?:,\s+[-+.\deE]+)*\s+\]")


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
    dynamic: Axes = field(default_factory=dict)
    """Variable axes but the rows: of an input all; of an output those that are as long as none of an input and are not
    to be called `frames`. Such rows are given filled up with zeros; an int64 input `length` says how long each is."""

    fill: Callable[[onnx.ModelProto], None] | None = None
    """Completes the exported graph, before it is checked."""

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

    Raises: PublishError where torch and ONNX Runtime differ by more than `tolerance` on `export.inputs`, and for the
        other reasons of `parity.compare`.
    """
    module = export.module.eval().to("cpu")
    file = f"{export.graph}.onnx"
    path = folder / file
    inputs = {name: rows.cpu() for name, rows in export.inputs.items()}
    outputs = list(export.outputs)
    _translate(export, module, inputs, path)
    _strip(path, export.fill)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(outputs, session.run(outputs, dict(feed)), strict=True))

    compared = compare(module, run, inputs, export.dynamic, where=file)
    shapes = _shapes(export, compared)
    if export.dynamic:
        _name_axes(path, shapes)
    shown = cut_to_longest({name: rows[: export.golden_rows] for name, rows in inputs.items()}, export.dynamic)
    few = {name: rows.numpy() for name, rows in shown.items()}
    types = {name: str(array.dtype) for name, array in (few | compared.outputs).items()}
    return Written(
        graph=Graph(
            file=file,
            sha256=sha256(path),
            inputs=tuple(_spec(name, types[name], shapes[name]) for name in inputs),
            outputs=tuple(_spec(name, types[name], shapes[name]) for name in outputs),
        ),
        parity_max_abs=compared.difference,
        golden=few | run(few),
    )


def _translate(export: Export, module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    dims = {label: torch.export.Dim(label) for name in inputs for label in export.dynamic.get(name, {}).values()}
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        try:
            torch.onnx.export(
                module,
                tuple(rows[:2].clone() for rows in inputs.values()),  # one tensor given twice would be one input
                path,
                input_names=list(inputs),
                output_names=list(export.outputs),
                dynamic_shapes=tuple(
                    {0: torch.export.Dim(ROWS)} | {i: dims[label] for i, label in export.dynamic.get(name, {}).items()}
                    for name in inputs
                ),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            free = ", ".join(dict.fromkeys([ROWS, *dims]))
            raise PublishError(
                f"{path.name}: torch cannot export it with its axes {free} free: {_cause(error)}"
            ) from error


def _cause(error: BaseException) -> str:
    """The sentence in torch's long report that says which axis it would have to freeze, or its first one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "specialized" in line or "constraint" in line.lower()), "".join(lines[:1]))


def _shapes(export: Export, compared: Compared) -> dict[str, tuple[str | int, ...]]:
    """Of each tensor as the manifest has it: a name for each axis that varies, the same for those of equal lengths."""
    found: dict[str, tuple[str | int, ...]] = {}
    for name, rows in export.inputs.items():
        axes = export.dynamic.get(name, {})
        found[name] = (ROWS, *(axes.get(i, size) for i, size in enumerate(rows.shape[1:], 1)))
    names = {tuple(sizes): axis for axis, sizes in compared.lengths.items()}
    for name, all_sizes in compared.sizes.items():
        axes = export.dynamic.get(name, {})
        shape: list[str | int] = [ROWS]
        for i, sizes in enumerate(all_sizes, 1):
            if i not in axes and len(set(sizes)) == 1:
                shape.append(sizes[0])
                continue
            default = FRAMES if FRAMES not in names.values() else f"{name}_{i}"
            shape.append(axes.get(i) or names.setdefault(tuple(sizes), default))
        found[name] = tuple(shape)
    return found


def _name_axes(path: Path, shapes: Mapping[str, tuple[str | int, ...]]) -> None:
    """The exporter calls an output's axis by how it is computed: ((samples - 400)//160) + 1."""
    model = onnx.load(path)
    for value in model.graph.output:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if isinstance(size, str):
                dim.dim_param = size
            else:
                dim.dim_value = size
    onnx.save(model, path)


def _strip(path: Path, fill: Callable[[onnx.ModelProto], None] | None) -> None:
    """Leave the graph alone in the file: the exporter also writes down where in which source file each node came from,
    with folders of the machine that it ran on; and shapes between the nodes, which contradict those that tools work out
    for it again, so that ONNX Runtime's quantisation refuses the file."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    parts: list[Any] = [model]
    while parts:
        part = parts.pop()
        for found, value in part.ListFields():
            if found.name in ("metadata_props", "doc_string"):
                part.ClearField(found.name)
            elif found.message_type is not None:
                parts += [value] if hasattr(value, "ListFields") else value
    if fill is not None:
        fill(model)
    onnx.save(model, path)


def write_golden(folder: Path, file: str, graph: str, written: Written) -> Golden:
    """Write an `.npz` file of the first rows of one graph and its answers."""
    path = folder / file
    np.savez(path, **written.golden)  # type: ignore[arg-type]  # NumPy's stub takes the arrays for its own options
    rows = len(next(iter(written.golden.values())))
    answers = [array for name, array in written.golden.items() if name in _outputs(written)]
    atol = tolerance([array for array in answers if array.dtype.kind == "f"])  # counts are equal
    return Golden(file=path.name, sha256=sha256(path), graph=graph, rows=rows, atol=atol)


def _outputs(written: Written) -> set[str]:
    return {spec.name for spec in written.graph.outputs}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """For people too: a line for each field, and for each list of numbers."""
    text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), manifest.model_dump_json(indent=2))
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def folded(path: Path) -> onnx.ModelProto:
    """A graph in which what is computed from weights alone is a weight."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _spec(name: str, dtype: str, shape: tuple[str | int, ...]) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": shape})


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
