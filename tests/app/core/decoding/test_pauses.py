"""Long recordings are cut in their pauses."""

from __future__ import annotations

from itertools import pairwise
from time import thread_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decoding.pauses import cut

RATE = 1000  # frames of 20 samples


def speech(seconds: float, *pauses: tuple[float, float], rate: int = RATE) -> np.ndarray:
    """Noise, with silence from one second to another."""
    sound = np.random.default_rng(0).normal(size=round(seconds * rate)).astype(np.float32)
    for begin, end in pauses:
        sound[round(begin * rate) : round(end * rate)] *= 1e-3
    return sound


@given(
    samples=st.integers(0, 5000),
    rate=st.sampled_from([10, 1000, 8000]),
    most=st.integers(3, 1500),
    kind=st.sampled_from(["noise", "zeros"]),
)
@settings(max_examples=30, deadline=None)
def test_pieces_cover_every_sample_once_and_none_is_too_long_or_a_splinter(
    samples: int, rate: int, most: int, kind: str
) -> None:
    sound = speech(samples / rate, rate=rate) if kind == "noise" else np.zeros(samples, np.float32)
    max_s = (most + 0.5) / rate
    pieces = cut(sound, rate=rate, max_s=max_s)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == samples
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    lengths = [end - begin for begin, end in pieces]
    assert max(lengths) <= most
    frame = max(1, min(round(0.02 * rate), most // 3))
    assert len(pieces) == 1 or min(lengths) >= most // frame // 3 * frame
    assert pieces == cut(sound.copy(), rate=rate, max_s=max_s)


def test_a_short_recording_is_one_piece() -> None:
    assert cut(speech(5), rate=RATE, max_s=5) == [(0, 5000)]
    assert cut(speech(0), rate=RATE, max_s=5) == [(0, 0)]


def test_cuts_are_in_the_middle_of_pauses() -> None:
    sound = speech(24, (2, 2.4), (8, 8.2), (9.0, 9.4), (17.5, 17.9))
    ends = [end / RATE for _, end in cut(sound, rate=RATE, max_s=10)]
    # The pause at 2 s is too early, the one at 8 s is shorter.
    assert ends[0] == pytest.approx(9.2, abs=0.05)
    assert ends[1:] == [pytest.approx(17.7, abs=0.05), 24]


def test_in_digital_silence_the_cut_is_its_middle() -> None:
    sound = speech(18)
    sound[8000:9000] = 0
    (_, end), *_ = cut(sound, rate=RATE, max_s=10)
    assert end == pytest.approx(8500, abs=20)


def test_little_room_is_refused() -> None:
    with pytest.raises(ValueError, match="2 samples at a rate of 1000, expected 3"):
        cut(speech(1), rate=RATE, max_s=0.002)


@pytest.mark.slow
@pytest.mark.timed
def test_an_hour_is_cut_in_far_less_than_a_second() -> None:
    sound = np.random.default_rng(0).random(3600 * 16_000, np.float32)
    begin = thread_time()
    pieces = cut(sound, rate=16_000, max_s=15)
    assert thread_time() - begin < 0.5
    assert 240 <= len(pieces) <= 360
