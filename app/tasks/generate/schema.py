"""What POST /v1/generate is asked and answers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.wire import painted

WAYS: Final = ("latents", "n", "between", "grid")
"""To come by pictures; a request names one."""
BELONGS_TO: Final = {"seed": "n", "frames": "between"}

MOST_FRAMES: Final = 64
DEFAULT_FRAMES: Final = 9
MOST_SIDE: Final = 64
MAX_SEED: Final = 2**53 - 1  # what every reader of JSON keeps exact
MAX_VALUE: Final = 1e6  # of a latent; beyond it float32 may run over inside of a decoder

Number = Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE, allow_inf_nan=False)]
Code = Annotated[list[Number], Field(min_length=1)]
END_SCHEMA: Final = {
    "description": "A latent, or a picture: an image file as base64.",
    "oneOf": [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "array", "minItems": 1, "items": {"type": "number"}},
    ],
}


class Grid(BaseModel):
    """A square of latents, two numbers of which differ."""

    model_config = ConfigDict(extra="forbid", strict=True)

    side: Annotated[int, Field(ge=2, le=MOST_SIDE, description="pictures across and down")]
    dimensions: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(min_length=2, max_length=2, description="which number rises to the right, and which upwards"),
    ] = [0, 1]


class GenerateRequest(BaseModel):
    """One of `latents`, `n`, `between` and `grid`, and options."""

    model_config = ConfigDict(extra="forbid", strict=True)

    latents: Annotated[list[Code] | None, Field(min_length=1, description="codes to decode")] = None
    n: Annotated[int | None, Field(description="how many to draw from the prior, where the model has one")] = None
    seed: Annotated[int | None, Field(description="of the draw; without one it is chosen, and told")] = None
    between: Annotated[
        list[Annotated[Any, Field(json_schema_extra=END_SCHEMA)]] | None,
        Field(min_length=2, max_length=2, description="two latents, or two pictures: the way from one to the other"),
    ] = None
    frames: Annotated[int | None, Field(description=f"pictures on that way, both ends counted; {DEFAULT_FRAMES}")] = (
        None
    )
    grid: Annotated[Grid | None, Field(description=Grid.__doc__)] = None
    model: Annotated[str | None, Field(description="name of the model; the default where none is given")] = None
    version: Annotated[str | None, Field(description="its version; the default one where none is given")] = None
    columns: Annotated[int | None, Field(description=f"of {painted.PNG}: pictures in a row")] = None


class Generated(BaseModel):
    """One picture, and the code that it was decoded from."""

    image: Annotated[str, Field(description="as PNG", json_schema_extra=painted.PNG_SCHEMA)]
    latent: list[float]


class GenerateAnswer(BaseModel):
    """Who answered, how it was asked, and one result per picture."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]
    results: list[Generated]
    seed: Annotated[int | None, Field(description="of `n`: the same again gives the same pictures")] = None
    interpolation: Annotated[str | None, Field(description="of `between`: `linear` or `spherical`")] = None
    grid: Annotated[Grid | None, Field(description="of `grid`: pictures row by row from the upper left")] = None
