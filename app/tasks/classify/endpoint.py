"""POST /v1/classify: pictures or rows in, labels with probabilities out.

One shape of answer for one picture and for many: `results`, one entry per picture, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.codecs.npy import encode_npy
from app.core.errors import Unprocessable
from app.engine.model import Model
from app.web.context import Context
from app.web.endpoint import Find, Short
from app.web.openapi.golden import as_base64, drawn, example_pictures, golden_rows
from app.web.openapi.operation import FILE, Documented, form_schema, model_options, models_for, shown_for
from app.web.prediction import Asked, Kind, Notes, csv_of, read, run, written
from app.web.request.payload import CSV, FORM, IMAGES, JSON, NPY, taken
from app.web.request.rows import PICTURE_SCHEMA
from app.web.request.tables import CSV_SCHEMA, Noted, example_records, instances_schema

PATH: Final = "/v1/classify"
DEFAULT_TOP_K: Final = 5
SMALL_PIXELS: Final = 28 * 28
"""Pictures up to this size are also shown as nested pixels: more would be a wall of digits."""


class ClassifyRequest(BaseModel):
    """The JSON form of a request: one of `image`, `images` and `instances`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)] = None
    images: Annotated[list[Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)]], Field(min_length=1)] = []
    instances: Annotated[list[Any], Field(min_length=1)] = []
    model: Annotated[str | None, Field(description="name of the model; the default where none is given")] = None
    version: Annotated[str | None, Field(description="its version; the default one where none is given")] = None
    top_k: Annotated[int | None, Field(description="how many of the most probable labels to list")] = None


KIND: Final = Kind(
    task="classify",
    graph="classifier",
    options={"model": str, "version": str, "top_k": int},
    schema=ClassifyRequest,
    takes=taken(ClassifyRequest),
    offers=(JSON, NPY, CSV),
)


class Score(BaseModel):
    """One label and how probable it is."""

    label: str
    index: Annotated[int, Field(ge=0, description="the label's place in the model's list of labels")]
    probability: Annotated[float, Field(ge=0, le=1)]


class Result(Score, Noted):
    """What one picture or row was taken for: the most probable label, then more of the same."""

    top_k: Annotated[list[Score], Field(description="the most probable labels, best first")]
    probabilities: Annotated[dict[str, float], Field(description="every label's probability, in the model's order")]


class ClassifyAnswer(BaseModel):
    """Who answered, and one result per picture or row, in their order."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]
    results: list[Result]


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(
        PATH, response_model=ClassifyAnswer, operation_id="classify", summary="Label pictures or rows of a table"
    )
    async def classify(request: Request) -> Response:
        return await answer(request, context)

    return routes


def short_way(context: Context) -> Find:
    """POST /v1/classify, without the router."""
    short = Short(PATH, lambda request: answer(request, context))
    return lambda path: short if path == PATH else None


async def answer(request: Request, context: Context) -> Response:
    """One request from its first byte to its answer.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed: made a problem by the handlers.
    """
    asked = await read(request, context, KIND)
    top_k = _top_k(asked)
    ran = await run(asked)
    probabilities = ran.outputs["probabilities"]

    def write() -> bytes:
        if asked.form == NPY:
            return encode_npy(np.asarray(probabilities, np.float32))
        if asked.form == CSV:
            return to_csv(asked.model, probabilities, ran.notes)
        return to_json(asked.model, probabilities, top_k, ran.notes)

    return await written(asked, ran, write)


def _top_k(asked: Asked) -> int:
    """How many labels to list."""
    labels, top_k = len(asked.model.manifest.labels), asked.payload.options.get("top_k")
    if top_k is None:
        return min(DEFAULT_TOP_K, labels)
    if not 1 <= int(top_k) <= labels:
        raise Unprocessable(
            f"top_k is {top_k}, model '{asked.model.name}' has {labels} labels: it must be 1 to {labels}",
            subject="top_k",
            expected=f"1 to {labels}",
            got=str(top_k),
        )
    if asked.form != JSON:
        raise Unprocessable(
            f"top_k shapes the answer as {JSON}; as {asked.form} all probabilities are given",
            subject="top_k",
            expected=f"no top_k, or accept: {JSON}",
            got=f"top_k {top_k} with accept: {asked.form}",
        )
    return int(top_k)


def to_json(model: Model, probabilities: NDArray[Any], top_k: int, notes: Notes | None = None) -> bytes:
    """ClassifyAnswer as bytes, built by hand: this is every request's last step.

    Args:
        probabilities: (rows, labels), finite.
        top_k: 1 to the number of labels.
        notes: what is said of a row beside its answer, by row.
    """
    labels = model.manifest.labels
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].tolist()
    values = _rounded(probabilities)
    results = [_result(labels, best, row) for best, row in zip(order, values, strict=True)]
    for i, told in (notes or {}).items():
        results[i] |= told
    answer: bytes = pydantic_core.to_json(
        {
            "model": model.manifest.name,
            "version": model.manifest.version,
            "device": model.device,
            "results": results,
        }
    )
    return answer


def to_csv(model: Model, probabilities: NDArray[Any], notes: Notes) -> bytes:
    """The same as CSV: the most probable label of each row, and every label's probability."""
    labels = model.manifest.labels
    best = probabilities.argmax(axis=1).tolist()
    rows = ([labels[k], *row] for k, row in zip(best, _rounded(probabilities), strict=True))
    return csv_of(["label", *(f"probability of {label}" for label in labels)], rows, notes)


def _rounded(probabilities: NDArray[Any]) -> list[list[float]]:
    # Seven decimals: what float32 holds near 1. Without rounding, 0.1 would be written 0.10000000149011612.
    rounded: list[list[float]] = np.round(np.clip(probabilities.astype(np.float64), 0, 1), 7).tolist()
    return rounded


def _result(labels: Sequence[str], best: list[int], row: list[float]) -> dict[str, Any]:
    top = [{"label": labels[i], "index": i, "probability": row[i]} for i in best]
    return {**top[0], "top_k": top, "probabilities": dict(zip(labels, row, strict=True))}


def documented(context: Context) -> Documented:
    """What the OpenAPI document says of it."""
    models = models_for(context, "classify")
    most = max((len(m.manifest.labels) for m in models), default=0)
    options = model_options(
        models, ClassifyRequest, top_k={"type": "integer", "minimum": 1} | ({"maximum": most} if most else {})
    )
    limit = context.limits.max_rows
    shown = shown_for(context, "classify")
    return Documented(
        path=PATH,
        options=options,
        body="ClassifyRequest",
        inputs={
            "image": PICTURE_SCHEMA,
            "images": {"type": "array", "minItems": 1, "maxItems": limit, "items": PICTURE_SCHEMA},
            "instances": instances_schema(models, max_rows=limit),
        },
        one_of=("image", "images", "instances"),
        takes={
            FORM: form_schema(options, max_files=limit),
            **dict.fromkeys(IMAGES, FILE),
            NPY: FILE | {"description": "rows of the model's own shape and type, as numpy.save writes them"},
            CSV: CSV_SCHEMA,
        },
        gives={
            NPY: FILE | {"description": "float32 probabilities (rows, labels)"},
            CSV: FILE
            | {
                "contentMediaType": CSV,
                "description": "label, each label's probability, outside, imputed; a line per row",
            },
        },
        requests=_example_requests(shown),
        answers=_example_answers(shown),
    )


def _example_requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        if records := example_records(model):
            found[f"{model.name}: a row of a table"] = {"instances": records[:1], "model": model.name}
            found[f"{model.name}: several rows, the best label"] = {
                "instances": records,
                "model": model.name,
                "top_k": 1,
            }
        made = example_pictures(model)
        if not made:
            continue
        texts = [as_base64(pixels) for pixels in made]
        found[f"{model.name}: a picture as base64"] = {"image": texts[0], "model": model.name}
        found[f"{model.name}: several pictures, the two best labels"] = {
            "images": texts,
            "model": model.name,
            "top_k": 2,
        }
        if made[0].size <= SMALL_PIXELS:
            found[f"{model.name}: nested pixels"] = {"image": made[0].tolist(), "model": model.name}
    # Without one, the page would make up a body with both `image` and `images`, which is refused.
    return found or {"a picture as base64": {"image": as_base64(drawn(28, 28))}}


def _example_answers(models: Sequence[Model]) -> dict[str, Any]:
    found = {}
    for model in models:
        probabilities = golden_rows(model).get("probabilities")
        if probabilities is not None:
            told = to_json(model, probabilities[:1], min(DEFAULT_TOP_K, len(model.manifest.labels)))
            found[model.name] = json.loads(told)
    return found
