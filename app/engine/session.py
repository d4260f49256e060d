"""One ONNX graph on one device: the only file of the house that imports onnxruntime.

A session is made from bytes that the caller has read once and hashed, so that what was checked is what runs. The
graph is compared with the manifest here, once; `run` trusts both afterwards.
"""

from __future__ import annotations

import ctypes
import io
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InferenceFailed, LoadRefused
from app.core.manifest import ROWS, Graph, Tensors, TensorSpec

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["auto", "cpu", "cuda"]

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
CUDA_OPTIONS = {
    "device_id": 0,
    "use_tf32": 0,  # ten bits of mantissa would move the answers away from those of the manifest's parity check
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE times every algorithm again for each new number of rows
    "arena_extend_strategy": "kSameAsRequested",
}

# Weights outside the file would escape its hash. Their folder is set to a place below a regular file, which cannot
# exist, so that the runtime itself refuses them wherever the graph names them (initialisers, constants, subgraphs).
NO_EXTERNAL_DATA = str(Path(__file__) / "the-weights-must-be-inside-the-file")

# y = Identity(x), float32 (rows): the smallest graph, to learn what a device can before any model is read.
PROBE = (
    b'\x08\t:C\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x06\x12\x04'
    b"rowsb\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x06\x12\x04rowsB\x04\n\x00\x10\x11"
)

NUMPY_NAMES = {"float": "float32", "double": "float64"}  # the others are called in ONNX as in NumPy


class DeviceRefused(LoadRefused):
    """The device that was asked for cannot be had, whatever the model; the message has the cause."""


class Session:
    """One graph, loaded and compared with its manifest.

    Args:
        data: the ONNX file, whole.
        graph: what the manifest says of it.
        where: the file's name in messages, e.g. "digits/1/classifier.onnx".
        device: "auto" takes CUDA where it can be had and says in the log where it cannot.
        threads: threads of one run on the CPU; 0 for one per core.

    Raises:
        LoadRefused: not a graph, not this graph, or weights outside the file.
        DeviceRefused: "cuda" was asked for and cannot be had.
    """

    def __init__(self, data: bytes, graph: Graph, *, where: str, device: Device, threads: int) -> None:
        if not data:
            raise LoadRefused(f"{where}: the file is empty, expected an ONNX graph", subject=where)
        device = choose_device(device)
        self.where = where
        self._session = _create(data, where=where, device=device, threads=threads)
        self.device = "cuda:0" if device == "cuda" else "cpu"
        _compare(self._session.get_inputs(), graph.inputs, where=where, side="input")
        _compare(self._session.get_outputs(), graph.outputs, where=where, side="output")
        self._outputs = [spec.name for spec in graph.outputs]

    def run(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """Run the graph once; blocks, and releases the GIL meanwhile.

        Args:
            tensors: every input by name, as the manifest has it, all with the same number of rows.

        Returns:
            Every output by name.

        Raises:
            InferenceFailed: the runtime raised. Its own words go to the log, not into the message.
        """
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(tensors)), strict=True))
        except Exception as error:
            log.exception("%s: the runtime raised", self.where)
            raise InferenceFailed(f"{self.where}: the runtime failed on rows that passed every check") from error


@lru_cache(maxsize=3)
def choose_device(device: Device) -> Literal["cpu", "cuda"]:
    """What `device` comes to on this machine, found out once by running a tiny graph.

    Raises:
        DeviceRefused: `device` is "cuda" and CUDA cannot be had; the message has the cause.
    """
    if device == "cpu":
        return "cpu"
    cause = _why_no_cuda()
    if cause is None:
        return "cuda"
    if device == "cuda":
        raise DeviceRefused(f"device 'cuda' cannot be had: {cause}", subject="device", expected="cuda", got=cause)
    log.info("device 'auto' is the CPU: %s", cause)
    return "cpu"


def _why_no_cuda() -> str | None:
    import onnxruntime as ort

    available = ort.get_available_providers()
    if CUDA not in available:
        return f"this build of ONNX Runtime {ort.__version__} has no CUDA provider, it has {', '.join(available)}"
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(io.StringIO()) as printed:
            ort.preload_dlls()  # finds the CUDA and cuDNN libraries that pip installed
        log.debug("preloading the CUDA libraries: %s", printed.getvalue())
    try:
        session = _create(PROBE, where="a graph of one node", device="cuda", threads=1)
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:
        return str(error)
    return None


def _create(data: bytes, *, where: str, device: Literal["cpu", "cuda"], threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # the graphs are chains: operators have nothing to do beside each other
    options.log_severity_level = 3  # errors; warnings are about graphs that work
    # Spinning threads answer one row of a small CNN in 0.24 instead of 0.33 ms (2 cores, a request each 5 ms) and burn
    # 4.5 instead of 0.4 ms of CPU for it: cores that the event loop, the codecs and the other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_EXTERNAL_DATA)
    wanted: list[Any] = [CPU] if device == "cpu" else [(CUDA, CUDA_OPTIONS), CPU]
    started = time.perf_counter()
    try:
        session = ort.InferenceSession(data, options, providers=wanted, enable_fallback=0)
    except Exception as error:
        raise LoadRefused(f"{where}: {_in_words(str(error))}", subject=where) from error
    session.disable_fallback()  # else a failing CUDA run would make the session a CPU one, printed and forgotten
    got = session.get_providers()
    if device == "cuda" and got[0] != CUDA:
        raise DeviceRefused(
            f"{where}: asked for CUDA, ONNX Runtime {ort.__version__} gave {', '.join(got)}: {_missing_library(ort)}",
            subject="device",
            expected=CUDA,
            got=", ".join(got),
        )
    log.debug("%s: session on %s in %.3f s", where, device, time.perf_counter() - started)
    return session


def _in_words(message: str) -> str:
    """The runtime's reason, with the cause of the commonest in plain words first."""
    reason = message.replace(NO_EXTERNAL_DATA, "").strip()
    if "xternal" in message or NO_EXTERNAL_DATA in message or "_ORT_MEM_ADDR_" in message:
        return f"the weights must be inside the file, this one has external data ({reason})"
    if "Protobuf parsing failed" in message or "protobuf parsing failed" in message or "No graph was found" in message:
        return f"expected an ONNX graph, got bytes that are none, or only a part of one ({reason})"
    return f"the runtime does not take it ({reason})"


def _missing_library(ort: Any) -> str:
    """Why the CUDA provider could not be loaded: the dynamic linker's own words, which the runtime only prints."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return str(error).replace(f"{folder}/", "")
    return "the provider's libraries load, the provider does not; set ORT_LOG_SEVERITY_LEVEL=0 to see why"


def _compare(got: Sequence[Any], want: tuple[TensorSpec, ...], *, where: str, side: Literal["input", "output"]) -> None:
    """Refuse a graph whose tensors are not the manifest's: names, order, types, and shapes with row axis dynamic."""
    names, wanted = [node.name for node in got], [spec.name for spec in want]
    if names != wanted:
        raise LoadRefused(
            f"{where}: the graph's {side}s are {names}, the manifest says {wanted}",
            subject=where,
            expected=str(wanted),
            got=str(names),
        )
    for node, spec in zip(got, want, strict=True):
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        dtype = NUMPY_NAMES.get(kind, kind)
        shape = tuple(axis if axis is not None else "?" for axis in node.shape)
        problem: tuple[str, str] | None = None
        if dtype != spec.dtype:
            problem = (dtype, spec.dtype)
        elif not shape or isinstance(shape[0], int):
            problem = (f"{shape}, axis 0 of fixed size", f"{spec.shape}, any number of rows")
        elif (ROWS, *shape[1:]) != spec.shape:
            problem = (str((ROWS, *shape[1:])), str(spec.shape))
        if problem:
            raise LoadRefused(
                f"{where}: {side} '{spec.name}' is {problem[0]}, the manifest says {problem[1]}",
                subject=f"{where}: {side} '{spec.name}'",
                expected=problem[1],
                got=problem[0],
            )
