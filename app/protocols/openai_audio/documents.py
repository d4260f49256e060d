"""OpenAI's documents, from a transcript."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import log
from typing import Any, Final, Literal

from pydantic import BaseModel

from app.core.decoding.subtitles import lines
from app.core.manifest import Manifest
from app.protocols.openai_audio.form import Wanted
from app.web.request.media_types import JSON, SRT, TEXT, VTT
from app.web.speech.transcript import Transcript, Word

MEDIA_TYPES: Final = {"json": JSON, "verbose_json": JSON, "text": TEXT, "srt": SRT, "vtt": VTT}
UNKNOWN: Final = "unknown"  # language: a model here is of one, which it does not tell
DELTA: Final = "transcript.text.delta"
DONE: Final = "transcript.text.done"
_LEAST: Final = 1e-10  # probability whose logarithm is taken


class OpenAIDelta(BaseModel):
    type: Literal["transcript.text.delta"]
    delta: str


class OpenAIDone(BaseModel):
    type: Literal["transcript.text.done"]
    text: str


class OpenAIUsage(BaseModel):
    type: str
    seconds: float


class OpenAIWord(BaseModel):
    word: str
    start: float
    end: float


class OpenAISegment(BaseModel):
    """`avg_logprob` is of the words; `no_speech_prob` is 1 less their mean probability; `tokens` are their labels."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class OpenAITranscription(BaseModel):
    """What was said. Beside the text, `verbose_json` has the others, and `json` the times that were asked for."""

    text: str
    usage: OpenAIUsage
    task: str | None = None
    language: str | None = None
    duration: float | None = None
    words: list[OpenAIWord] | None = None
    segments: list[OpenAISegment] | None = None


def values(transcript: Transcript, manifest: Manifest, wanted: Wanted) -> dict[str, Any]:
    """The document of `json` and `verbose_json`."""
    found: dict[str, Any] = {"text": transcript.text, "usage": usage(transcript)}
    times: frozenset[str] = wanted.times
    if wanted.response_format == "verbose_json":
        language = wanted.language or UNKNOWN
        found |= {"task": "transcribe", "language": language, "duration": round(transcript.duration_s, 4)}
        times = times or frozenset({"segment"})
    if "word" in times:
        found["words"] = [{"word": w.text, "start": w.start_s, "end": w.end_s} for w in transcript.words]
    if "segment" in times:
        found["segments"] = _segments(transcript.words, manifest)
    return found


def usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(transcript.duration_s, 4)}


def _segments(words: Sequence[Word], manifest: Manifest) -> list[dict[str, Any]]:
    index = {label: i for i, label in enumerate(manifest.labels)}
    found = []
    for number, some in enumerate(lines(words)):
        text = " ".join(word.text for word in some)
        sure = [word.probability for word in some]
        data = text.encode()
        found.append(
            {
                "id": number,
                "seek": 0,
                "start": some[0].start_s,
                "end": some[-1].end_s,
                "text": text,
                "tokens": [index[word.text] for word in some],
                "temperature": 0.0,
                "avg_logprob": round(sum(log(max(p, _LEAST)) for p in sure) / len(sure), 6),
                "compression_ratio": round(len(data) / len(zlib.compress(data)), 4),
                "no_speech_prob": round(1 - sum(sure) / len(sure), 6),
            }
        )
    return found
