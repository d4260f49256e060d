"""What POST /v1/denoise is asked and answers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.web.openapi.operation import PICTURE_SCHEMA, PNG_SCHEMA
from app.web.request.media_types import PNG

AUTO: Final = "auto"
LAYOUTS: Final = ("pictures", "pairs")
MAX_SAMPLES: Final = 64
MAX_SEED: Final = 2**53 - 1  # what every reader of JSON keeps exact
WHITE: Final = 0.5  # the spread that is shown as white: pixels from 0 to 1 cannot differ more

SIGMA_SCHEMA: Final[dict[str, Any]] = {
    "description": "standard deviation of the noise in grey levels, for all pictures or a list with one for each "
    "(in a query or a form with commas between); `auto`, the default, has it estimated",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "enum": [AUTO]},
        {"type": "array", "minItems": 1, "items": {"type": "number", "minimum": 0}},
    ],
}


class DenoiseRequest(BaseModel):
    """The JSON form of a request: either `image` or `images`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)] = None
    images: Annotated[list[Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)]], Field(min_length=1)] = []
    model: Annotated[str | None, Field(description="name of the model; the default where none is given")] = None
    version: Annotated[str | None, Field(description="its version; the default one where none is given")] = None
    sigma_255: Annotated[Any, Field(description=SIGMA_SCHEMA["description"], json_schema_extra=SIGMA_SCHEMA)] = None
    samples: Annotated[
        int | None,
        Field(
            description="how many restorations to draw of each picture, where the model can draw: what differs "
            "between them is not in the picture"
        ),
    ] = None
    steps: Annotated[int | None, Field(description="of `samples`: levels of noise; the model's default")] = None
    seed: Annotated[int | None, Field(description="of `samples`; without one it is chosen, and told")] = None
    layout: Annotated[
        str | None,
        Field(
            description=f"of {PNG}: `pictures`, or `pairs` with each input above its output",
            json_schema_extra={"enum": [*LAYOUTS, None]},
        ),
    ] = None
    columns: Annotated[int | None, Field(description=f"of {PNG}: pictures in a row; near square without")] = None


class Spread(BaseModel):
    """How far the samples differ: their standard deviation at each pixel and channel, in grey levels."""

    mean_255: Annotated[float, Field(ge=0)]
    max_255: Annotated[float, Field(ge=0)]
    image: Annotated[
        str,
        Field(description=f"as PNG: black is 0, white {255 * WHITE:g}, the most", json_schema_extra=PNG_SCHEMA),
    ]


class Denoised(BaseModel):
    """One picture without its noise."""

    image: Annotated[
        str,
        Field(description="what is to be expected under the noise, as PNG", json_schema_extra=PNG_SCHEMA),
    ]
    sigma_255: Annotated[float, Field(ge=0, description="standard deviation of the noise, in grey levels")]
    estimated: Annotated[bool, Field(description="whether that was estimated, not told")]
    samples: Annotated[
        list[Annotated[str, Field(json_schema_extra=PNG_SCHEMA)]] | None,
        Field(description="restorations as PNG, where asked for, any of which may be what is under the noise"),
    ] = None
    spread: Annotated[Spread | None, Field(description="where samples were asked for")] = None


class DenoiseAnswer(BaseModel):
    """Who answered, and one result per picture, in their order."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]
    seed: Annotated[int | None, Field(description="of the samples: the same again gives the same")] = None
    steps: Annotated[int | None, Field(description="of the samples: levels of noise")] = None
    results: list[Denoised]
