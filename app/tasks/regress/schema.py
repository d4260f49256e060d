"""What POST /v1/regress is asked and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.web.openapi.operation import PICTURE_SCHEMA
from app.web.request.tables import Noted

LEAST_COVERAGE, MOST_COVERAGE, DEFAULT_COVERAGE = 0.5, 0.99, 0.9


class RegressRequest(BaseModel):
    """The JSON form of a request: one of `image`, `images` and `instances`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)] = None
    images: Annotated[list[Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)]], Field(min_length=1)] = []
    instances: Annotated[list[Any], Field(min_length=1)] = []
    model: Annotated[str | None, Field(description="name of the model; the default where none is given")] = None
    version: Annotated[str | None, Field(description="its version; the default one where none is given")] = None
    coverage: Annotated[
        float | None, Field(allow_inf_nan=False, description="how probably the interval holds the true value")
    ] = None


class Interval(BaseModel):
    """Where the true value lies with the probability `coverage` at least, as long as new rows are like the old ones."""

    low: float
    high: float
    coverage: float


class Prediction(Noted):
    """What is predicted for one row."""

    value: float
    unit: Annotated[str, Field(description="empty where it has none")]
    interval: Annotated[Interval | None, Field(description="null where the model has no held-out scores")]


class RegressAnswer(BaseModel):
    """Who answered, of what, and one result per row, in their order."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]
    target: Annotated[str, Field(description="what the values are of")]
    results: list[Prediction]
