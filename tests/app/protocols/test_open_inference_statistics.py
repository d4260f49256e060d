"""Triton's statistics: the arithmetic by hand, then what its client reads from a running server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient import http as client
from tritonclient.utils import InferenceServerException

from app.core.shared_counters import BLOCK_BYTES, Row, SharedCounters, read
from app.engine.counters import Counters
from app.protocols.open_inference.statistics import Figures, statistics, summed
from tests.app.live import LiveServer

GRAPH = ("digits", "2", "classifier")


def counted(**values: float) -> tuple[bytearray, Counters]:
    memory = bytearray(BLOCK_BYTES)
    counters = Counters(SharedCounters(memory), GRAPH, max_rows=4)
    for name, value in values.items():
        setattr(counters, name, value)
    return memory, counters


def rows_of(*memories: bytearray) -> Iterator[Row]:
    for memory in memories:
        yield from read(memory)


def test_every_figure_is_where_triton_would_put_it() -> None:
    figures = Figures(
        totals={
            "succeeded": 7.0,
            "failed": 2.0,
            "decode_s": 0.001,
            "queue_s": 0.02,
            "run_s": 0.3,
            "encode_s": 0.004,
            "fail_s": 0.5,
            "last_at": 1_700_000_000.25,
        },
        runs=[0.0, 3.0, 0.0, 2.0],
        seconds=[0.0, 0.06, 0.0, 0.08],
    )
    zero = {"count": 0, "ns": 0}
    assert statistics("digits", "2", figures).model_dump() == {
        "name": "digits",
        "version": "2",
        "last_inference": 1_700_000_000_250,
        "inference_count": 9,
        "execution_count": 5,
        "inference_stats": {
            "success": {"count": 7, "ns": 325_000_000},
            "fail": {"count": 2, "ns": 500_000_000},
            "queue": {"count": 7, "ns": 20_000_000},
            "compute_input": {"count": 7, "ns": 1_000_000},
            "compute_infer": {"count": 7, "ns": 300_000_000},
            "compute_output": {"count": 7, "ns": 4_000_000},
            "cache_hit": zero,
            "cache_miss": zero,
        },
        "batch_stats": [
            {
                "batch_size": 1,
                "compute_input": zero,
                "compute_infer": {"count": 3, "ns": 60_000_000},
                "compute_output": zero,
            },
            {
                "batch_size": 3,
                "compute_input": zero,
                "compute_infer": {"count": 2, "ns": 80_000_000},
                "compute_output": zero,
            },
        ],
    }


def test_a_model_that_nobody_asked_is_all_zero() -> None:
    reported = statistics("digits", "1", Figures())
    assert (reported.last_inference, reported.inference_count, reported.execution_count, reported.batch_stats) == (
        0,
        0,
        0,
        [],
    )
    assert reported.inference_stats.success.count == 0


def test_processes_are_added_up_and_the_last_answer_is_the_latest_of_all() -> None:
    one, first = counted(succeeded=3, run_s=0.5, last_at=100.0)
    other, second = counted(succeeded=4, run_s=0.25, last_at=90.0)
    first.runs_of_rows[1], first.seconds_of_rows[1] = 2.0, 0.5
    second.runs_of_rows[1], second.seconds_of_rows[1] = 1.0, 0.125
    second.runs_of_rows[4], second.seconds_of_rows[4] = 1.0, 0.125
    found = summed(rows_of(one, other))
    assert set(found) == {GRAPH}
    figures = found[GRAPH]
    assert (figures.totals["succeeded"], figures.totals["run_s"], figures.totals["last_at"]) == (7.0, 0.75, 100.0)
    assert figures.runs == [0.0, 3.0, 0.0, 0.0, 1.0]
    assert figures.seconds == [0.0, 0.625, 0.0, 0.0, 0.125]


def test_a_process_that_ran_larger_batches_loses_none_of_them() -> None:
    one, first = counted()
    first.runs_of_rows[4] = 1.0
    other = bytearray(BLOCK_BYTES)
    second = Counters(SharedCounters(other), GRAPH, max_rows=6)
    second.runs_of_rows[6] = 2.0
    for memories in ((one, other), (other, one)):
        assert summed(rows_of(*memories))[GRAPH].runs == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 2.0]


@pytest.fixture
def triton(server: LiveServer) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


def test_tritons_client_sees_its_requests_counted(triton: client.InferenceServerClient) -> None:
    (before,) = triton.get_inference_statistics("digits", "2")["model_stats"]
    image = client.InferInput("image", [3, 28, 28, 1], "UINT8")
    image.set_data_from_numpy(np.zeros((3, 28, 28, 1), np.uint8))
    triton.infer("digits", [image], model_version="2")
    (after,) = triton.get_inference_statistics("digits", "2")["model_stats"]
    assert (after["name"], after["version"]) == ("digits", "2")
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["last_inference"] > before["last_inference"]
    for stage in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        was, now = before["inference_stats"][stage], after["inference_stats"][stage]
        assert now["count"] == was["count"] + 1
        assert now["ns"] >= was["ns"]
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert [batch["batch_size"] for batch in after["batch_stats"]].count(3) == 1


def test_statistics_are_of_one_version_of_all_versions_or_of_all_models(triton: client.InferenceServerClient) -> None:
    def names(*asked: str) -> list[tuple[str, str]]:
        return [(m["name"], m["version"]) for m in triton.get_inference_statistics(*asked)["model_stats"]]

    assert names("digits", "1") == [("digits", "1")]
    assert names("digits") == [("digits", "1"), ("digits", "2")]
    assert names() == [("digits", "1"), ("digits", "2"), ("shades", "1")]
    for missing in (("nobody",), ("digits", "9")):
        with pytest.raises(InferenceServerException, match=r"\[404\]"):
            triton.get_inference_statistics(*missing)
