"""The JSON of POST /v1/classify: its request and its response."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.web.openapi.schemas import ModelAnswer, RowOrSoundRequest, TextField
from app.web.request.tables import Noted


class ClassifyRequest(RowOrSoundRequest):
    """The JSON form of a request: one of `image`, `images`, `instances`, `sound`, `sounds` and `text`."""

    text: TextField = None
    top_k: Annotated[int | None, Field(description="how many of the most probable labels to list")] = None
    explain: Annotated[
        bool | None, Field(description="of texts: report each word's weight, found by leaving it out; false")
    ] = None


class Score(BaseModel):
    """One label and how probable it is."""

    label: str
    index: Annotated[int, Field(ge=0, description="the label's index in the model's list of labels")]
    probability: Annotated[float, Field(ge=0, le=1)]


class WordWeight(BaseModel):
    """A word of a text, and what it adds to the probability of the text's label."""

    text: str
    start: Annotated[int, Field(description="its first character in the text")]
    end: Annotated[int, Field(description="the character behind its last")]
    weight: Annotated[float, Field(description="the label's probability less that without this word")]


class Result(Score, Noted):
    """What one picture, recording, row or text was taken for: the most probable label, then more of the same."""

    top_k: Annotated[list[Score], Field(description="the most probable labels, best first")]
    probabilities: Annotated[dict[str, float], Field(description="every label's probability, in the model's order")]
    unknown: Annotated[list[str], Field(description="of a text: words that the model has never seen")] = []
    truncated: Annotated[bool, Field(description="of a text: whether it was too long and the model saw no end")] = False
    words: Annotated[list[WordWeight], Field(description="of a text, with `explain`")] = []


class ClassifyAnswer(ModelAnswer):
    """Who answered, and one result per picture, recording, row or text, in their order."""

    results: list[Result]
