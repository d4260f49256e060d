"""The batcher, gated by events. One long file, because its promises are told of one mechanism and share its gate."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.core.errors import Busy, InferenceFailed, TooLarge, TooLate, Unavailable, Unprocessable
from app.core.manifest import Tensors
from app.engine import runner as module
from app.engine.batcher import Batcher
from app.engine.counters import Counters
from app.engine.queue import FIRST, LAST
from app.engine.rate import Rate
from app.engine.runner import Answer
from tests.in_loop import in_loop

PATIENCE_S = 20
POISON = -1.0


def known(x: NDArray[Any]) -> NDArray[Any]:
    """What the fake model answers: one number for each row, from that row alone."""
    return 3 * x.reshape(len(x), -1).sum(axis=1) + 1


def rows(*values: float) -> Tensors:
    return {"x": np.array(values, np.float64)[:, None]}


class Gate:
    """A model whose runs wait to be let through, one by one, and are written down."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.batches: list[list[float]] = []
        self.fed: list[Tensors] = []
        self.is_open = is_open
        self._entered = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def __call__(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        x = tensors["x"]
        self.fed.append(tensors)
        self.batches.append([float(value) for value in x.reshape(len(x), -1)[:, 0]])
        self._entered.release()
        if not self.is_open:
            assert self._go.acquire(timeout=PATIENCE_S)
        if (x == POISON).any():
            raise RuntimeError("poisoned")
        return {"y": known(x)}

    async def entered(self) -> None:
        """Until the next run has begun."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=PATIENCE_S)

    def let(self, runs: int = 1) -> None:
        self._go.release(runs)

    def open(self) -> None:
        self.is_open = True
        self._go.release()

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


def made(run: Callable[[Tensors], dict[str, NDArray[Any]]], **options: Any) -> Batcher:
    return Batcher(run, **({"name": "m/1/g", "max_rows": 8, "max_queued_rows": 1000} | options))


async def queued(*submits: Coroutine[Any, Any, Answer]) -> list[asyncio.Task[Answer]]:
    """Tasks that have all come to wait for their answer, in this order."""
    tasks = [asyncio.ensure_future(submit) for submit in submits]
    await asyncio.sleep(0)
    return tasks


@in_loop
async def test_an_idle_batcher_runs_a_lone_request_at_once() -> None:
    gate = Gate(is_open=True)
    batcher = made(gate)
    answers = [await batcher.submit(rows(i)) for i in range(50)]
    await batcher.close()
    assert [answer.batch_rows for answer in answers] == [1] * 50
    assert min(answer.queue_s for answer in answers) < 1e-3
    assert [float(answer.tensors["y"][0]) for answer in answers] == [3 * i + 1 for i in range(50)]


@in_loop
async def test_batches_grow_while_a_run_is_in_progress() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    others = await queued(*(batcher.submit(rows(i)) for i in range(1, 12)))
    gate.open()
    answers = await asyncio.gather(*first, *others)
    await batcher.close()
    assert gate.sizes == [1, 8, 3]
    assert [float(answer.tensors["y"][0]) for answer in answers] == [3 * i + 1 for i in range(12)]
    assert [answer.batch_rows for answer in answers] == [1, *[8] * 8, *[3] * 3]


@in_loop
async def test_rows_are_counted_not_requests() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    others = await queued(*(batcher.submit(rows(i, i, i)) for i in (1, 2, 3)))
    gate.open()
    await asyncio.gather(*first, *others)
    await batcher.close()
    assert gate.batches[1] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert gate.batches[2] == [3]
    assert (batcher.counters.requests, batcher.counters.rows, batcher.counters.runs) == (4, 10, 3)


@in_loop
async def test_a_request_larger_than_a_run_is_split_and_put_together_in_order() -> None:
    gate = Gate(is_open=True)
    batcher = made(gate)
    x = np.random.default_rng(0).normal(size=(21, 2, 3))
    answer = await batcher.submit({"x": x})
    await batcher.close()
    assert gate.sizes == [8, 8, 5]
    np.testing.assert_array_equal(answer.tensors["y"], known(x))
    assert answer.batch_rows == 8


@in_loop
async def test_one_request_that_fits_is_run_without_a_copy() -> None:
    gate = Gate(is_open=True)
    batcher = made(gate)
    request = rows(1, 2, 3)
    await batcher.submit(request)
    await batcher.close()
    assert gate.fed[0]["x"] is request["x"]


@in_loop
async def test_a_single_row_joins_the_next_run_although_ten_runs_of_work_came_before() -> None:
    gate = Gate()
    batcher = made(gate)
    heavy = await queued(batcher.submit(rows(*[0] * 80)))
    await gate.entered()
    single = await queued(batcher.submit(rows(5)))
    gate.let(2)
    answer = await single[0]
    assert gate.batches[1] == [5] + [0] * 7
    assert float(answer.tensors["y"][0]) == 16
    gate.is_open = True
    gate.let(1)
    whole = await heavy[0]
    await batcher.close()
    np.testing.assert_array_equal(whole.tensors["y"], np.ones(80))
    assert sum(gate.sizes) == 81


@in_loop
async def test_a_single_row_waits_for_one_run_more_at_most_behind_many_heavy_requests() -> None:
    gate = Gate()
    batcher = made(gate)
    heavy = await queued(*(batcher.submit(rows(*[0] * 8)) for _ in range(10)))
    await gate.entered()
    single = await queued(batcher.submit(rows(5)))
    gate.open()
    await asyncio.gather(*heavy, *single)
    await batcher.close()
    assert next(i for i, batch in enumerate(gate.batches) if 5 in batch) <= 2


@in_loop
async def test_a_single_row_waits_no_longer_behind_a_large_request_whose_rows_are_queued_one_by_one() -> None:
    gate = Gate()
    batcher = made(gate)
    many = await queued(*(batcher.submit(rows(0), of=80) for _ in range(80)))
    await gate.entered()
    single = await queued(batcher.submit(rows(5)))
    gate.open()
    await asyncio.gather(*many, *single)
    await batcher.close()
    assert next(i for i, batch in enumerate(gate.batches) if 5 in batch) <= 2


@in_loop
async def test_light_traffic_does_not_starve_a_heavy_request() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    light = await queued(*(batcher.submit(rows(1, 1)) for _ in range(40)))
    heavy = await queued(batcher.submit(rows(*[2] * 24)))
    gate.open()
    await asyncio.gather(*first, *light, *heavy)
    await batcher.close()
    last_of_heavy = max(i for i, batch in enumerate(gate.batches) if 2 in batch)
    assert last_of_heavy <= 6  # three runs' worth, at least every second run is led by it


@in_loop
async def test_rows_of_another_shape_form_their_own_run_and_are_not_starved() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    narrow = [{"x": np.full((1, 1), 1.0)} for _ in range(12)]
    wide = {"x": np.full((1, 5), 2.0)}
    single = {"x": np.full((1, 1), 3, np.float32)}
    tensors = [narrow[0], wide, *narrow[1:], single]
    others = await queued(*(batcher.submit(each) for each in tensors))
    gate.open()
    answers = await asyncio.gather(*first, *others)
    await batcher.close()
    assert gate.batches[1:] == [[1] * 8, [2], [1] * 4, [3]]
    for each, answer in zip(tensors, answers[1:], strict=True):
        np.testing.assert_array_equal(answer.tensors["y"], known(each["x"]))


@in_loop
async def test_a_poisoned_request_fails_alone() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    others = await queued(*(batcher.submit(rows(POISON if i == 4 else i)) for i in range(1, 9)))
    gate.open()
    results = await asyncio.gather(*first, *others, return_exceptions=True)
    await batcher.close()
    assert [i for i, result in enumerate(results) if isinstance(result, InferenceFailed)] == [4]
    assert [float(r.tensors["y"][0]) for r in results if isinstance(r, Answer)] == [1, 4, 7, 10, 16, 19, 22, 25]
    assert batcher.counters.failed_runs == 4  # 8 rows, 4, 2, 1


@in_loop
async def test_a_large_request_with_a_poisoned_row_fails_once_and_its_rest_is_not_run() -> None:
    gate = Gate(is_open=True)
    batcher = made(gate)
    with pytest.raises(InferenceFailed, match="m/1/g"):
        await batcher.submit(rows(POISON, *[0] * 30))
    assert (await batcher.submit(rows(7))).tensors["y"][0] == 22
    await batcher.close()
    assert gate.sizes == [8, 1]
    assert batcher.counters.queued_rows == 0


@pytest.mark.parametrize("raised", [MemoryError(), SystemExit(), KeyboardInterrupt(), ValueError("secret")])
def test_whatever_a_run_raises_its_request_is_told_and_the_next_one_answered(raised: BaseException) -> None:
    calls = itertools.count()

    def run(tensors: Tensors) -> dict[str, NDArray[Any]]:
        if next(calls) == 0:
            raise raised
        return {"y": known(tensors["x"])}

    @in_loop
    async def drive() -> None:
        batcher = made(run)
        with pytest.raises(InferenceFailed) as failure:
            await batcher.submit(rows(1))
        assert "secret" not in failure.value.detail
        assert (await batcher.submit(rows(1))).tensors["y"][0] == 4
        await batcher.close()

    drive()


@in_loop
async def test_an_output_with_another_number_of_rows_is_never_shared_out() -> None:
    batcher = made(lambda tensors: {"y": np.zeros(len(tensors["x"]) + 1)})
    with pytest.raises(InferenceFailed, match=r"output 'y' is \(3,\), expected 2 rows"):
        await batcher.submit(rows(1, 2))
    await batcher.close()


@in_loop
async def test_a_cancelled_request_leaves_the_queue_and_is_not_run() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    gone, stays = await queued(batcher.submit(rows(1, 1)), batcher.submit(rows(2)))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert batcher.counters.queued_rows == 1
    gate.open()
    await asyncio.gather(*first, stays)
    await batcher.close()
    assert gate.batches == [[0], [2]]
    assert batcher.counters.cancelled == 1


@in_loop
async def test_a_request_cancelled_while_it_runs_stops_after_that_run() -> None:
    gate = Gate()
    batcher = made(gate)
    (large,) = await queued(batcher.submit(rows(*[1] * 80)))
    await gate.entered()
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    gate.open()
    assert (await batcher.submit(rows(2))).tensors["y"][0] == 7
    await batcher.close()
    assert gate.batches == [[1] * 8, [2]]
    assert batcher.counters.queued_rows == 0


@in_loop
async def test_a_request_cancelled_a_moment_ago_is_not_run_before_the_loop_has_noticed() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    (gone,) = await queued(batcher.submit(rows(1)))
    gone.cancel()  # and the loop does not turn: the worker comes first
    gate.open()
    batcher._closing = True
    with batcher._changed:
        batcher._changed.notify()
    batcher._worker.join(PATIENCE_S)
    await asyncio.gather(*first, gone, return_exceptions=True)
    assert gate.batches == [[0]]
    assert batcher.counters.queued_rows == 0
    await batcher.close()


@in_loop
async def test_a_full_queue_refuses_and_takes_again_when_there_is_room() -> None:
    gate = Gate()
    batcher = made(gate, max_queued_rows=4)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    fits = await queued(batcher.submit(rows(1, 2, 3)))
    with pytest.raises(Busy, match=r"3 rows are queued.* 4 ") as busy:
        await batcher.submit(rows(4, 5))
    assert busy.value.retry_after_s == 1.0  # nothing measured yet
    last = await queued(batcher.submit(rows(6)))
    assert (batcher.counters.rejected, batcher.counters.queued_rows) == (1, 4)
    gate.open()
    await asyncio.gather(*first, *fits, *last)
    await batcher.submit(rows(4, 5))
    await batcher.close()
    assert gate.batches == [[0], [1, 2, 3, 6], [4, 5]]


@in_loop
async def test_retry_after_is_what_is_queued_over_the_measured_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    clock = itertools.count(step=2.0)  # a run lasts from one look at the clock to the next
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    batcher = made(gate, max_queued_rows=9)
    measured = await queued(batcher.submit(rows(*[0] * 4)))
    await gate.entered()
    gate.let(1)
    await asyncio.gather(*measured)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    waiting = await queued(batcher.submit(rows(*[1] * 6)))
    with pytest.raises(Busy) as busy:
        await batcher.submit(rows(*[2] * 5))
    assert busy.value.retry_after_s == pytest.approx(6 / (4 / 2))
    gate.open()
    await asyncio.gather(*first, *waiting)
    await batcher.close()


@in_loop
async def test_more_seconds_of_work_than_it_holds_are_refused_but_for_what_is_owed_or_comes_first() -> None:
    gate = Gate()
    batcher = made(gate, max_queued_rows=99, max_queued_s=2.0)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    for _ in range(2):  # few measurements refuse nobody
        batcher.rate.observe(1, 1.5, monotonic())
    waiting = await queued(batcher.submit(rows(1, 2)), batcher.submit(rows(3)))
    batcher.rate.observe(1, 1.5, monotonic())
    with pytest.raises(Busy, match=r"3 rows are queued, 3 of them before these, .* 4\.5 s, at most 2 s wait") as busy:
        await batcher.submit(rows(4))
    assert busy.value.retry_after_s == pytest.approx(4.5)
    with pytest.raises(Busy):
        batcher.check_room()
    more = await queued(batcher.submit(rows(5), owed=True), batcher.submit(rows(6), priority=FIRST))
    assert batcher.counters.rejected == 2
    gate.open()
    await asyncio.gather(*first, *waiting, *more)
    await batcher.close()
    assert gate.batches == [[0], [6, 1, 2, 3, 5]]


@in_loop
async def test_an_empty_queue_takes_whatever_fits_however_long_it_takes() -> None:
    gate = Gate()
    batcher = made(gate, max_queued_rows=99, max_queued_s=2.0)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    for _ in range(3):
        batcher.rate.observe(1, 60.0, monotonic())
    large = await queued(batcher.submit(rows(*range(40))))
    gate.open()
    await asyncio.gather(*first, *large)
    await batcher.close()


@in_loop
async def test_requests_that_no_wait_would_help_are_refused_by_what_is_wrong() -> None:
    batcher = made(Gate(is_open=True), max_queued_rows=10)
    with pytest.raises(Unprocessable, match="at least one row"):
        await batcher.submit({"x": np.zeros((0, 3))})
    with pytest.raises(Unprocessable, match="same number of rows"):
        await batcher.submit({"x": np.zeros((2, 3)), "t": np.zeros(3)})
    with pytest.raises(Unprocessable, match="same number of rows"):
        await batcher.submit({"x": np.float32(1).reshape(())})
    with pytest.raises(Unprocessable, match="same number of rows"):
        await batcher.submit({})
    with pytest.raises(TooLarge, match="11 rows in one request, at most 10"):
        await batcher.submit({"x": np.zeros((11, 1))})
    await batcher.close()
    assert batcher.counters.requests == 0


@in_loop
async def test_closing_while_busy_answers_what_was_accepted_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    gate = Gate()
    batcher = made(gate)
    accepted = await queued(batcher.submit(rows(0)))
    await gate.entered()
    accepted += await queued(*(batcher.submit(rows(i)) for i in range(1, 20)))
    closing = asyncio.ensure_future(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await batcher.submit(rows(99))
    gate.open()
    answers = await asyncio.gather(*accepted)
    await closing
    await batcher.close()  # again is no error
    assert [float(answer.tensors["y"][0]) for answer in answers] == [3 * i + 1 for i in range(20)]
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("batcher")]


def test_an_event_loop_that_closes_first_does_not_kill_the_worker() -> None:
    gate = Gate()
    batcher: Batcher | None = None

    async def leave_early() -> None:
        nonlocal batcher
        batcher = made(gate)
        await queued(batcher.submit(rows(0)))
        await gate.entered()

    asyncio.run(leave_early())
    gate.open()
    assert batcher is not None
    asyncio.run(batcher.close())
    assert not batcher._worker.is_alive()


@in_loop
async def test_the_event_loop_is_woken_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    others = await queued(*(batcher.submit(rows(i)) for i in range(8)))
    loop = asyncio.get_running_loop()
    woken = []
    real = loop.call_soon_threadsafe

    def spy(callback: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Handle:
        if threading.current_thread() is batcher._worker:
            woken.append(callback)
        return real(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", spy)
    gate.open()
    await asyncio.gather(*first, *others)
    assert len(woken) == 2  # the lone first, and the eight
    await batcher.close()


@in_loop
async def test_runs_are_counted_by_their_rows() -> None:
    counters = Counters(max_rows=8)
    batcher = made(Gate(is_open=True), counters=counters)
    await batcher.submit(rows(*range(10)))
    await batcher.submit(rows(1, 2))
    await batcher.close()
    assert list(counters.runs_of_rows) == [0, 0, 2, 0, 0, 0, 0, 0, 1]
    assert [seconds > 0 for seconds in counters.seconds_of_rows] == [count > 0 for count in counters.runs_of_rows]
    assert (counters.requests, counters.succeeded, counters.rows, counters.runs) == (2, 2, 12, 3)


@in_loop
async def test_priorities_come_first_and_the_others_fill_up_the_run() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    others = await queued(
        *(batcher.submit(rows(3, 3), priority=LAST) for _ in range(2)),
        *(batcher.submit(rows(2, 2)) for _ in range(3)),
        *(batcher.submit(rows(1, 1), priority=FIRST) for _ in range(2)),
    )
    gate.open()
    await asyncio.gather(*first, *others)
    await batcher.close()
    assert gate.batches[1:] == [[1, 1, 1, 1, 2, 2, 2, 2], [2, 2, 3, 3, 3, 3]]


@in_loop
async def test_a_deadline_that_passes_in_the_queue_is_told_at_once_and_its_rows_are_never_run() -> None:
    gate = Gate()
    batcher = made(gate)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    late, patient = await queued(
        batcher.submit(rows(1), deadline=monotonic() + 0.02), batcher.submit(rows(2), deadline=monotonic() + 60)
    )
    with pytest.raises(TooLate, match="passed in the queue"):  # while the first still runs
        await late
    gate.open()
    await asyncio.gather(*first, patient)
    await batcher.close()
    assert gate.batches == [[0], [2]]
    assert (batcher.counters.late_queued, batcher.counters.late, batcher.counters.queued_rows) == (1, 1, 0)


@in_loop
async def test_a_deadline_that_passes_in_the_run_is_told_then() -> None:
    gate = Gate()
    batcher = made(gate)
    (late,) = await queued(batcher.submit(rows(*[0] * 20), deadline=monotonic() + 0.05))
    await gate.entered()
    with pytest.raises(TooLate, match="while they were run"):
        await late
    gate.open()
    await batcher.submit(rows(1))
    await batcher.close()
    assert gate.batches == [[0] * 8, [1]]  # the rest of it was not run
    assert (batcher.counters.late_running, batcher.counters.queued_rows) == (1, 0)


@in_loop
async def test_what_would_be_late_is_refused_on_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))  # each run lasts 2 s, by this clock
    batcher = made(gate)
    measured = await queued(batcher.submit(rows(*[0] * 4)))
    await gate.entered()
    gate.let(1)
    await asyncio.gather(*measured)
    first = await queued(batcher.submit(rows(0)))
    await gate.entered()
    waiting = await queued(batcher.submit(rows(*[1] * 6)))
    with pytest.raises(TooLate, match=r"behind the 6 rows that are queued would take about 3000\.0 ms"):
        await batcher.submit(rows(2), deadline=monotonic() + 3)
    first_class = await queued(batcher.submit(rows(3), deadline=monotonic() + 3, priority=FIRST))  # finds none before
    gate.open()
    await asyncio.gather(*first, *waiting, *first_class)
    await batcher.close()
    assert (batcher.counters.late_foreseen, batcher.counters.late) == (1, 1)


def test_deadlines_a_moment_away_disturb_nobody_on_the_loop_that_serves() -> None:
    uvloop = pytest.importorskip("uvloop")  # whose handles of short timers do not tell when they ring

    async def drive() -> None:
        batcher = made(Gate(is_open=True))
        for i in range(300):
            close, far = await asyncio.gather(
                batcher.submit(rows(i), deadline=monotonic() + 0.0003 * (i % 3)),
                batcher.submit(rows(i), deadline=monotonic() + 60),
                return_exceptions=True,
            )
            assert isinstance(close, Answer | TooLate)
            assert isinstance(far, Answer)
        await batcher.close()

    uvloop.run(drive())


@in_loop
async def test_one_slow_run_does_not_refuse_what_comes_after_it() -> None:
    gate = Gate()
    batcher = made(gate)
    (slow,) = await queued(batcher.submit(rows(0)))
    await gate.entered()
    await asyncio.to_thread(threading.Event().wait, 0.05)  # this run really takes that long
    gate.open()
    await slow
    await batcher.submit(rows(1))
    answer = await batcher.submit(rows(2), deadline=monotonic() + 0.04)  # less than the mean of the two
    assert answer.tensors["y"][0] == 7
    await batcher.close()


def test_few_runs_or_runs_of_long_ago_refuse_nobody() -> None:
    rate = Rate(8)
    rate.observe(1, 9.0, 100.0)
    rate.observe(1, 5.0, 100.0)
    assert rate.least_s(1, 100.5) == 0.0  # only two
    rate.observe(1, 7.0, 100.0)
    assert 5.0 <= rate.least_s(1, 100.5) < 6.0
    assert rate.least_s(1, 102.0) == 0.0


@in_loop
async def test_a_deadline_in_the_past_is_too_late() -> None:
    batcher = made(Gate(is_open=True))
    with pytest.raises(TooLate):
        await batcher.submit(rows(1), deadline=monotonic() - 1)
    await batcher.close()


@in_loop
async def test_short_runs_are_made_on_the_event_loop_once_for_all_that_came_in_its_turn() -> None:
    threads = []

    def run(tensors: Tensors) -> dict[str, NDArray[Any]]:
        threads.append(threading.current_thread())
        return {"y": known(tensors["x"])}

    batcher = made(run, inline_s=60.0)
    await batcher.submit(rows(1))  # nothing measured yet: by the worker
    await asyncio.gather(*await queued(*(batcher.submit(rows(i)) for i in range(8))))  # none of eight measured
    answers = await asyncio.gather(*await queued(*(batcher.submit(rows(i)) for i in range(8))))
    assert [float(answer.tensors["y"][0]) for answer in answers] == [3 * i + 1 for i in range(8)]
    assert threads[:2] == [batcher._worker] * 2
    assert threads[2:] == [threading.main_thread()]
    assert batcher.counters.inline_runs == 1
    await batcher.close()


@in_loop
async def test_a_run_that_fails_on_the_event_loop_fails_its_request_alone() -> None:
    gate = Gate(is_open=True)
    batcher = made(gate, inline_s=60.0)
    await batcher.submit(rows(1))
    await batcher.submit(rows(1, 2, 3))
    results = await asyncio.gather(*(batcher.submit(rows(i)) for i in (1, POISON, 2)), return_exceptions=True)
    await batcher.close()
    assert [type(result) for result in results] == [Answer, InferenceFailed, Answer]


@pytest.mark.parametrize("inline_s", [0.0, 60.0])
@in_loop
async def test_closing_answers_what_waits_wherever_it_would_run(inline_s: float) -> None:
    batcher = made(Gate(is_open=True), inline_s=inline_s)
    await batcher.submit(rows(1))
    accepted = await queued(*(batcher.submit(rows(i)) for i in range(20)))
    await asyncio.gather(batcher.close(), *accepted)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([1, 1, 1, 2]), st.booleans()), min_size=1, max_size=30
    ),
    max_rows=st.integers(1, 12),
    inline_s=st.sampled_from([0.0, 60.0]),
    seed=st.integers(0, 2**32 - 1),
)
@in_loop
async def test_every_answer_is_the_one_it_would_have_got_alone(
    sizes: list[tuple[int, int, bool]], max_rows: int, inline_s: float, seed: int
) -> None:
    random = np.random.default_rng(seed)

    def run(tensors: Tensors) -> dict[str, NDArray[Any]]:
        assert len(tensors["x"]) <= max_rows
        if (tensors["x"] == POISON).any():
            raise RuntimeError("poisoned")
        return {"y": known(tensors["x"]), "t": tensors["t"] + 1}

    batcher = made(run, max_rows=max_rows, max_queued_rows=10_000, inline_s=inline_s)
    requests = []
    for count, width, poisoned in sizes:
        x = random.random((count, width))
        if poisoned and random.random() < 0.3:
            x[random.integers(count)] = POISON
        requests.append({"x": x, "t": random.random(count)})
    answers = await asyncio.gather(*(batcher.submit(each) for each in requests), return_exceptions=True)
    await batcher.close()
    assert batcher.counters.queued_rows == 0
    for each, answer in zip(requests, answers, strict=True):
        if (each["x"] == POISON).any():
            assert isinstance(answer, InferenceFailed)
        else:
            assert isinstance(answer, Answer)
            np.testing.assert_array_equal(answer.tensors["y"], known(each["x"]))
            np.testing.assert_array_equal(answer.tensors["t"], each["t"] + 1)
