"""Transcripts as JSON values, as text and as subtitles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pydantic_core

from app.engine.model import Model
from app.web.request.media_types import JSON, SRT, TEXT, VTT
from app.web.speech.subtitles import subtitles
from app.web.speech.transcript import Transcript

DIGITS: Final = 7  # of probabilities: what float32 holds near 1


def to_values(model: Model, transcripts: Sequence[Transcript], factors: Sequence[float]) -> dict[str, Any]:
    """TranscribeAnswer, as JSON values.

    Args:
        factors: seconds until each was answered over its own seconds.
    """
    return {
        "model": model.name,
        "version": model.version,
        "device": model.device,
        "results": [_result(one, factor) for one, factor in zip(transcripts, factors, strict=True)],
    }


def written(form: str, model: Model, transcripts: Sequence[Transcript], factors: Sequence[float]) -> bytes:
    """In the form of a media type. As text a line for each recording; subtitles are of one."""
    if form == JSON:
        content: bytes = pydantic_core.to_json(to_values(model, transcripts, factors))
        return content
    if form == TEXT:
        return "".join([f"{one.text}\n" for one in transcripts]).encode()
    assert form in (SRT, VTT)
    (transcript,) = transcripts
    return subtitles(form, transcript)


def _result(transcript: Transcript, factor: float) -> dict[str, Any]:
    return {
        "text": transcript.text,
        "words": [
            {
                "text": word.text,
                "start_s": word.start_s,
                "end_s": word.end_s,
                "probability": round(word.probability, DIGITS),
            }
            for word in transcript.words
        ],
        "alternatives": [
            {"text": reading.text, "probability": round(reading.probability, DIGITS)} for reading in transcript.readings
        ],
        "duration_s": round(transcript.duration_s, 4),
        "real_time_factor": round(factor, 5),
        "noise": transcript.noise,
    }
