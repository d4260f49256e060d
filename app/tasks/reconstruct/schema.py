"""The JSON of POST /v1/reconstruct: its request and its response."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from app.web.openapi.pictures import PNG_SCHEMA
from app.web.openapi.schemas import ColumnsField, LayoutField, ModelAnswer, PictureRequest

MAX_STEPS: Final = 64
MAX_SPREADS: Final = 1000.0

Step = Annotated[float, Field(ge=-MAX_SPREADS, le=MAX_SPREADS, allow_inf_nan=False)]


class Perturb(BaseModel):
    """Move one number of each picture's code and see."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dimension: Annotated[int, Field(ge=0, description="which number of the code, from 0")]
    by: Annotated[
        list[Step],
        Field(
            min_length=1,
            max_length=MAX_STEPS,
            description="how far, a picture each; 1 is the spread of held-out pictures along this dimension",
        ),
    ]


class ReconstructRequest(PictureRequest):
    """The JSON form of a request: either `image` or `images`."""

    layout: LayoutField = None
    columns: ColumnsField = None
    perturb: Annotated[SkipValidation[Perturb | None], Field(description=Perturb.__doc__)] = None


class ReconstructionError(BaseModel):
    """How far a reconstruction is from what the model was given, pixels from 0 to 1."""

    mse: Annotated[float, Field(ge=0, description="mean squared error over pixels and channels")]
    psnr_db: Annotated[float | None, Field(description="10 log10(1 / mse); null where nothing was lost")]


class Anomaly(BaseModel):
    """How unusual it is to be reconstructed as badly."""

    p_value: Annotated[
        float, Field(gt=0, le=1, description="share of held-out pictures with this error or more, the picture counted")
    ]
    held_out_rows: int


class Perturbed(BaseModel):
    """One picture's code with one number moved."""

    values: Annotated[list[float], Field(description="of that number")]
    images: list[Annotated[str, Field(json_schema_extra=PNG_SCHEMA)]]


class Reconstruction(BaseModel):
    """One picture and what the model made of it."""

    image: Annotated[str, Field(description="the reconstruction as PNG", json_schema_extra=PNG_SCHEMA)]
    latent: Annotated[list[float] | None, Field(description="the code; of a plain autoencoder")] = None
    mu: Annotated[list[float] | None, Field(description="mean of the code, which is decoded; of a VAE")] = None
    logvar: Annotated[list[float] | None, Field(description="logarithm of its variance; of a VAE")] = None
    error: ReconstructionError
    anomaly: Annotated[Anomaly | None, Field(description="null where the model has no held-out errors")]
    perturbed: Annotated[Perturbed | None, Field(description="where asked for")] = None


class ReconstructAnswer(ModelAnswer):
    """Who answered, and one result per picture, in their order."""

    results: list[Reconstruction]
