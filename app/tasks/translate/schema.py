"""The JSON of POST /v1/translate: its request and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, create_model

from app.web.openapi.pictures import PNG_SCHEMA
from app.web.openapi.schemas import BEAM, N_BEST, ColumnsField, ModelAnswer, PictureRequest, TextField, WrittenText
from app.web.request.media_types import PNG

LAYOUTS: Final = ("pictures", "pairs", "cycle")

_FIELDS: Final[dict[str, Any]] = {
    "text": (TextField, None),
    "from": (
        Annotated[str | None, Field(description="language of the texts, or domain of the pictures, that are sent")],
        None,
    ),
    "to": (
        Annotated[
            str | None,
            Field(description="language or domain to translate to; of pictures one of `from` and `to` is enough"),
        ],
        None,
    ),
    "beam": (Annotated[int | None, Field(description=BEAM)], None),
    "n_best": (Annotated[int | None, Field(description=N_BEST)], None),
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
    "TranslateRequest",
    __base__=PictureRequest,
    __doc__="The JSON form of a request: one of `image`, `images` and `text`.",
    **_FIELDS,
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


class Token(BaseModel):
    """A token of a text that was written."""

    text: Annotated[str, Field(description="what it adds to the text")]
    probability: Annotated[float, Field(ge=0, le=1, description="given the source and the tokens before it")]


class TranslatedText(WrittenText):
    """One text in the other language."""

    tokens: list[Token]
    source_tokens: Annotated[list[str], Field(description="parts of the text that was sent, as the model reads it")]
    alignment: Annotated[
        list[list[float]], Field(description="of each token how much the model looked at each of the source's")
    ]
    unknown: Annotated[list[str], Field(description="words of the text that the model has never seen")]


def _as_one_of(schema: dict[str, Any]) -> None:
    """A result is of one kind; makers of clients mix the fields of what may be of several."""
    schema["oneOf"] = schema.pop("anyOf")


class TranslateAnswer(ModelAnswer):
    """Who answered, from where to where, and one result per picture or text, in their order."""

    source: Annotated[str, Field(alias="from", description="language of the texts, or domain of the pictures, sent")]
    to: Annotated[str, Field(description="language of the texts, or domain of the pictures, in the answer")]
    results: list[Annotated[Translated | TranslatedText, Field(json_schema_extra=_as_one_of)]]
