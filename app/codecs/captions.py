"""Subtitles: SubRip (`.srt`) and WebVTT (W3C, 2019)."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple


class Cue(NamedTuple):
    """A text that is shown from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    text: str


def srt(cues: Iterable[Cue]) -> str:
    """`1`, `00:00:00,000 --> 00:00:01,500`, the text and an empty line for each; empty where there are none."""
    return "".join(
        f"{number}\n{_time(cue.start_s, ',')} --> {_time(cue.end_s, ',')}\n{_one_line(cue.text)}\n\n"
        for number, cue in enumerate(cues, 1)
    )


def vtt(cues: Iterable[Cue]) -> str:
    """`WEBVTT`, and a block for each, in which `&`, `<` and `>` are escaped."""
    blocks = [
        f"{_time(cue.start_s, '.')} --> {_time(cue.end_s, '.')}\n{html.escape(_one_line(cue.text), quote=False)}\n"
        for cue in cues
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _time(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def _one_line(text: str) -> str:
    """An empty line inside a text would end it."""
    return " ".join(text.split())
