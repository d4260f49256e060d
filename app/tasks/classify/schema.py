"""The JSON of POST /v1/classify: its request and its response."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.web.openapi.schemas import ModelAnswer, RowOrSoundRequest
from app.web.request.tables import Noted


class ClassifyRequest(RowOrSoundRequest):
    """The JSON form of a request: one of `image`, `images`, `instances`, `sound` and `sounds`."""

    top_k: Annotated[int | None, Field(description="how many of the most probable labels to list")] = None


class Score(BaseModel):
    """One label and how probable it is."""

    label: str
    index: Annotated[int, Field(ge=0, description="the label's index in the model's list of labels")]
    probability: Annotated[float, Field(ge=0, le=1)]


class Result(Score, Noted):
    """What one picture, recording or row was taken for: the most probable label, then more of the same."""

    top_k: Annotated[list[Score], Field(description="the most probable labels, best first")]
    probabilities: Annotated[dict[str, float], Field(description="every label's probability, in the model's order")]


class ClassifyAnswer(ModelAnswer):
    """Who answered, and one result per picture, recording or row, in their order."""

    results: list[Result]
