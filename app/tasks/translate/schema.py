"""The JSON of POST /v1/translate: its request and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, create_model

from app.web.openapi.pictures import PNG_SCHEMA
from app.web.openapi.schemas import ColumnsField, ModelAnswer, PictureRequest
from app.web.request.media_types import PNG

LAYOUTS: Final = ("pictures", "pairs", "cycle")

_FIELDS: Final[dict[str, Any]] = {
    "from": (Annotated[str | None, Field(description="domain of the pictures that are sent")], None),
    "to": (
        Annotated[str | None, Field(description="domain to translate to; of `from` and `to` one is enough")],
        None,
    ),
    "cycle": (
        Annotated[
            bool | None,
            Field(description="whether to translate the result back and report how much of the picture is lost; true"),
        ],
        None,
    ),
    "layout": (
        Annotated[
            str | None,
            Field(
                description=f"of {PNG}: `pictures`, `pairs` with each input above its translation, or `cycle` "
                "with each input, its translation and what came back, from left to right",
                json_schema_extra={"enum": [*LAYOUTS, None]},
            ),
        ],
        None,
    ),
    "columns": (ColumnsField, None),
}


# `from` is a word of Python's own, so that no class body can declare it.
TranslateRequest: Final[type[BaseModel]] = create_model(
    "TranslateRequest", __base__=PictureRequest, __doc__="The JSON form of a request.", **_FIELDS
)


class Cycle(BaseModel):
    """What is left of a picture that was translated, rounded to 8 bits and translated back: a measure of trust."""

    error: Annotated[float, Field(ge=0, description="mean absolute difference of pixels and channels, from 0 to 1")]
    p_value: Annotated[
        float, Field(gt=0, le=1, description="share of held-out pictures with this error or more, the picture counted")
    ]
    held_out_rows: int
    image: Annotated[str, Field(description="what came back, as PNG", json_schema_extra=PNG_SCHEMA)]


class Translated(BaseModel):
    """One picture in the other domain."""

    image: Annotated[str, Field(description="as PNG", json_schema_extra=PNG_SCHEMA)]
    cycle: Annotated[Cycle | None, Field(description="null where `cycle` is false")]


class TranslateAnswer(ModelAnswer):
    """Who answered, from where to where, and one result per picture, in their order."""

    source: Annotated[str, Field(alias="from", description="domain of the pictures that were sent")]
    to: Annotated[str, Field(description="domain of the pictures in the answer")]
    results: list[Translated]
