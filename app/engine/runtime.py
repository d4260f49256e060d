"""Sessions of ONNX Runtime: the only file of the app that imports it.

How each option was chosen stands where it is set. Figures, where no others are named: 2 cores with AVX-512, ONNX
Runtime 1.31, cnn-mnist (0.45 M parameters, 28x28) and cnn-cifar10 (2.0 M, 32x32), the shortest of many runs taken in
turns with what they are compared with.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import logging
import time
import weakref
from collections import Counter
from contextlib import ExitStack, redirect_stdout
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from app.core.errors import LoadRefused
from app.core.manifest import Graph
from app.engine.buckets import Buckets
from app.engine.process import cores
from app.engine.shared_weights import SharedWeights

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["auto", "cpu", "cuda"]

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
CUDA_OPTIONS = {
    "device_id": "0",
    "use_tf32": "0",  # ten bits of mantissa: only where the manifest says that its golden rows were computed so
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE times every algorithm again for each new number of rows
    "arena_extend_strategy": "kSameAsRequested",
}

# Weights outside the file would escape its hash. Their folder is set to a path below a regular file, which cannot
# exist, so that the runtime itself refuses them wherever the graph names them (initialisers, constants, subgraphs).
NO_EXTERNAL_DATA = str(Path(__file__) / "the-weights-must-be-inside-the-file")

# y = Identity(x), float32 (rows): the smallest graph, to test a device before any model is read.
PROBE = (
    b'\x08\t:C\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x06\x12\x04'
    b"rowsb\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x06\x12\x04rowsB\x04\n\x00\x10\x11"
)


# How the operator of a GRU node stands in the file: field 4 of a NodeProto, its length, its name.
GRU = b"\x22\x03GRU"


class DeviceRefused(LoadRefused):
    """The requested device cannot be had, whatever the model; the message has the cause."""


@lru_cache(maxsize=3)
def choose_device(device: Device) -> Literal["cpu", "cuda"]:
    """The device that `device` means on this machine, found once by running a tiny graph.

    Raises:
        DeviceRefused: `device` is "cuda" and CUDA cannot be had; the message has the cause.
    """
    _share_arena()
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
        session, _ = create(PROBE, where="a graph of one node", cuda=CUDA_OPTIONS, threads=1)
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:
        return str(error)
    return None


def create(
    data: bytes, *, where: str, cuda: dict[str, str] | None, threads: int, shared: SharedWeights | None = None
) -> tuple[onnxruntime.InferenceSession, dict[str, int]]:
    """A session on CUDA with these options of its provider, or on the CPU.

    Args:
        shared: the files that all processes of one server map; only for the CPU.

    Returns:
        The session, and the number of nodes by provider.

    Raises:
        LoadRefused: the runtime does not take these bytes.
        DeviceRefused: it takes them, but not on the requested provider.
    """
    started = time.perf_counter()
    # Threads of a GRU meet after each time step and wait for each other spinning, whatever the option says (LSTM's do
    # not). 2 against 1: `speech` takes 40 % more CPU for 0 to 25 % less time (1 to 16 recordings of 3 s), a streamed
    # piece 8.6 against 1.8 ms of CPU, 2.2 against 1.8 ms; and while something else has the other core, 29 against 1.7
    # ms of CPU, 90 against 1.6 ms.
    if GRU in data:
        threads = threads or 1
    created = _from_map(data, where, threads, shared) if shared is not None and cuda is None else None
    if created is None:
        session = _from_bytes(data, where=where, cuda=cuda, threads=threads)
        created = session, _nodes(session)
    log.debug("%s: session in %.3f s: %s", where, time.perf_counter() - started, created[1])
    return created


def _from_bytes(
    data: bytes, *, where: str, cuda: dict[str, str] | None, threads: int, save_as: Path | None = None
) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options = _options(ort, threads, on_cpu=cuda is None)
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_EXTERNAL_DATA)
    if save_as is not None:
        options.optimized_model_filepath = str(save_as)
        options.add_session_config_entry("session.save_model_format", "ORT")
    wanted: list[Any] = [CPU] if cuda is None else [(CUDA, cuda), CPU]
    try:
        session = ort.InferenceSession(data, options, providers=wanted, enable_fallback=0)
    except Exception as error:
        raise LoadRefused(f"{where}: {_in_words(str(error))}", subject=where) from error
    session.disable_fallback()  # else a failing CUDA run would make the session a CPU one, printed and forgotten
    session._model_bytes = b""  # kept for that fallback alone: the file once more, for as long as the session lives
    requested, got = [CPU] if cuda is None else [CUDA, CPU], session.get_providers()
    if got != requested:
        raise DeviceRefused(
            f"{where}: asked for {requested[0]}, ONNX Runtime {ort.__version__} gave {', '.join(got)}: "
            f"{_missing_library(ort)}",
            subject="device",
            expected=requested[0],
            got=", ".join(got),
        )
    return session


def _from_map(
    data: bytes, where: str, threads: int, shared: SharedWeights
) -> tuple[onnxruntime.InferenceSession, dict[str, int]] | None:
    """A session whose weights lie in a file that all processes of the server map; None where that cannot be.

    The file is what the runtime made of these very bytes, in the order that this machine's CPU wants. Two processes
    with both models: 28 instead of 43 MB private each, and the second one loads in a sixth of the time. Weights of
    matrix products are packed once more, by each process for itself (without that, 4 rows take 5 times as long).
    """
    import onnxruntime as ort

    def build(path: Path) -> str:
        return str(_nodes(_from_bytes(data, where=where, cuda=None, threads=threads, save_as=path))[CPU])

    with ExitStack() as undo:
        try:
            file = shared.file(hashlib.sha256(data).hexdigest(), build)
            undo.callback(file.close)
            options = _options(ort, threads, on_cpu=True)
            options.add_session_config_entry("session.load_model_format", "ORT")
            options.add_session_config_entry("session.use_memory_mapped_ort_model", "1")
            options.add_session_config_entry("session.use_ort_model_bytes_for_initializers", "1")
            session = ort.InferenceSession(file.path, options, providers=[CPU], enable_fallback=0)
        except Exception as error:  # no room, for one; if it is the graph's fault, its bytes are refused next
            log.warning("%s: its memory is not shared with other workers: %s", where, error)
            return None
        weakref.finalize(session, undo.pop_all().close)
    return session, {CPU: int(file.note)}  # what is loaded from such a file does not count its nodes


def _options(ort: Any, threads: int, *, on_cpu: bool) -> Any:
    options = ort.SessionOptions()
    # 2 threads against 1: 1.6 times the rows/s in runs of one row, 1.7 of 16, 1.8 of 64 (2,295, 3,873 and 4,296 against
    # 1,424, 2,338 and 2,355; 269, 369 and 413 against 174, 220 and 217). With 1, which is best where as many processes
    # serve as there are cores, 8 rows reach 97 % of the most; with 2 it takes 48, so every row that waits is taken.
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
    if on_cpu:
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
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


def cuda_options(graph: Graph, gpu_memory_mb: int) -> dict[str, str]:
    """The CUDA provider's options for one graph; `gpu_memory_mb` 0 is no limit."""
    options = CUDA_OPTIONS | {"use_tf32": "1" if graph.precision == "tf32" else "0"}
    return options | {"gpu_mem_limit": str(gpu_memory_mb << 20)} if gpu_memory_mb else options


def cuda_buckets(session: onnxruntime.InferenceSession, graph: Graph, max_rows: int) -> Buckets:
    import onnxruntime as ort

    return Buckets(session, ort.OrtValue, graph, max_rows)


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
