"""Pictures on their way into an answer, bounds on how many there may be, and what several runs took together."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InferenceFailed, TooLarge
from app.core.manifest import PhotoPicture
from app.engine.model import Model
from app.engine.runner import Answer
from app.web.call import Call
from app.web.request.limits import Limits
from app.web.request.model_choice import MAX_OUTPUT_PIXELS, check_output_size
from app.web.response import images as painted
from app.web.work_pool import WorkPool


def model(layout: str = "hwc") -> Model:
    """As much of a model as these need: pictures of 2 x 4 with three channels."""
    picture = PhotoPicture(kind="photo", height=2, width=4, channels=3, layout=layout)
    return cast(
        "Model", SimpleNamespace(name="m", version="2", device="cpu", manifest=SimpleNamespace(picture=picture))
    )


def call(pool: WorkPool | None = None) -> Call:
    """As much of a call as these need."""
    stages = SimpleNamespace(observe=lambda *_, **__: None)
    context = SimpleNamespace(pool=pool, limits=limits(), stages=stages)
    return Call(cast("Any", context), {"headers": []}, cast("Any", None))


def test_pictures_are_cut_to_0_to_1_with_their_channels_last() -> None:
    rows = np.linspace(-1, 2, 24, dtype=np.float32).reshape(1, 3, 2, 4)
    images = painted.images_of(model("chw"), {"image": rows})
    assert images.shape == (1, 2, 4, 3)
    np.testing.assert_array_equal(images, np.clip(np.moveaxis(rows, 1, -1), 0, 1))
    np.testing.assert_array_equal(painted.images_of(model(), {"image": images}), images)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_a_failure_of_the_model(wrong: float) -> None:
    rows = np.full((1, 2, 4, 3), wrong, np.float32)
    with pytest.raises(InferenceFailed, match="'m' gave values of 'image'"):
        painted.images_of(model(), {"image": rows})
    with pytest.raises(InferenceFailed, match="'logvar'"):
        painted.codes_of(model(), {"mu": np.zeros((1, 2), np.float32), "logvar": np.full((1, 2), wrong, np.float32)})


def test_levels_are_the_nearest_ones() -> None:
    levels = np.arange(256) / 255
    np.testing.assert_array_equal(painted.in_8_bits(np.float32(levels)), np.arange(256))
    np.testing.assert_array_equal(painted.in_8_bits(np.float32([0.4 / 255, 0.6 / 255])), [0, 1])


@pytest.mark.anyio
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(("most", "numbers"), [(painted.SMALL_PICTURES, False), (painted.SMALL_NUMBERS, True)])
async def test_large_responses_are_written_beside_the_event_loop(most: int, numbers: bool, more: int) -> None:
    pool = WorkPool()
    inline = painted.is_quick(most + more, numbers=numbers)
    name = await call(pool).offload(lambda: threading.current_thread().name, size=most + more, inline=inline)
    pool.shutdown()
    assert (name == threading.current_thread().name) is not bool(more)


def limits(**changes: Any) -> Limits:
    given = {"max_rows": 10, "max_pixels": 1000, "max_body_bytes": 1, "body_timeout_s": 1, "request_timeout_s": 1}
    return Limits(**{**given, **changes})


def test_pictures_are_bounded_by_number_and_by_size() -> None:
    check_output_size(10, model(), limits(max_pixels=80), subject="n")
    with pytest.raises(TooLarge, match="n asks for 11 pictures, at most 10"):
        check_output_size(11, model(), limits(), subject="n")
    with pytest.raises(TooLarge, match="grid asks for 80 pixels, at most 79"):
        check_output_size(10, model(), limits(max_pixels=79), subject="grid", of="5 x 2")
    with pytest.raises(TooLarge, match="grid asks for 4 x 4 = 16 pictures"):
        check_output_size(16, model(), limits(), subject="grid", of="4 x 4")
    with pytest.raises(TooLarge, match=f"n asks for .* pixels, at most {MAX_OUTPUT_PIXELS}"):
        check_output_size(MAX_OUTPUT_PIXELS // 8 + 1, model(), limits(max_rows=10**6, max_pixels=10**9), subject="n")


@pytest.mark.anyio
async def test_the_seconds_of_several_runs_are_added_up() -> None:
    one = call()
    one.model, one.media_type, one.decode_s = model(), "image/png", 0.001
    first = Answer({"a": np.zeros(1)}, queue_s=0.002, run_s=0.003, batch_rows=4, queued_at=7.0, ended_at=7.005)
    assert one._count(first).keys() == {"a"}
    one._count(Answer({}, queue_s=0.004, run_s=0.005, batch_rows=2, queued_at=7.01, ended_at=7.019))
    headers = dict((await one.respond(lambda: b"", "graph", inline=True)).raw_headers)
    assert headers[b"server-timing"] == b'decode;dur=1.000, queue;dur=6.000, run;dur=8.000, rows;desc="batch of 4"'
    assert (headers[b"content-type"], headers[b"x-model"], headers[b"x-device"]) == (b"image/png", b"m/2", b"cpu")


def seconds(*spans: tuple[float, float, float]) -> tuple[float, float]:
    """Queue and run, of runs as (queued, started, ended) in the order in which they came back."""
    one = call()
    for queued, started, ended in spans:
        one._count(Answer({}, started - queued, ended - started, 1, queued_at=queued, ended_at=ended))
    return one.queue_s, one.run_s


def test_of_runs_that_overlap_each_moment_is_counted_once() -> None:
    # The second waits while the first runs, the third while both do; all three are one request's.
    assert seconds((1, 2, 5), (1, 5, 9), (4, 9, 10)) == (1, 8)
    assert seconds((1, 2, 5), (1, 2, 5)) == (1, 3)  # in one batch
    assert seconds((1, 2, 5), (4, 7, 8)) == (3, 4)
    assert seconds((1, 2, 9), (3, 4, 8)) == (1, 7)  # beside each other, and the shorter one is told of later


@given(
    st.lists(st.tuples(*[st.integers(0, 50)] * 3).map(lambda lengths: tuple(np.cumsum(lengths).tolist())), max_size=6)
)
def test_queue_and_run_are_together_never_longer_than_the_request(spans: list[tuple[int, int, int]]) -> None:
    spans.sort(key=lambda span: span[2])
    queue, run = seconds(*spans)
    assert queue >= 0
    assert run >= 0
    covered = {moment for queued, _, ended in spans for moment in range(queued, ended)}
    assert queue + run <= len(covered)
