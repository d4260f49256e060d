"""The JSON of POST /v1/transcribe: its request and its response."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, Field

from app.web.openapi.schemas import ModelAnswer, SoundRequest

DEFAULT_ALTERNATIVES: Final = 3
MOST_ALTERNATIVES: Final = 10
Seconds = Annotated[float, Field(ge=0, description="seconds from the beginning of the recording")]


class TranscribeRequest(SoundRequest):
    """The JSON form of a request: `sound` or `sounds`."""

    alternatives: Annotated[
        int | None, Field(description=f"readings of the whole recording to list; {DEFAULT_ALTERNATIVES} without")
    ] = None


class Word(BaseModel):
    """One word, when it was said, and how sure the model is of it."""

    text: str
    start_s: Seconds
    end_s: Seconds
    probability: Annotated[float, Field(ge=0, le=1)]


class Alternative(BaseModel):
    """One way to read the whole recording, and its share of all that were considered."""

    text: str
    probability: Annotated[float, Field(ge=0, le=1)]


class Heard(BaseModel):
    """What was said in one recording."""

    text: str
    words: list[Word]
    alternatives: Annotated[
        list[Alternative], Field(description="the best readings, all different, the first of which is `text`")
    ]
    duration_s: Annotated[float, Field(ge=0, description="of the sound, without a codec's padding")]
    real_time_factor: Annotated[
        float, Field(ge=0, description="seconds until it was answered over seconds of sound; below 1 is faster than it")
    ]
    noise: Annotated[
        bool,
        Field(description="no word, or doubtful ones: nobody spoke, or said words that the model does not know"),
    ]


class PartialTranscript(BaseModel):
    """An event of a recording that is being heard."""

    text: Annotated[str, Field(description="the words so far")]
    stable: Annotated[str, Field(description="those at the beginning that no longer change")]


class TranscribeAnswer(ModelAnswer):
    """Who answered, and one result per recording, in their order."""

    results: list[Heard]
