"""The bench's own arithmetic, its requests, and its load that does not wait."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, shape_inference

from tests.app.denoisers import make_denoisers
from tests.app.drawers import make_drawers
from tests.app.live import open_server
from tests.app.translators import make_translators
from tests.bench import models, soak
from tests.bench.cells import Place, places
from tests.bench.checks import WrongAnswer, check
from tests.bench.mixture import mixture
from tests.bench.openloop import Load, Log
from tests.bench.overload import window
from tests.bench.processes import Running, Tree
from tests.bench.shapes import SHAPES
from tests.made_clips import make_watchers
from tests.made_models import make_classifier_folder
from tests.made_sounds import make_hearers


def flops_of_a_row(data: bytes) -> int:
    """Two for each multiplication of a weight, in the convolutions and layers."""
    graph = shape_inference.infer_shapes(onnx.load_model_from_string(data)).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    sizes = {i.name: numpy_helper.to_array(i).size for i in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            places_used = math.prod(shapes[node.output[0]][2:])  # each weight once for each place of the picture
            total += 2 * sizes[node.input[1]] * places_used
    return total


@pytest.mark.parametrize(("name", "mflop"), [("cnn", 37.4), ("mlp", 0.0508), ("heavy", 1157.0)])
def test_the_models_cost_what_the_table_says(name: str, mflop: float) -> None:
    assert flops_of_a_row(models.made(name)) / 1e6 == pytest.approx(mflop, rel=0.005)


def test_a_graph_of_other_inputs_is_not_served_as_the_cnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "heavy.onnx"
    file.write_bytes(models.heavy_onnx(layers=1))
    monkeypatch.setenv(models.EXTERNAL, str(file))
    with pytest.raises(models.WrongModel, match=r"\('x', 1, \(0, 8\)\).*expected.*'image'"):
        models.cnn_onnx()
    file.write_bytes(models.mlp_onnx())
    assert models.cnn_onnx() == models.mlp_onnx()


def test_cells_are_read_and_a_wrong_one_is_named() -> None:
    assert places("A1, mlp/C32") == [Place("cnn", "A", 1), Place("mlp", "C", 32)]
    for wrong in ("Z1", "A", "A0", "big/A1"):
        with pytest.raises(ValueError, match=f"'{wrong}'"):
            places(f"A1,{wrong}")


@pytest.mark.slow
def test_every_form_gets_the_right_answer_and_another_models_answer_is_seen(tmp_path: Path) -> None:
    right = models.publish(tmp_path / "models", "mlp")
    other = onnx.load_model_from_string(right)
    for weight in other.graph.initializer:
        if weight.name == "f2.weight":
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    with open_server(tmp_path / "models") as live:
        server = Running(live.port, Tree("nobody"), 0.0, tmp_path / "log")
        assert check(server, "mlp", right, list(SHAPES.values())) <= 1e-5
        for shape in SHAPES.values():
            with pytest.raises(WrongAnswer):
                check(server, "mlp", other.SerializeToString(), [shape])


@pytest.mark.parametrize("make", [make_drawers, make_denoisers, make_translators, make_hearers, make_watchers])
def test_every_request_of_the_mixture_gets_the_answer_that_it_expects(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make_classifier_folder(tmp_path, "digits")
    make(tmp_path)
    with open_server(tmp_path) as live:
        for send in mixture(tmp_path, times=1):
            reply = live.ask(send.method, send.path, send.body, send.headers)
            assert send.is_right(reply.status, reply.body), (send.kind, send.path, reply.body[:300])


async def offered_to(serve: bytes | None, per_s: float, seconds: float) -> Log:
    """The log of a load on a server that answers every read with `serve`, or never."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                if serve is not None:
                    writer.write(serve)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        load = Load("127.0.0.1", server.sockets[0].getsockname()[1], [b"GET / HTTP/1.1\r\n\r\n"], 100)
        return await load.run(per_s, seconds, seed=1, drain_s=0.05)


@pytest.mark.anyio
async def test_the_open_loop_goes_on_sending_while_nothing_is_answered() -> None:
    log = await offered_to(None, 200, 0.2)
    assert 20 < log.offered < 70
    assert log.status == []


@pytest.mark.anyio
async def test_the_open_loop_counts_what_had_no_connection_and_what_was_answered() -> None:
    log = await offered_to(None, 1000, 0.2)
    assert log.offered == 100  # as many as there are connections
    assert log.unsent == log.most_waiting > 50
    log = await offered_to(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno", 500, 0.2)
    assert log.offered == len(log.status) > 50
    assert set(log.status) == {429}
    assert all(due <= sent <= done for due, sent, done in zip(log.due_s, log.sent_s, log.done_s, strict=True))


def test_a_window_counts_latency_from_the_schedule_and_goodput_by_the_answer() -> None:
    log = Log(
        due_s=[0.1, 0.2, 0.3, 4.9, 6.0],
        sent_s=[0.1, 0.2, 0.303, 4.9, 6.0],
        done_s=[0.2, 5.2, 0.304, 4.9, 6.1],
        status=[200, 200, 429, 500, 200],
    )
    first = window(log, 429, 0.0, 5.0)
    assert (first.offered, first.busy, first.others) == (4, 1, 1)
    assert first.good_per_s == pytest.approx(1 / 5)  # the second was answered after the window
    assert first.p50_ms == pytest.approx((100 + 5000) / 2)
    assert first.busy_p99_ms == pytest.approx(4)
    assert first.busy_sent_p99_ms == pytest.approx(1)


def test_growth_is_from_the_minute_after_settling_to_the_last() -> None:
    samples = [(10.0 * i, 100 if i < 12 else 200 if i < 100 else 210, 0) for i in range(1, 181)]
    assert soak.growth(samples, 1800, 1) == pytest.approx(0.05)
