"""Subtitles as players read them: examples by hand, and a reader written from the standard's grammar."""

from __future__ import annotations

import html
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decoding.subtitles import Cue, cues, lines, srt, text, vtt

SENTENCE = [Cue("bin", 0.4, 0.6), Cue("blue", 0.72, 0.9), Cue("now", 3600.5, 3601.25)]


def test_webvtt_to_the_letter() -> None:
    expected = """\
WEBVTT

00:00:00.400 --> 00:00:01.200
bin blue

01:00:00.500 --> 01:00:01.300
now

"""
    assert vtt(cues(SENTENCE)) == expected
    assert vtt([]) == "WEBVTT\n\n"


def test_subrip_to_the_letter() -> None:
    expected = """\
1
00:00:00,400 --> 00:00:01,200
bin blue

2
01:00:00,500 --> 01:00:01,300
now

"""
    assert srt(cues(SENTENCE)) == expected
    assert srt([]) == ""


def test_plain_text_has_one_space_between_words() -> None:
    assert text(SENTENCE) == "bin blue now"
    assert text([]) == ""


def test_a_cue_never_ends_before_it_begins_nor_begins_before_zero() -> None:
    assert "00:00:00.000 --> 00:00:00.001" in vtt([Cue("a", -0.3, -0.1)])
    assert "99:59:59.999 --> 100:00:00.000" in vtt([Cue("a", 359999.9991, 359999.9991)])
    assert "00:00:59,999 --> 00:01:00,000" in srt([Cue("a", 59.9994, 59.9996)])


def test_cues_begin_in_order_even_where_words_do_not() -> None:
    found = vtt([Cue("a", 5, 6), Cue("b", 4, 5.5)])
    assert re.findall(r"(\S+) -->", found) == ["00:00:05.000", "00:00:05.000"]


def test_tags_and_escapes_of_webvtt_are_shown_as_they_are() -> None:
    assert "a &lt;b&gt; &amp;amp; --&gt; c\n" in vtt([Cue("a <b> &amp; --> c", 0, 1)])


def test_a_text_can_end_no_cue() -> None:
    found = srt([Cue("one\n\n2\r\n00:00:01,000 --> 00:00:02,000\u2028x", 0, 1)])
    assert found == "1\n00:00:00,000 --> 00:00:01,000\none 2 00:00:01,000 -- > 00:00:02,000 x\n\n"
    assert srt([Cue(" \n", 0, 1)]) == "1\n00:00:00,000 --> 00:00:01,000\n-\n\n"


# Lines


def line(*words: tuple[str, float, float]) -> list[str]:
    return [cue.text for cue in cues([Cue(*word) for word in words])]


def test_a_line_is_full_at_42_characters() -> None:
    assert line(("a" * 20, 0, 1), ("b" * 21, 1, 2)) == ["a" * 20 + " " + "b" * 21]
    assert line(("a" * 21, 0, 1), ("b" * 21, 1, 2)) == ["a" * 21, "b" * 21]
    assert line(("a" * 50, 0, 1), ("b", 1, 2)) == ["a" * 50, "b"]


def test_a_line_ends_after_7_seconds_and_before_a_silence() -> None:
    assert line(("a", 0, 1), ("b", 1, 7)) == ["a b"]
    assert line(("a", 0, 1), ("b", 1, 7.1)) == ["a", "b"]
    assert line(("a", 0, 1), ("b", 1.9, 2)) == ["a b"]
    assert line(("a", 0, 1), ("b", 2, 3)) == ["a", "b"]


def test_a_short_line_is_shown_long_enough_to_be_read_but_no_longer_than_there_is_room() -> None:
    assert cues([Cue("a", 1, 1.1)])[0].end_s == pytest.approx(1.8)
    assert cues([Cue("a", 1, 1.1)], duration_s=1.5)[0].end_s == 1.5
    assert cues([Cue("a", 1, 1.6)], duration_s=1.5)[0].end_s == 1.6
    words = [Cue("a" * 40, 1, 1.1), Cue("bcd", 1.3, 1.4)]
    assert [cue.end_s for cue in cues(words)] == [1.3, pytest.approx(2.1)]


# A reader: W3C, WebVTT, section 4.1, "WebVTT file body" and "WebVTT timestamp".

TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})"
CUE = re.compile(rf"{TIME} --> {TIME}\n((?:(?!-->)[^\n\r])+)\n\n")


def read(file: str) -> list[tuple[int, int, str]]:
    head, _, body = file.partition("\n\n")
    assert head == "WEBVTT"
    found, at = [], 0
    while at < len(body):
        match = CUE.match(body, at)
        assert match, body[at:]
        numbers = [int(n) for n in match.groups()[:8]]
        start, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
        payload = match[9]
        assert "<" not in payload
        assert re.sub(r"&(amp|lt|gt);", "", payload).count("&") == 0
        found.append((start, end, html.unescape(payload)))
        at = match.end()
    return found


words = st.lists(
    st.tuples(st.text(max_size=50), st.floats(0, 3), st.floats(0, 2)).map(lambda w: Cue(w[0], w[1], w[1] + w[2])),
    max_size=12,
).map(lambda items: [Cue(w.text, w.start_s + i, w.end_s + i) for i, w in enumerate(items)])


@given(words)
@settings(max_examples=30, deadline=None)
def test_every_file_is_read_back(items: list[Cue]) -> None:
    grouped = cues(items)
    found = read(vtt(grouped))
    assert [payload for _, _, payload in found] == [cue.text for cue in grouped]
    assert " ".join(payload for _, _, payload in found) == text(items)
    assert all(start < end for start, end, _ in found)
    assert all(a[0] <= b[0] for a, b in pairwise(found))
    assert len(re.findall(r"^\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}$", srt(grouped), re.M)) == len(grouped)


def test_lines_end_at_a_pause_and_before_they_are_too_long_to_read() -> None:
    def word(start_s: float, text: str = "word") -> Cue:
        return Cue(text, start_s, start_s + 0.2)

    assert lines([]) == []
    assert [len(some) for some in lines([word(0), word(0.5), word(1.8)])] == [2, 1]
    assert [len(some) for some in lines([word(0.5 * i, "ten letter") for i in range(8)])] == [3, 3, 2]
    assert [len(some) for some in lines([word(0.9 * i, "a") for i in range(30)])] == [8, 8, 8, 6]
