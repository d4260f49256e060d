"""A small real denoiser, samplers that ask it, and a gate before its runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import Graph, Tensors, TensorSpec
from app.core.sampling.samplers import Sampler, ddim, heun, multistep, on_graph, slopes
from app.core.sampling.schedules import karras
from app.engine.session import Session
from tests.made_models import onnx_bytes, sha256

PATIENCE_S = 20
SIDE, HIDDEN, LABELS = 4, 24, 64


def denoiser_onnx() -> bytes:
    """`x` (rows, 4, 4), `sigma` (rows), `label` (rows) -> `denoised` (rows, 4, 4): two layers, preconditioned."""
    rng = np.random.default_rng(0)
    pixels = SIDE * SIDE

    def weights(*shape: int) -> NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], **attributes)

    def value(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["rows", *shape])

    return onnx_bytes(
        [
            node("Mul", ["sigma", "sigma"], "square"),
            node("Add", ["square", "one"], "variance"),
            node("Sqrt", ["variance"], "root"),
            node("Reshape", ["root", "column"], "deviation"),
            node("Flatten", ["x"], "flat", axis=1),
            node("Div", ["flat", "deviation"], "scaled"),
            node("Log", ["deviation"], "level"),
            node("Concat", ["scaled", "level"], "seen", axis=1),
            node("Gemm", ["seen", "w1"], "first"),
            node("Gather", ["embedding", "label"], "class"),
            node("Add", ["first", "class"], "sum"),
            node("Tanh", ["sum"], "hidden"),
            node("Gemm", ["hidden", "w2"], "second"),
            node("Add", ["second", "scaled"], "mixed"),
            node("Reshape", ["mixed", "shape"], "denoised"),
        ],
        [
            value("x", TensorProto.FLOAT, SIDE, SIDE),
            value("sigma", TensorProto.FLOAT),
            value("label", TensorProto.INT64),
        ],
        [value("denoised", TensorProto.FLOAT, SIDE, SIDE)],
        {
            "one": np.float32(1),
            "column": np.array([-1, 1]),
            "shape": np.array([-1, SIDE, SIDE]),
            "w1": weights(pixels + 1, HIDDEN),
            "w2": weights(HIDDEN, pixels),
            "embedding": weights(LABELS, HIDDEN),
        },
    )


def denoiser_session() -> Session:
    data = denoiser_onnx()
    picture = ("rows", SIDE, SIDE)
    graph = Graph(
        file="denoiser.onnx",
        sha256=sha256(data),
        inputs=(
            TensorSpec(name="x", dtype="float32", shape=picture),
            TensorSpec(name="sigma", dtype="float32", shape=("rows",)),
            TensorSpec(name="label", dtype="int64", shape=("rows",)),
        ),
        outputs=(TensorSpec(name="denoised", dtype="float32", shape=picture),),
    )
    return Session(data, graph, where="denoiser.onnx", device="cpu", threads=1)


def sampler(who: int, *, steps: int, rows: int = 1, method: str = "multistep") -> Sampler:
    """One request: its label and its seed say who it is."""
    rng = np.random.default_rng(who)
    sigmas = karras(steps, start=5.0)
    x = (5 * rng.normal(size=(rows, SIDE, SIDE))).astype(np.float32)
    noise = (rng.normal(size=x.shape).astype(np.float32) for _ in count())
    made = {
        "multistep": lambda: multistep(x, sigmas),
        "ddim": lambda: ddim(x, sigmas),
        "ancestral": lambda: ddim(x, sigmas, eta=1.0, noise=noise),
        "heun": lambda: slopes(heun(x, sigmas)),
    }[method]()
    return on_graph(made, t="sigma", answer="denoised", result="image", given={"label": np.full(rows, who, np.int64)})


def alone(sampling: Sampler, run: Callable[[Tensors], Tensors]) -> NDArray[Any]:
    """What the sampler gets with nobody beside it."""
    try:
        fed = next(sampling)
        while True:
            fed = sampling.send(run(fed))
    except StopIteration as end:
        image: NDArray[Any] = end.value["image"]
        return image


class Gate:
    """The denoiser, whose runs wait to be let through and are written down."""

    def __init__(self, session: Session) -> None:
        self.runs: list[dict[int, float]] = []  # label -> sigma of the rows in it
        self.sizes: list[int] = []
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._entered: asyncio.Queue[int] = asyncio.Queue()
        self._go = threading.Semaphore(0)

    def __call__(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        labels, sigmas = tensors["label"].tolist(), tensors["sigma"].tolist()
        self.runs.append(dict(zip(labels, sigmas, strict=True)))
        self.sizes.append(len(labels))
        self._loop.call_soon_threadsafe(self._entered.put_nowait, len(self.runs))
        assert self._go.acquire(timeout=PATIENCE_S)
        return self._session.run(tensors)

    async def entered(self) -> int:
        """Until the next run has begun; its number, from 1."""
        return await asyncio.wait_for(self._entered.get(), PATIENCE_S)

    async def entered_or(self, tasks: Iterable[asyncio.Task[Any]]) -> int | None:
        """As `entered`; None where all those tasks are done instead."""
        entering = asyncio.ensure_future(self.entered())
        ending = asyncio.ensure_future(asyncio.wait(tasks))
        await asyncio.wait([entering, ending], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if entering.done():
            return entering.result()
        entering.cancel()
        return None

    def let(self, runs: int = 1) -> None:
        self._go.release(runs)

    def open(self) -> None:
        self._go.release(1 << 20)

    def runs_with(self, who: int) -> list[int]:
        """The numbers of the runs that this request took part in."""
        return [i for i, run in enumerate(self.runs, 1) if who in run]
