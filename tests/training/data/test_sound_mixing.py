"""Recordings mixed of clips: their words are where they say, and the same generator makes the same ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.sounds import corpora
from training.data.sound import RATE, Clip
from training.data.sound_mixing import LONGEST_S, SILENCE, Mixer, Row, Warp, bend, draw_warp


@pytest.fixture(scope="module")
def mixer() -> Mixer:
    sentences, *single = corpora()
    return Mixer(sentences.of("train"), [clip for corpus in single for clip in corpus.of("train")])


def hertz(word: str) -> float:
    return 200.0 + sum(map(ord, word)) * 7 % 2000


def test_the_tone_of_each_word_sounds_where_the_row_says_that_the_word_is(mixer: Mixer) -> None:
    rng = np.random.default_rng(1)
    seen: set[str] = set()
    for _ in range(60):
        row = mixer.row(rng, clean=1.0)
        for word, start, end in row.words:
            part = row.wave[int((start + 0.03) * RATE) : int((end - 0.03) * RATE)]
            spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8192))
            assert abs(spectrum.argmax() * RATE / 8192 - hertz(word)) < 15, (word, start, end)
            seen.add(word)
    assert len(seen) > 20


def test_a_row_s_words_follow_each_other_and_lie_inside_of_it(mixer: Mixer) -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        row = mixer.row(rng)
        times = [t for _, start, end in row.words for t in (start, end)]
        assert len(row.wave) / RATE <= LONGEST_S + 1
        assert all(0 <= t <= len(row.wave) / RATE + 1e-6 for t in times)
        assert [start for _, start, _ in row.words] == sorted(start for _, start, _ in row.words)
        assert np.abs(row.wave).max(initial=0) <= 1


def test_the_same_generator_makes_the_same_rows(mixer: Mixer) -> None:
    def some() -> list[Row]:
        rng = np.random.default_rng(3)
        return [mixer.row(rng) for _ in range(8)]

    for one, other in zip(some(), some(), strict=True):
        assert one.words == other.words
        assert np.array_equal(one.wave, other.wave)


def test_noise_is_as_far_under_the_speech_as_it_says(mixer: Mixer) -> None:
    rng = np.random.default_rng(4)
    levels = [20 * np.log10(np.sqrt(np.square(mixer.noise(RATE, rng, level=0.1)).mean()) / 0.1) for _ in range(40)]
    assert -35.5 < min(levels) < max(levels) < -2.5


def test_a_warp_brings_a_frame_to_its_time_times_the_pace() -> None:
    mel = torch.full((2, 100, 64), SILENCE)
    mel[:, 40] = 1.0
    warp = Warp(pace=torch.tensor([1.0, 1.25]), voice=torch.ones(2))
    generator = torch.Generator().manual_seed(11)
    for _ in range(20):  # a mask may cover the frame
        bent = bend(mel, warp, generator)
        loud = (bent - SILENCE).sum(dim=2)
        if bool((loud.max(dim=1).values > 10).all()):
            assert loud.argmax(dim=1).tolist() == [40, 50]
            return
    raise AssertionError("the frame was masked in all of 20 draws")


def test_paces_and_voices_are_drawn_within_their_range() -> None:
    warp = draw_warp(1000, torch.Generator().manual_seed(0))
    assert 0.85 <= float(warp.pace.min()) < 0.86
    assert 1.14 < float(warp.pace.max()) <= 1.15
    assert 1.11 < float(warp.voice.max()) <= 1.12
    light = draw_warp(1000, torch.Generator().manual_seed(0), light=True)
    assert 1.04 < float(light.voice.max()) <= 1.05


def test_clips_without_words_serve_as_noise_alone() -> None:
    silence = [clip for clip in corpora()[2].clips if not clip.words]
    words = [clip for clip in corpora()[2].clips if clip.words]
    mixer = Mixer([], [*words, *silence])
    assert len(mixer.noises) == len(silence)
    assert all(isinstance(clip, Clip) and clip.words for clip in mixer.single)
