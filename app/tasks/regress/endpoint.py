"""POST /v1/regress: rows of a table or pictures in, a number for each out, with the interval that holds it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from starlette.responses import Response

from app.codecs.npy import encode_npy
from app.core.errors import invalid
from app.engine.model import Model
from app.tasks.regress.openapi import describe
from app.tasks.regress.outcome import bounded, to_csv, to_json
from app.tasks.regress.schema import DEFAULT_COVERAGE, LEAST_COVERAGE, MOST_COVERAGE, RegressAnswer, RegressRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.prediction import choose_model, predict, respond
from app.web.request.form import RequestForm
from app.web.request.media_types import CSV, JSON, NPY
from app.web.request.payload import taken

GRAPH: Final = "regressor"


async def regress(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    model = choose_model(call, payload, "regress")
    coverage = _coverage(call, model)
    outputs, notes = await predict(call, payload, model, GRAPH)
    values = bounded(model, outputs["value"], outputs.get("scale"), coverage)

    def write() -> bytes:
        if call.media_type == NPY:
            return encode_npy(values.astype(np.float32))
        return (to_json if call.media_type == JSON else to_csv)(model, values, coverage, notes)

    return await respond(call, write, GRAPH, outputs, notes)


def _coverage(call: Call, model: Model) -> float | None:
    """The coverage of the intervals; None where there are none."""
    given, conformal, name = call.options.get("coverage"), model.manifest.conformal, model.name
    if conformal is None:
        if given is None:
            return None
        raise invalid(
            "coverage",
            expected="no coverage",
            got=str(given),
            detail=f"model '{name}' has no held-out scores to make intervals from: it takes no coverage",
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
        raise invalid("coverage", expected=expected, got=str(given), why=why)
    return coverage


ENDPOINT: Final = Endpoint(
    path="/v1/regress",
    name="regress",
    summary="Predict a number, and how sure",
    handler=regress,
    request=RequestForm(
        schema=RegressRequest,
        options={"model": str, "version": str, "coverage": float},
        takes=taken(RegressRequest),
        offers=(JSON, NPY, CSV),
    ),
    response=RegressAnswer,
    describe=describe,
)
