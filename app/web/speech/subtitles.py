"""Transcripts as subtitles."""

from __future__ import annotations

from app.core.decoding.subtitles import cues, srt, vtt
from app.web.request.media_types import SRT
from app.web.speech.transcript import Transcript


def subtitles(form: str, transcript: Transcript, *, by_word: bool = False) -> bytes:
    """Of a media type, SRT or VTT: words that are said together; `by_word` each by itself."""
    words = transcript.words
    shown = words if by_word else cues(words, duration_s=transcript.duration_s)
    return (srt(shown) if form == SRT else vtt(shown)).encode()
