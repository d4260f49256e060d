"""The JSON of POST /v1/regress: its request and its response."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.web.openapi.schemas import ModelAnswer, RowRequest
from app.web.request.tables import Noted

LEAST_COVERAGE, MOST_COVERAGE, DEFAULT_COVERAGE = 0.5, 0.99, 0.9


class RegressRequest(RowRequest):
    """The JSON form of a request: one of `image`, `images` and `instances`."""

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


class RegressAnswer(ModelAnswer):
    """Who answered, of what, and one result per row, in their order."""

    target: Annotated[str, Field(description="what the values are of")]
    results: list[Prediction]
