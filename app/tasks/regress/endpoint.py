"""POST /v1/regress: rows of a table or pictures in, a number for each out, with the interval that holds it.

The interval is conformal (Vovk et al. 2005): value +- q * scale, q from the scores of rows that the net did not learn
from, so that it holds a new row with the asked probability, whatever the net is worth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.codecs.decimals import decimals
from app.codecs.npy import encode_npy
from app.core.errors import InferenceFailed, Unprocessable
from app.core.manifest.table import Target
from app.engine.model import Model
from app.web.context import Context
from app.web.endpoint import Find, Short
from app.web.openapi.golden import as_base64, example_pictures, golden_rows
from app.web.openapi.operation import FILE, Documented, form_schema, model_options, models_for, shown_for
from app.web.prediction import Asked, Kind, Notes, csv_of, read, run, written
from app.web.request.payload import CSV, FORM, IMAGES, JSON, NPY, taken
from app.web.request.rows import PICTURE_SCHEMA
from app.web.request.tables import CSV_SCHEMA, Noted, example_records, instances_schema

PATH: Final = "/v1/regress"
LEAST_COVERAGE, MOST_COVERAGE, DEFAULT_COVERAGE = 0.5, 0.99, 0.9
DIGITS: Final = 7  # significant ones that float32 is sure of


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


KIND: Final = Kind(
    task="regress",
    graph="regressor",
    options={"model": str, "version": str, "coverage": float},
    schema=RegressRequest,
    takes=taken(RegressRequest),
    offers=(JSON, NPY, CSV),
)


class Interval(BaseModel):
    """Where the true value lies with the probability `coverage` at least, as long as new rows are like the old ones."""

    low: float
    high: float
    coverage: float


class Prediction(Noted):
    """What is foretold of one row."""

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


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(PATH, response_model=RegressAnswer, operation_id="regress", summary="Predict a number, and how sure")
    async def regress(request: Request) -> Response:
        return await answer(request, context)

    return routes


def short_way(context: Context) -> Find:
    """POST /v1/regress, without the router."""
    short = Short(PATH, lambda request: answer(request, context))
    return lambda path: short if path == PATH else None


async def answer(request: Request, context: Context) -> Response:
    """One request from its first byte to its answer.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed: made a problem by the handlers.
    """
    asked = await read(request, context, KIND)
    coverage = _coverage(asked)
    ran = await run(asked)
    values = bounded(asked.model, ran.outputs["value"], ran.outputs.get("scale"), coverage)

    def write() -> bytes:
        if asked.form == NPY:
            return encode_npy(values.astype(np.float32))
        return (to_json if asked.form == JSON else to_csv)(asked.model, values, coverage, ran.notes)

    return await written(asked, ran, write)


def _coverage(asked: Asked) -> float | None:
    """The coverage of the intervals; None where there are none."""
    given, conformal, name = asked.payload.options.get("coverage"), asked.model.manifest.conformal, asked.model.name
    if conformal is None:
        if given is None:
            return None
        raise Unprocessable(
            f"model '{name}' has no held-out scores to make intervals from: it takes no coverage",
            subject="coverage",
            expected="no coverage",
            got=str(given),
        )
    if given is None:
        return min(DEFAULT_COVERAGE, conformal.most)
    coverage = float(given)
    most, why = MOST_COVERAGE, ""
    if conformal.most < most:
        # Rounded down: what is named here must be taken when it is sent.
        most = math.floor(conformal.most * 1e4) / 1e4
        why = f", the most that the {len(conformal.scores)} scores of model '{name}' can promise"
    if not LEAST_COVERAGE <= coverage <= most:
        expected = f"{LEAST_COVERAGE} to {most}"
        raise Unprocessable(
            f"coverage is {given}, it must be {expected}{why}", subject="coverage", expected=expected, got=str(given)
        )
    return coverage


def bounded(
    model: Model, value: NDArray[Any], scale: NDArray[Any] | None, coverage: float | None
) -> NDArray[np.float64]:
    """Values and both ends of their intervals, (rows, 3); NaN for the ends where there are none.

    Raises:
        InferenceFailed: a scale below 0.
    """
    value = np.asarray(value, np.float64)
    reach = np.full_like(value, np.nan)
    conformal = model.manifest.conformal
    if conformal is not None and scale is not None and coverage is not None:
        if (scale < 0).any():
            raise InferenceFailed(f"model '{model.name}' gave a scale below 0")
        reach = conformal.quantile(coverage) * np.asarray(scale, np.float64)
    return np.stack([value, value - reach, value + reach], axis=1)


def to_json(model: Model, values: NDArray[np.float64], coverage: float | None, notes: Notes) -> bytes:
    """RegressAnswer as bytes; `values` as `bounded` gives them."""
    target = _target(model)
    columns = (decimals(column, DIGITS) for column in values.T)
    results: list[dict[str, Any]] = [
        {
            "value": value,
            "unit": target.unit,
            "interval": None if coverage is None else {"low": low, "high": high, "coverage": coverage},
        }
        for value, low, high in zip(*columns, strict=True)
    ]
    for i, told in notes.items():
        results[i] |= told
    answer: bytes = pydantic_core.to_json(
        {
            "model": model.manifest.name,
            "version": model.manifest.version,
            "device": model.device,
            "target": target.name,
            "results": results,
        }
    )
    return answer


def to_csv(model: Model, values: NDArray[np.float64], coverage: float | None, notes: Notes) -> bytes:
    """The same as CSV; the interval's cells are empty where there is none."""
    unit = f" [{_target(model).unit}]" if _target(model).unit else ""
    rows: Iterable[Sequence[float | str]] = zip(*(decimals(column, DIGITS) for column in values.T), strict=True)
    if coverage is None:
        rows = ((row[0], "", "") for row in rows)
    return csv_of([f"value{unit}", f"low{unit}", f"high{unit}"], rows, notes)


def _target(model: Model) -> Target:
    target = model.manifest.target
    assert target is not None  # of every model of this task
    return target


def documented(context: Context) -> Documented:
    """What the OpenAPI document says of it."""
    models = models_for(context, "regress")
    coverage = {"type": "number", "minimum": LEAST_COVERAGE, "maximum": MOST_COVERAGE, "default": DEFAULT_COVERAGE}
    options = model_options(models, RegressRequest, coverage=coverage)
    limit = context.limits.max_rows
    shown = shown_for(context, "regress")
    return Documented(
        path=PATH,
        options=options,
        body="RegressRequest",
        inputs={
            "image": PICTURE_SCHEMA,
            "images": {"type": "array", "minItems": 1, "maxItems": limit, "items": PICTURE_SCHEMA},
            "instances": instances_schema(models, max_rows=limit),
        },
        one_of=("image", "images", "instances"),
        takes={
            CSV: CSV_SCHEMA,
            FORM: form_schema(options, max_files=limit),
            **dict.fromkeys(IMAGES, FILE),
            NPY: FILE | {"description": "rows of the model's own shape and type, as numpy.save writes them"},
        },
        gives={
            CSV: FILE | {"contentMediaType": CSV, "description": "value, low, high, outside, imputed; a line per row"},
            NPY: FILE | {"description": "float32 (rows, 3): value, low, high; NaN where there is no interval"},
        },
        requests=_example_requests(shown),
        answers=_example_answers(shown),
    )


def _example_requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        rows, pictures = example_records(model), example_pictures(model)
        body: dict[str, Any] = (
            {"instances": rows[:1]} if rows else {"image": as_base64(pictures[0])} if pictures else {}
        )
        if not body:
            continue
        found[f"{model.name}: {'a row of a table' if rows else 'a picture as base64'}"] = body | {"model": model.name}
        conformal = model.manifest.conformal
        if rows and conformal is not None and conformal.most >= LEAST_COVERAGE:
            found[f"{model.name}: several rows, narrower intervals"] = {
                "instances": rows,
                "model": model.name,
                "coverage": LEAST_COVERAGE,
            }
    # Without one, the page would make up a body with all three of its inputs, which is refused.
    return found or {"a row of a table": {"instances": [{"feature": 1.5}]}}


def _example_answers(models: Sequence[Model]) -> dict[str, Any]:
    found = {}
    for model in models:
        rows, conformal = golden_rows(model), model.manifest.conformal
        if "value" in rows and (conformal is None) == ("scale" not in rows):
            coverage = None if conformal is None else min(DEFAULT_COVERAGE, conformal.most)
            scale = rows["scale"][:1] if "scale" in rows else None
            values = bounded(model, rows["value"][:1], scale, coverage)
            found[model.name] = json.loads(to_json(model, values, coverage, {}))
    return found
