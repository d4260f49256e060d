"""The JSON of POST /v1/caption: its request and its response."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.web.openapi.schemas import BEAM, N_BEST, ModelAnswer, PictureRequest, WrittenText


class CaptionRequest(PictureRequest):
    """Either `image` or `images`."""

    beam: Annotated[int | None, Field(description=BEAM)] = None
    n_best: Annotated[int | None, Field(description=N_BEST)] = None
    max_words: Annotated[int | None, Field(description="words after which the search of a caption stops")] = None


class CaptionWord(BaseModel):
    """A word of a caption."""

    text: str
    probability: Annotated[float, Field(ge=0, le=1, description="given the picture and the words before it")]
    attention: Annotated[
        list[list[float]], Field(description="how much the model looked at each cell of the picture, row by row")
    ]


class Caption(WrittenText):
    """The words for one picture."""

    words: list[CaptionWord]
    evidence: Annotated[
        float,
        Field(
            description="log probability of the caption given the picture, less that given a blank one: near 0 where "
            "the model says what it always says. A word that is not among the best for a blank picture counts as the "
            "last of these, so that the evidence is at least this"
        ),
    ]


class CaptionAnswer(ModelAnswer):
    """Who answered, and one result per picture, in their order."""

    results: list[Caption]
