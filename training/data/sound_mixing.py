"""New recordings out of clips: sentences spliced word by word, clips joined with pauses, noise under them, another
room, another voice. All random numbers come from the generator that is passed.

Waves are float32 (N,) at 16,000 samples a second; log-mel frames are those of `training.networks.sound`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.data.sound import GRID_PLACES, RATE, Clip, Spoken

T = TypeVar("T")
Wave = NDArray[np.float32]
FADE: Final = 80  # samples over which neighbours of a splice are blended, 5 ms
MARGIN_S: Final = 0.06  # kept around a word that is cut out of its clip
LONGEST_S: Final = 3.6
SILENCE: Final = -2.13  # log-mel of zeros


@dataclass(frozen=True)
class Row:
    """A recording to train on, and its words with their times in it."""

    wave: Wave
    words: tuple[Spoken, ...]


class Mixer:
    """Makes rows of training clips.

    Args:
        sentences: clips whose words have exact times, six in the order of `GRID_PLACES`.
        single: clips of one word or none.
    """

    def __init__(self, sentences: Sequence[Clip], single: Sequence[Clip]) -> None:
        self.sentences = list(sentences)
        self.single = [clip for clip in single if clip.words]
        self.noises = [clip.samples for clip in single if not clip.words]
        self.places: list[dict[str, list[tuple[Clip, int]]]] = [{} for _ in GRID_PLACES]
        for clip in self.sentences:
            for place, (word, _, _) in enumerate(clip.words):
                self.places[place].setdefault(word, []).append((clip, place))
        by_word: dict[str, list[Clip]] = {}
        for clip in self.single:
            by_word.setdefault(clip.words[0][0], []).append(clip)
        self.by_word = by_word

    def row(self, rng: np.random.Generator, *, clean: float = 0.25, as_it_is: float = 0.0) -> Row:
        """One row of at most `LONGEST_S`: a sentence, a spliced one, single words joined, or nothing but noise.

        Args:
            clean: the share that gets no noise.
            as_it_is: the share that is one single clip, not joined and no louder or softer than it was.
        """
        if as_it_is and rng.random() < as_it_is:
            clip = _one(self.single, rng)
            return Row(clip.samples, clip.words)
        kind = rng.random()
        if kind < 0.05:
            row = Row(np.zeros(int(rng.uniform(0.5, 3.0) * RATE), np.float32), ())
            clean = 0.1
        elif self.sentences and (kind < 0.33 or not self.single):
            row = self._sentence(rng)
        elif self.sentences and kind < 0.60:
            row = self._spliced(rng)
        else:
            row = self._joined(rng)
        wave = row.wave * np.float32(10 ** (rng.uniform(-14, 8) / 20))
        if rng.random() > clean:
            wave = wave + self.noise(len(wave), rng, level=_level(row.wave, wave))
        return Row(np.clip(wave, -1, 1).astype(np.float32), row.words)

    def _sentence(self, rng: np.random.Generator) -> Row:
        clip = self.sentences[rng.integers(len(self.sentences))]
        start = rng.uniform(0, max(0.0, clip.words[0][1] - 0.05))
        end = rng.uniform(min(clip.words[-1][2] + 0.05, len(clip.samples) / RATE), len(clip.samples) / RATE)
        return _cut(clip, start, end, clip.words)

    def _spliced(self, rng: np.random.Generator) -> Row:
        """A sentence of the grammar whose words are other sentences' own, two neighbours together now and then; or some
        of its places in any order, so that a word is known without its neighbours."""
        places = list(range(len(GRID_PLACES)))
        if rng.random() < 0.3:
            places = list(rng.permutation(places)[: rng.integers(1, 7)])
        parts: list[Row] = [_silence(rng.uniform(0, 0.4), rng)]
        i = 0
        while i < len(places):
            place = int(places[i])
            words = list(self.places[place])
            clip, _ = _one(self.places[place][words[rng.integers(len(words))]], rng)
            last = place
            if i + 1 < len(places) and places[i + 1] == place + 1 and rng.random() < 0.4:
                last, i = place + 1, i + 1
            parts.append(_cut(clip, clip.words[place][1], clip.words[last][2], clip.words[place : last + 1]))
            i += 1
        parts.append(_silence(rng.uniform(0, 0.4), rng))
        return _join(parts)

    def _joined(self, rng: np.random.Generator) -> Row:
        parts: list[Row] = [_silence(rng.uniform(0, 0.4), rng)]
        seconds = len(parts[0].wave) / RATE
        words = list(self.by_word)
        for _ in range(rng.integers(1, 6)):
            if self.sentences and rng.random() < 0.15:
                place = int(rng.integers(len(GRID_PLACES)))
                of_place = list(self.places[place])
                clip, i = _one(self.places[place][of_place[rng.integers(len(of_place))]], rng)
            else:
                clip, i = _one(self.by_word[words[rng.integers(len(words))]], rng), 0
            word, start, end = clip.words[i]
            margin = rng.uniform(0, MARGIN_S)
            part = _cut(
                clip, max(0.0, start - margin), min(len(clip.samples) / RATE, end + margin), ((word, start, end),)
            )
            level = float(np.sqrt(np.square(part.wave).mean())) + 1e-6
            part = Row(
                part.wave * np.float32(np.clip(0.1 / level, 0.2, 5.0) * 10 ** (rng.uniform(-4, 4) / 20)), part.words
            )
            seconds += len(part.wave) / RATE
            if seconds > LONGEST_S - 0.2 and len(parts) > 1:
                break
            parts += [part, _silence(rng.uniform(0, 0.35), rng)]
        return _join(parts)

    def noise(self, samples: int, rng: np.random.Generator, *, level: float) -> Wave:
        """White to brown noise, hum, or a background of the corpus, 3 to 35 dB under the speech."""
        kind = rng.random()
        if kind < 0.45 and self.noises:
            noise = _one(self.noises, rng)
            start = int(rng.integers(len(noise)))
            wave = np.resize(np.roll(noise, -start), samples).astype(np.float64)
        else:
            size = 1 << (samples - 1).bit_length()  # other lengths take ten times as long
            spectrum = np.fft.rfft(rng.standard_normal(size))
            frequency = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 50.0)
            spectrum *= frequency ** -rng.uniform(0, 1.2)
            if kind > 0.85:  # a tone or a chord, as music or a hum
                spectrum *= 0.1
                for _ in range(rng.integers(1, 5)):
                    spectrum[int(rng.uniform(80, 3000) * size / RATE)] += np.abs(spectrum).sum() * rng.uniform(0.1, 1.0)
            wave = np.fft.irfft(spectrum, size)[:samples]
        own = float(np.sqrt(np.square(wave).mean())) + 1e-9
        return (wave * level / own * 10 ** (-rng.uniform(3, 35) / 20)).astype(np.float32)


def _level(bare: Wave, wave: Wave) -> float:
    """Root mean square of the louder half of 20 ms frames; of silence that of soft speech."""
    if not bare.any():
        return 0.1
    frames = np.square(wave[: len(wave) // 320 * 320].reshape(-1, 320)).mean(axis=1)
    return float(np.sqrt(np.sort(frames)[len(frames) // 2 :].mean())) if len(frames) else 0.05


def _one(items: Sequence[T], rng: np.random.Generator) -> T:
    return items[int(rng.integers(len(items)))]


def _silence(seconds: float, rng: np.random.Generator) -> Row:
    return Row((rng.standard_normal(int(seconds * RATE)) * 3e-4).astype(np.float32), ())


def _cut(clip: Clip, start: float, end: float, words: Sequence[Spoken]) -> Row:
    first, last = int(start * RATE), int(end * RATE)
    return Row(clip.samples[first:last], tuple((word, a - start, b - start) for word, a, b in words))


def _join(parts: Sequence[Row]) -> Row:
    """One behind the other, blended over `FADE` samples."""
    length = sum(len(part.wave) for part in parts)
    wave, at, words = np.zeros(length, np.float32), 0, []
    for part in parts:
        own = part.wave.copy()
        fade = min(FADE, len(own) // 2)
        if fade:
            ramp = np.linspace(0, 1, fade, dtype=np.float32)
            own[:fade] *= ramp
            own[-fade:] *= ramp[::-1]
        start = max(0, at - fade)
        wave[start : start + len(own)] += own
        words += [(word, a + start / RATE, b + start / RATE) for word, a, b in part.words]
        at = start + len(own)
    return Row(wave[:at], tuple(words))


@dataclass(frozen=True)
class Warp:
    """How log-mel frames are bent: time is stretched by `pace` (B,), so that a frame t comes to t * pace; bands are
    shifted by `voice` (B,), 1 for none; `light`: the channel changes little and nothing is masked."""

    pace: Tensor
    voice: Tensor
    light: bool = False


def draw_warp(rows: int, generator: torch.Generator, *, light: bool = False) -> Warp:
    """Uniform: the pace in 1 +- 0.15 and the voice in 1 +- 0.12, or both in 1 +- 0.05."""
    u = torch.rand(2, rows, generator=generator) * 2 - 1
    return Warp(1 + (0.05 if light else 0.15) * u[0], 1 + (0.05 if light else 0.12) * u[1], light)


def bend(mel: Tensor, warp: Warp, generator: torch.Generator) -> Tensor:
    """(B, T, M) log-mel -> (B, T', M): warped, heard through another channel, masked (Park et al. 2019).

    T' is T stretched by the largest pace.
    """
    rows, frames, bands = mel.shape
    longest = int(frames * float(warp.pace.max())) + 1
    t = torch.arange(longest) / warp.pace[:, None]  # (B, T')
    m = torch.arange(bands) * warp.voice[:, None]  # (B, M)
    grid = torch.stack(
        [
            (2 * m / (bands - 1) - 1)[:, None, :].expand(rows, longest, bands),
            (2 * t / (frames - 1) - 1)[:, :, None].expand(rows, longest, bands),
        ],
        dim=3,
    )
    bent = F.grid_sample((mel - SILENCE)[:, None], grid, align_corners=True, padding_mode="zeros")[:, 0]
    channel = _channel(rows, bands, generator, light=warp.light)
    heard = bent + channel[:, None, :] * (bent > 0.05)
    if not warp.light:
        heard = heard * _mask(rows, longest, bands, generator)
    return heard.clamp(min=0) + SILENCE


def _channel(rows: int, bands: int, generator: torch.Generator, *, light: bool) -> Tensor:
    """A smooth gain of each band, in log-mel units (B, M); a quarter of the rows lose what is above 4 kHz or so, where
    it is light a tenth."""
    x = torch.linspace(0, 1, bands)
    weights = torch.randn(rows, 4, generator=generator) * (0.06 if light else 0.15)
    waves = torch.stack([torch.cos(torch.pi * k * x) for k in range(1, 5)])  # (4, M)
    gain = weights @ waves
    lost = torch.rand(rows, generator=generator) < (0.1 if light else 0.25)
    cut = torch.where(lost, 44 + 8 * torch.rand(rows, generator=generator), 99.0)
    return gain - 9.0 * (torch.arange(bands) > cut[:, None])


def _mask(rows: int, frames: int, bands: int, generator: torch.Generator) -> Tensor:
    """Zero in two stretches of up to 16 frames and two of up to 9 bands, else one: (B, T, M)."""
    u = torch.rand(8, rows, 1, generator=generator)
    t, m = torch.arange(frames), torch.arange(bands)
    keep_t, keep_m = torch.ones(rows, frames), torch.ones(rows, bands)
    for k in (0, 1):
        start = u[k] * frames
        keep_t *= ~((t >= start) & (t < start + 16 * u[2 + k]))
        start = u[4 + k] * bands
        keep_m *= ~((m >= start) & (m < start + 9 * u[6 + k]))
    return keep_t[:, :, None] * keep_m[:, None, :]
