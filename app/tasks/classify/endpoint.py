"""POST /v1/classify: pictures, recordings, rows or texts in, labels with probabilities out.

One shape of response for one and for many: `results`, one entry for each, in their order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from starlette.responses import Response

from app.codecs.npy import encode_npy
from app.core.errors import invalid
from app.engine.model import Model
from app.tasks.classify.openapi import describe
from app.tasks.classify.outcome import DEFAULT_TOP_K, to_csv, to_json
from app.tasks.classify.schema import ClassifyAnswer, ClassifyRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.prediction import choose_model, predict, respond
from app.web.request.form import RequestForm
from app.web.request.media_types import CSV, JSON, NPY
from app.web.request.payload import taken

GRAPH: Final = "classifier"


async def classify(call: Call) -> Response:
    """One request from its first byte to its response."""
    payload = await call.read()
    model = choose_model(call, payload, "classify")
    top_k = _top_k(call, model)
    if call.options.get("explain"):
        _check_explained(call, model)
    outputs, notes = await predict(call, payload, model, GRAPH)
    probabilities = outputs["probabilities"]

    def write() -> bytes:
        if call.media_type == NPY:
            return encode_npy(np.asarray(probabilities, np.float32))
        if call.media_type == CSV:
            return to_csv(model, probabilities, notes)
        return to_json(model, probabilities, top_k, notes)

    return await respond(call, write, GRAPH, outputs, notes)


def _top_k(call: Call, model: Model) -> int:
    """How many labels to list."""
    labels, top_k = len(model.manifest.labels), call.options.get("top_k")
    if top_k is None:
        return min(DEFAULT_TOP_K, labels)
    if not 1 <= int(top_k) <= labels:
        raise invalid(
            "top_k",
            expected=f"1 to {labels}",
            got=str(top_k),
            detail=f"top_k is {top_k}, model '{model.name}' has {labels} labels: it must be 1 to {labels}",
        )
    if call.media_type != JSON:
        raise invalid(
            "top_k",
            expected=f"no top_k, or accept: {JSON}",
            got=f"top_k {top_k} with accept: {call.media_type}",
            detail=f"top_k shapes the answer as {JSON}; as {call.media_type} all probabilities are given",
        )
    return int(top_k)


def _check_explained(call: Call, model: Model) -> None:
    """Raises Unprocessable where there are no words to weigh, or no room for their weights."""
    if model.manifest.text is None:
        expected, got = "a model of texts", f"'{model.name}', a model of {model.manifest.modality}s"
        raise invalid(
            "explain", expected=expected, got=got, detail=f"explain weighs words, model '{model.name}' has none"
        )
    if call.media_type != JSON:
        raise invalid(
            "explain",
            expected=f"no explain, or accept: {JSON}",
            got=f"explain with accept: {call.media_type}",
            detail=f"explain lists words in {JSON}; {call.media_type} has the probabilities alone",
        )


ENDPOINT: Final = Endpoint(
    path="/v1/classify",
    name="classify",
    summary="Label pictures, sound, texts or rows of a table",
    handler=classify,
    request=RequestForm(
        schema=ClassifyRequest,
        options={"model": str, "version": str, "top_k": int, "explain": bool},
        takes=taken(ClassifyRequest),
        offers=(JSON, NPY, CSV),
    ),
    response=ClassifyAnswer,
    describe=describe,
)
