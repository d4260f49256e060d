"""What POST /v1/classify is asked and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.web.openapi.operation import PICTURE_SCHEMA
from app.web.request.tables import Noted


class ClassifyRequest(BaseModel):
    """The JSON form of a request: one of `image`, `images` and `instances`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)] = None
    images: Annotated[list[Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)]], Field(min_length=1)] = []
    instances: Annotated[list[Any], Field(min_length=1)] = []
    model: Annotated[str | None, Field(description="name of the model; the default where none is given")] = None
    version: Annotated[str | None, Field(description="its version; the default one where none is given")] = None
    top_k: Annotated[int | None, Field(description="how many of the most probable labels to list")] = None


class Score(BaseModel):
    """One label and how probable it is."""

    label: str
    index: Annotated[int, Field(ge=0, description="the label's place in the model's list of labels")]
    probability: Annotated[float, Field(ge=0, le=1)]


class Result(Score, Noted):
    """What one picture or row was taken for: the most probable label, then more of the same."""

    top_k: Annotated[list[Score], Field(description="the most probable labels, best first")]
    probabilities: Annotated[dict[str, float], Field(description="every label's probability, in the model's order")]


class ClassifyAnswer(BaseModel):
    """Who answered, and one result per picture or row, in their order."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]
    results: list[Result]
