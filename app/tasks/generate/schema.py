"""The JSON of POST /v1/generate: its request and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.web.openapi.pictures import PICTURE_SCHEMA, PNG_SCHEMA
from app.web.openapi.schemas import ModelAnswer, ModelField, VersionField
from app.web.request.media_types import PNG

MODES: Final = ("latents", "n", "between", "grid", "forward")
"""The ways to generate pictures; a request has one."""
IMPLY_N: Final = ("label", "labels", "init_image")
"""Where one of these is given and no mode is, pictures are generated: as many as labels, else one."""
BELONGS_TO: Final = {
    "seed": ("n", "forward"),
    "frames": ("between",),
    "labels": ("n", "latents"),
    "label": ("n", "latents", "between", "grid"),
    "sampler": ("n",),
    "steps": ("n",),
    "guidance": ("n",),
    "init_image": ("n", "forward"),
    "strength": ("n",),
    "mask": ("n",),
    "visits": ("n",),
}
"""Options, and the modes that they belong to."""

MOST_FRAMES: Final = 64
DEFAULT_FRAMES: Final = 9
MOST_SIDE: Final = 64
MOST_LEVELS: Final = 64
MOST_VISITS, DEFAULT_VISITS = 10, 2
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
LABEL_SCHEMA: Final = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}


class Grid(BaseModel):
    """A square of latents, two numbers of which differ."""

    model_config = ConfigDict(extra="forbid", strict=True)

    side: Annotated[int, Field(ge=2, le=MOST_SIDE, description="pictures across and down")]
    dimensions: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(
            min_length=2,
            max_length=2,
            description="which number rises to the right, and which upwards",
            json_schema_extra={"uniqueItems": True},
        ),
    ] = [0, 1]


class GenerateRequest(BaseModel):
    """The JSON form of a request; the query may have a part of it. One of `MODES`, or of `IMPLY_N`, and options."""

    model_config = ConfigDict(extra="forbid", strict=True)

    latents: Annotated[list[Code] | None, Field(min_length=1, description="codes to decode")] = None
    n: Annotated[int | None, Field(description="how many to generate, where the model has a prior")] = None
    seed: Annotated[int | None, Field(description="of the samples; without one it is chosen, and reported")] = None
    between: Annotated[
        list[Annotated[Any, Field(json_schema_extra=END_SCHEMA)]] | None,
        Field(min_length=2, max_length=2, description="two latents, or two pictures: the path from one to the other"),
    ] = None
    frames: Annotated[
        int | None,
        Field(
            description=f"pictures on that path, both ends included; without it {DEFAULT_FRAMES}, or as many as one "
            "response may have"
        ),
    ] = None
    grid: Annotated[Grid | None, Field(description=Grid.__doc__)] = None
    forward: Annotated[
        int | None,
        Field(
            description="how often to add noise to `init_image`: pictures of the forward process, "
            "which sampling reverses"
        ),
    ] = None
    label: Annotated[
        Any,
        Field(
            description="of every picture: one of the model's labels by name (a text) or by index (a number, from 0); "
            "without one each picture's is sampled by the seed, beside `init_image` there is none",
            json_schema_extra=LABEL_SCHEMA,
        ),
    ] = None
    labels: Annotated[
        list[Annotated[Any, Field(json_schema_extra=LABEL_SCHEMA)]] | None,
        Field(min_length=1, description="one for each picture"),
    ] = None
    guidance: Annotated[
        float | None,
        Field(
            description="how much more the label counts than in the model itself, which is 1; 0 generates without one",
            allow_inf_nan=False,
        ),
    ] = None
    sampler: Annotated[
        str | None,
        Field(description="how the noise is removed; without it the model's first, beside `mask` `ancestral`"),
    ] = None
    steps: Annotated[int | None, Field(description="levels of noise; the sampler's own number without")] = None
    init_image: Annotated[Any, Field(description="the picture to start from", json_schema_extra=PICTURE_SCHEMA)] = None
    strength: Annotated[
        float | None,
        Field(description="how far to depart from it: 0 keeps it, 1 starts from noise alone", allow_inf_nan=False),
    ] = None
    mask: Annotated[
        Any,
        Field(
            description="of `init_image`, of its size: what is white (128 or more) is generated anew, the rest is kept",
            json_schema_extra=PICTURE_SCHEMA,
        ),
    ] = None
    visits: Annotated[
        int | None,
        Field(
            description="of `mask`: how often each level of noise is visited, so that what is generated fits what "
            f"is kept; with the sampler `ancestral`; {DEFAULT_VISITS} without"
        ),
    ] = None
    model: ModelField = None
    version: VersionField = None
    columns: Annotated[int | None, Field(description=f"of {PNG}: pictures in a row")] = None


class Generated(BaseModel):
    """One picture, and what it was made of."""

    image: Annotated[str, Field(description="as PNG", json_schema_extra=PNG_SCHEMA)]
    latent: Annotated[list[float] | None, Field(description="the code; of models that decode one")] = None
    label: Annotated[
        str | None, Field(description="where the model has labels; null: it was generated without one")
    ] = None
    sigma: Annotated[float | None, Field(description="of `forward`: the noise in it, for pixels from 0 to 1")] = None


class GenerateAnswer(ModelAnswer):
    """Who answered, how it was asked, and one result per picture."""

    results: list[Generated]
    seed: Annotated[int | None, Field(description="the same again gives the same pictures")] = None
    interpolation: Annotated[str | None, Field(description="of `between`: `linear` or `spherical`")] = None
    grid: Annotated[Grid | None, Field(description="of `grid`: pictures row by row from the upper left")] = None
    sampler: Annotated[str | None, Field(description="how the noise was removed, step by step")] = None
    steps: Annotated[int | None, Field(description="levels of noise")] = None
    evaluations: Annotated[int | None, Field(description="how often the model was evaluated for each picture")] = None
    guidance: Annotated[float | None, Field(description="weight of the label; null where there is none")] = None
    strength: Annotated[float | None, Field(description="of `init_image`")] = None
    visits: Annotated[int | None, Field(description="of `mask`: to each level of noise")] = None
