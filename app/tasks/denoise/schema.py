"""The JSON of POST /v1/denoise: its request and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from app.web.openapi.pictures import PNG_SCHEMA
from app.web.openapi.schemas import ColumnsField, LayoutField, ModelAnswer, PictureRequest

AUTO: Final = "auto"
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


class DenoiseRequest(PictureRequest):
    """The JSON form of a request: either `image` or `images`."""

    sigma_255: Annotated[Any, Field(description=SIGMA_SCHEMA["description"], json_schema_extra=SIGMA_SCHEMA)] = None
    samples: Annotated[
        int | None,
        Field(
            description="how many restorations to sample of each picture, where the model can: what differs "
            "between them is not in the picture"
        ),
    ] = None
    steps: Annotated[int | None, Field(description="of `samples`: levels of noise; the model's default")] = None
    seed: Annotated[int | None, Field(description="of `samples`; without one it is chosen, and reported")] = None
    layout: LayoutField = None
    columns: ColumnsField = None


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
    estimated: Annotated[bool, Field(description="whether that was estimated, not given")]
    samples: Annotated[
        list[Annotated[str, Field(json_schema_extra=PNG_SCHEMA)]] | None,
        Field(description="restorations as PNG, where asked for, any of which may be what is under the noise"),
    ] = None
    spread: Annotated[Spread | None, Field(description="where samples were asked for")] = None


class DenoiseAnswer(ModelAnswer):
    """Who answered, and one result per picture, in their order."""

    seed: Annotated[int | None, Field(description="of the samples: the same again gives the same")] = None
    steps: Annotated[int | None, Field(description="of the samples: levels of noise")] = None
    results: list[Denoised]
