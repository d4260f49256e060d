"""POST /v1/regress in the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.regress.outcome import bounded, to_json
from app.tasks.regress.schema import DEFAULT_COVERAGE, LEAST_COVERAGE, MOST_COVERAGE, RegressRequest
from app.web.openapi.golden import as_base64, example_pictures, golden_rows
from app.web.openapi.operation import Operation, csv_schema, file_schema, fitting, model_options, models_for, shown_for
from app.web.openapi.tables import example_records, row_bodies, row_inputs
from app.web.request.limits import Limits
from app.web.request.media_types import CSV, NPY
from app.web.request.payload import INSTANCES


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    models = models_for(registry, "regress")
    coverage = {"type": "number", "minimum": LEAST_COVERAGE, "maximum": MOST_COVERAGE}
    options = model_options(models, RegressRequest, coverage=coverage)
    limit = limits.max_rows
    shown = shown_for(registry, "regress")
    # What no loaded model reads is not promised; without a model the forms of both are shown.
    of_pictures = not models or any(model.manifest.picture is not None for model in models)
    inputs, takes = row_inputs(models, limit), row_bodies(fitting(options, registry, "regress", ("image",)), limit)
    if not of_pictures:
        inputs = {INSTANCES: inputs[INSTANCES]}
        takes = {NPY: takes[NPY], CSV: takes[CSV]}
    return Operation(
        about="Each row of a table, or picture, gets the number that the model predicts and an interval around it that "
        "holds the true one with the probability `coverage`.",
        options=options,
        body="RegressRequest",
        inputs=inputs,
        one_of=tuple(inputs),
        takes=takes,
        gives={
            CSV: csv_schema(
                "value, low, high, outside, imputed; a line per row",
                {"^(value|low|high)( \\[.*\\])?$": "number", "^(outside|imputed|ignored)$": "string"},
            ),
            NPY: file_schema(NPY, "float32 (rows, 3): value, low, high; NaN where there is no interval"),
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
