"""Words with times as plain text, SubRip (SRT) and WebVTT.

WebVTT is W3C's (https://www.w3.org/TR/webvtt1/, sections 4.1 and 4.2). SubRip has no standard: numbered cues with
`hours:minutes:seconds,milliseconds`, each ended by an empty line, in UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol, TypeVar

MAX_CHARACTERS: Final = 42
"""A line's usual length; Netflix's and the BBC's guides say 42 and 37."""
MAX_S: Final = 7.0
"""A cue's usual longest time (both guides say 6 to 8 s)."""
GAP_S: Final = 1.0
LEAST_S: Final = 0.8
"""Time to read a short cue; Netflix's guide has five sixths of a second."""


class Timed(Protocol):
    """A text, and from when to when: a word, or what is shown."""

    @property
    def text(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


TimedWord = TypeVar("TimedWord", bound=Timed)


@dataclass(frozen=True, slots=True)
class Cue:
    """A text, and from when to when it is shown."""

    text: str
    start_s: float
    end_s: float


def lines(words: Iterable[TimedWord]) -> list[list[TimedWord]]:
    """Words, in the order of time, that are said together.

    A line ends where the next word would make it longer than `MAX_CHARACTERS` or than `MAX_S`, or follows after
    silence of `GAP_S`; a word that is longer alone stays whole.
    """
    found: list[list[TimedWord]] = []
    for word in words:
        line = found[-1] if found else []
        characters = sum(len(each.text) + 1 for each in line) + len(word.text)
        late = line and (word.end_s - line[0].start_s > MAX_S or word.start_s - line[-1].end_s >= GAP_S)
        if not line or late or characters > MAX_CHARACTERS:
            found.append([word])
        else:
            line.append(word)
    return found


def cues(words: Iterable[Timed], *, duration_s: float = inf) -> list[Cue]:
    """A cue for each line of words.

    It is shown for `LEAST_S` at least, but never into the next line, and not beyond `duration_s`, the recording's.
    """
    shown, there = [], lines(words)
    for number, line in enumerate(there, 1):
        start = line[0].start_s
        end = max(line[-1].end_s, min(start + LEAST_S, duration_s))
        following = there[number][0].start_s if number < len(there) else inf
        shown.append(Cue(text(line), start, min(end, following)))
    return shown


def text(words: Sequence[Timed]) -> str:
    """The words with one space between."""
    return " ".join(_one_line(word.text) for word in words)


def srt(cues: Sequence[Timed]) -> str:
    """SubRip. It has no escapes, so an arrow in a text is broken in two."""
    return "".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{_one_line(cue.text).replace('-->', '-- >')}\n\n"
        for number, (cue, (start, end)) in enumerate(zip(cues, _milliseconds(cues), strict=True), 1)
    )


def vtt(cues: Sequence[Timed]) -> str:
    """WebVTT. What would begin a tag or an escape is escaped, and so is every arrow."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(start, '.')} --> {_time(end, '.')}\n{_escaped(_one_line(cue.text))}\n\n"
        for cue, (start, end) in zip(cues, _milliseconds(cues), strict=True)
    )


def _milliseconds(cues: Sequence[Timed]) -> list[tuple[int, int]]:
    """Start and end of each cue: none before 0 or before the last one's start, each of 1 ms at least."""
    times: list[tuple[int, int]] = []
    for cue in cues:
        start = max(times[-1][0] if times else 0, round(cue.start_s * 1000))
        times.append((start, max(start + 1, round(cue.end_s * 1000))))
    return times


def _time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def _one_line(text: str) -> str:
    """White space of any kind as single spaces: an empty line would end a cue. None at all would be one: a dash."""
    return " ".join(text.split()) or "-"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
