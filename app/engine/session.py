"""One ONNX graph on one device: the only file of the house that imports onnxruntime.

A session is made from bytes that the caller has read once and hashed, so that what was checked is what runs. The
graph is compared with the manifest here, once; `run` trusts both afterwards.
"""

from __future__ import annotations

import ctypes
import io
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InferenceFailed, LoadRefused
from app.core.manifest import ROWS, Graph, Tensors, TensorSpec, numpy_dtype
from app.engine.buckets import Buckets
from app.engine.process import cores

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["auto", "cpu", "cuda"]

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
CUDA_OPTIONS = {
    "device_id": "0",
    "use_tf32": "0",  # ten bits of mantissa: only where the manifest says that its answers were made so
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
        threads: threads of one run on the CPU; 0 for one per core that the process may use.
        gpu_memory_mb: at most this much memory of the GPU for the graph's weights and runs; 0 for no limit.

    Attributes:
        device: what it really got: "cpu" or "cuda:0".
        nodes: operators of the graph by the provider that runs them, as ONNX Runtime calls it.
        weight_bytes: size of the file, which is that of the weights but for a few kilobytes.

    Raises:
        LoadRefused: not a graph, not this graph, or weights outside the file.
        DeviceRefused: "cuda" was asked for and cannot be had, or none of the graph would run there.
    """

    def __init__(
        self, data: bytes, graph: Graph, *, where: str, device: Device, threads: int, gpu_memory_mb: int = 0
    ) -> None:
        if not data:
            raise LoadRefused(f"{where}: the file is empty, expected an ONNX graph", subject=where)
        chosen = choose_device(device)
        cuda = _cuda_options(graph, gpu_memory_mb) if chosen == "cuda" else None
        self.where = where
        self.weight_bytes = len(data)
        self._graph = graph
        self._session = _create(data, where=where, cuda=cuda, threads=threads)
        self.nodes = _nodes(self._session)
        self.device = self._device_got(device, chosen)
        _compare(self._session.get_inputs(), graph.inputs, where=where, side="input")
        _compare(self._session.get_outputs(), graph.outputs, where=where, side="output")
        self._outputs = [spec.name for spec in graph.outputs]
        self._buckets: Buckets | None = None
        self._bucket_rows = 0

    def warm(self, max_rows: int) -> None:
        """Run what must not be cold when the first user comes; named axes other than rows are given size 1.

        On the CPU one row and a full batch, so that the memory of the largest run is there (or missing) before anybody
        is served. No other size is worth it: with these two, the first run of 2 to 63 rows takes 0.1 ms longer than
        later ones of the same size (medians of 9 fresh sessions of a 2 and a 0.5 ms graph, 14 sizes), and rows that are
        filled up would cost as much as rows that are asked for. On CUDA every bucket.

        Raises:
            InferenceFailed: the runtime raised.
        """
        sizes: tuple[int, ...] = (1, max_rows)
        specs = (*self._graph.inputs, *self._graph.outputs)
        if self.device != "cpu" and all(isinstance(axis, int) for spec in specs for axis in spec.shape[1:]):
            self._buckets = self._make_buckets(max_rows)
            self._bucket_rows, sizes = max_rows, self._buckets.sizes
        for rows in sizes:
            self.run(
                {
                    spec.name: np.zeros(
                        (rows, *(axis if isinstance(axis, int) else 1 for axis in spec.shape[1:])),
                        numpy_dtype(spec.dtype),
                    )
                    for spec in self._graph.inputs
                }
            )

    def run(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """Run the graph once; blocks, and releases the GIL meanwhile. For one thread at a time.

        Args:
            tensors: every input by name, as the manifest has it, all with the same number of rows.

        Returns:
            Every output by name.

        Raises:
            InferenceFailed: the runtime raised. Its own words go to the log, not into the message.
        """
        try:
            if self._buckets is not None and len(tensors[self._graph.inputs[0].name]) <= self._bucket_rows:
                return self._buckets.run(tensors)
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(tensors)), strict=True))
        except Exception as error:
            log.exception("%s: the runtime raised", self.where)
            raise InferenceFailed(f"{self.where}: the runtime failed on rows that passed every check") from error

    def _make_buckets(self, max_rows: int) -> Buckets:
        import onnxruntime as ort

        try:
            return Buckets(self._session, ort.OrtValue, self._graph, max_rows)
        except Exception as error:
            message = f"{self.where}: no buffers for {max_rows} rows on {self.device}: {error}"
            raise LoadRefused(message, subject=self.where) from error

    def _device_got(self, asked: Device, chosen: Literal["cpu", "cuda"]) -> str:
        """The device that runs the nodes, whatever the session calls itself."""
        if chosen == "cpu":
            return "cpu"
        total, there = sum(self.nodes.values()), self.nodes.get(CUDA, 0)
        if there == total:
            return "cuda:0"
        message = f"{self.where}: {total - there} of {total} nodes run on the CPU, CUDA has no kernel for them"
        if there == 0 and asked == "cuda":
            raise DeviceRefused(message, subject="device", expected=CUDA, got=str(self.nodes))
        log.warning(message)
        return "cuda:0" if there else "cpu"


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
        session = _create(PROBE, where="a graph of one node", cuda=CUDA_OPTIONS, threads=1)
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:
        return str(error)
    return None


def _create(data: bytes, *, where: str, cuda: dict[str, str] | None, threads: int) -> onnxruntime.InferenceSession:
    """A session on CUDA with these options of its provider, or on the CPU."""
    import onnxruntime as ort

    if cuda is None:
        _share_arena()
    options = _options(ort, threads)
    if cuda is None:
        options.add_session_config_entry("session.use_env_allocators", "1")
    wanted: list[Any] = [CPU] if cuda is None else [(CUDA, cuda), CPU]
    started = time.perf_counter()
    try:
        session = ort.InferenceSession(data, options, providers=wanted, enable_fallback=0)
    except Exception as error:
        raise LoadRefused(f"{where}: {_in_words(str(error))}", subject=where) from error
    session.disable_fallback()  # else a failing CUDA run would make the session a CPU one, printed and forgotten
    session._model_bytes = b""  # kept for that fallback alone: the file once more, for as long as the session lives
    got = session.get_providers()
    if got != [name if isinstance(name, str) else name[0] for name in wanted]:
        raise DeviceRefused(
            f"{where}: asked for {wanted[0][0]}, ONNX Runtime {ort.__version__} gave {', '.join(got)}: "
            f"{_missing_library(ort)}",
            subject="device",
            expected=wanted[0][0],
            got=", ".join(got),
        )
    log.debug("%s: session on %s in %.3f s", where, got[0], time.perf_counter() - started)
    return session


def _options(ort: Any, threads: int) -> Any:
    """How every session is made. Figures: 2 cores with AVX-512, ONNX Runtime 1.31, a 28x28 CNN of 0.45 M parameters
    and a 32x32 one of 2.0 M, the shortest of many runs taken in turns with what they are compared with."""
    options = ort.SessionOptions()
    # 2 threads against 1: 1.2 to 1.3 times the rows/s on one row at a time, 1.8 times from 16 rows on. Where as many
    # processes as cores serve, 1 thread each gives more in all, and from 8 rows on a run's size no longer matters.
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1  # the graphs are chains: operators have nothing to do beside each other
    options.log_severity_level = 3  # errors; warnings are about graphs that work
    # ORT_ENABLE_ALL, which lays convolutions out in blocks of channels: 1.6 to 2 times as fast as ORT_ENABLE_EXTENDED
    # (230 against 460 us, 2.3 against 4.1 ms a row of 64), for 16 MB more.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads answer one row of a small CNN in 0.24 instead of 0.33 ms (2 cores, a request each 5 ms) and burn
    # 4.5 instead of 0.4 ms of CPU for it: cores that the event loop, the codecs and the other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A pattern of memory is kept for each number of rows that was ever run, as one block each: both models grew from
    # 208 MB after warming to 356 MB, and went on. Without it 185 MB, flat; no difference in time (within 1 %).
    options.enable_mem_pattern = False
    # Weights outside the arena, so that a model that goes gives its memory back whole.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # for Session.nodes
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_EXTERNAL_DATA)
    # Left as they are: prepacking (off: no difference), denormals as zero (on: none, and it changes the thread that
    # calls), shrinking the arena after each run (on: 40 MB less between runs, the same at their peak, no longer flat),
    # GELU by approximation (on: none; it changes answers).
    return options


@cache
def _share_arena() -> None:
    """One arena of memory for the runs of all sessions on the CPU, which grows by what is asked for.

    Sessions with an arena each, which doubles: 226 MB after the load of two models; this: 185. Off, with every block
    from malloc: 150 to 184 MB and up to 1.7 times the time, for each run then faults its pages in again.
    """
    import onnxruntime as ort

    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": 1}))  # kSameAsRequested


def _cuda_options(graph: Graph, gpu_memory_mb: int) -> dict[str, str]:
    options = CUDA_OPTIONS | {"use_tf32": "1" if graph.precision == "tf32" else "0"}
    return options | {"gpu_mem_limit": str(gpu_memory_mb << 20)} if gpu_memory_mb else options


def _nodes(session: onnxruntime.InferenceSession) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counted[part.ep_name] += len(part.get_nodes())
    return dict(counted)


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
