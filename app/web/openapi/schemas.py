"""What the JSON bodies of several tasks have in common: the fields of their requests and of their responses."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.web.openapi.pictures import PICTURE_SCHEMA, PNG_SCHEMA
from app.web.openapi.sounds import SOUND_SCHEMA
from app.web.openapi.texts import TEXT_SCHEMA
from app.web.request.media_types import PNG

PictureField = Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)]
PicturesField = Annotated[list[PictureField], Field(min_length=1)]
TextField = Annotated[Any, Field(json_schema_extra=TEXT_SCHEMA)]
SoundField = Annotated[Any, Field(json_schema_extra=SOUND_SCHEMA)]
SoundsField = Annotated[list[SoundField], Field(min_length=1)]
ModelField = Annotated[str | None, Field(description="name of the model; the default where none is given")]
VersionField = Annotated[str | None, Field(description="its version; the default one where none is given")]

LAYOUTS: Final = ("pictures", "pairs")
LayoutField = Annotated[
    str | None,
    Field(
        description=f"of {PNG}: `pictures`, or `pairs` with each input above its output",
        json_schema_extra={"enum": [*LAYOUTS, None]},
    ),
]
ColumnsField = Annotated[int | None, Field(description=f"of {PNG}: pictures in a row; near square without")]


class PictureRequest(BaseModel):
    """Either `image` or `images`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: PictureField = None
    images: PicturesField = []
    model: ModelField = None
    version: VersionField = None


class RowRequest(BaseModel):
    """One of `image`, `images` and `instances`, the rows of a table."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: PictureField = None
    images: PicturesField = []
    instances: Annotated[list[Any], Field(min_length=1)] = []
    model: ModelField = None
    version: VersionField = None


class RowOrSoundRequest(RowRequest):
    """One of `image`, `images`, `instances`, `sound` and `sounds`."""

    sound: SoundField = None
    sounds: SoundsField = []


class SoundRequest(BaseModel):
    """Either `sound` or `sounds`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sound: SoundField = None
    sounds: SoundsField = []
    model: ModelField = None
    version: VersionField = None


class SamplingStep(BaseModel):
    """An event of pictures that are made step by step."""

    step: Annotated[int, Field(ge=1, description="its number")]
    steps: Annotated[int, Field(ge=1, description="how many there are")]
    left_s: Annotated[float, Field(ge=0, description="seconds that the others will take")]
    preview: Annotated[str, Field(description="what it looks like, as PNG", json_schema_extra=PNG_SCHEMA)]


class WrittenToken(BaseModel):
    """An event of a text that is being written."""

    index: Annotated[int, Field(ge=0)]
    text: Annotated[str, Field(description="what it adds to the text")]
    probability: Annotated[float, Field(ge=0, le=1)]
    attention: Annotated[
        list[float],
        Field(
            description="how much the model looked at each token of the source, or cell of the picture in the order of "
            "reading"
        ),
    ]


class ModelAnswer(BaseModel):
    """Which model answered, and where it ran."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]


BEAM: Final = "hypotheses that the search of a text keeps, at most 8; 1 is greedy; the model's own without"
N_BEST: Final = "texts that are answered with at most, the best first, no two alike; 1"


class OtherText(BaseModel):
    """A text that was found beside the best."""

    text: str
    log_probability: Annotated[float, Field(le=0, description="of the whole text, given what was sent")]
    finish: Annotated[Literal["end", "length"], Field(description="`length`: stopped at most tokens or words")]


class WrittenText(OtherText):
    """A text that a model wrote, and what else it found."""

    alternatives: Annotated[list[OtherText], Field(description="with `n_best`, best first")]
