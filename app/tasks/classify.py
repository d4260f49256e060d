"""POST /v1/classify: pictures or rows in, labels with probabilities out.

One shape of answer for one picture and for many: `results`, one entry per picture, in their order.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from time import perf_counter
from typing import Annotated, Any, Final

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.codecs.tensors import encode_npy
from app.core.errors import InferenceFailed, TooLarge, Unprocessable
from app.engine.model import Model
from app.engine.runner import Answer
from app.wire import pictures
from app.wire.accept import choose
from app.wire.answered import Answered
from app.wire.body import header, media_type, read_body
from app.wire.context import Context, Trace
from app.wire.documented import FILE, Documented, form_schema, model_options, models_for, shown_for
from app.wire.golden import as_base64, drawn, example_pictures, golden_rows
from app.wire.json_size import SMALL_BYTES
from app.wire.options import Option, from_query
from app.wire.short import Find, Short
from app.wire.urgency import urgency
from app.wire.waiting import WhileConnected

PATH: Final = "/v1/classify"
GRAPH: Final = "classifier"
DEFAULT_TOP_K: Final = 5
ANSWERS: Final = (pictures.JSON, pictures.NPY)
SMALL_PIXELS: Final = 28 * 28
"""Pictures up to this size are also shown as nested pixels: more would be a wall of digits."""
OPTIONS: Final[dict[str, type[str | int]]] = {"model": str, "version": str, "top_k": int}

# A picture in JSON is checked by the codec, which knows the model; the parser only lets it through.
PICTURE_SCHEMA: Final = {
    "title": "Picture",
    "description": "An image file as base64 (a `data:` URL is taken too), or pixels 0 to 255 as nested lists: "
    "height x width, or height x width x channels.",
    "oneOf": [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {}}},
    ],
}


class ClassifyRequest(BaseModel):
    """The JSON form of a request: either `image` or `images`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)] = None
    images: Annotated[list[Annotated[Any, Field(json_schema_extra=PICTURE_SCHEMA)]], Field(min_length=1)] = []
    model: Annotated[str | None, Field(description="name of the model; the default where none is given")] = None
    version: Annotated[str | None, Field(description="its version; the default one where none is given")] = None
    top_k: Annotated[int | None, Field(description="how many of the most probable labels to list")] = None


class Score(BaseModel):
    """One label and how probable it is."""

    label: str
    index: Annotated[int, Field(ge=0, description="the label's place in the model's list of labels")]
    probability: Annotated[float, Field(ge=0, le=1)]


class Result(Score):
    """What one picture was taken for: the most probable label, then more of the same."""

    top_k: Annotated[list[Score], Field(description="the most probable labels, best first")]
    probabilities: Annotated[dict[str, float], Field(description="every label's probability, in the model's order")]


class ClassifyAnswer(BaseModel):
    """Who answered, and one result per picture, in their order."""

    model: str
    version: str
    device: Annotated[str, Field(description="where the model ran, e.g. cpu or cuda:0")]
    results: list[Result]


def router(context: Context) -> APIRouter:
    """The endpoint, bound to what it serves."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(PATH, response_model=ClassifyAnswer, operation_id="classify", summary="Say what pictures show")
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
    form = choose(header(request, b"accept"), ANSWERS)
    query = from_query(request.scope["query_string"], OPTIONS)
    kind, parameters = media_type(request, pictures.TAKEN)
    deadline, priority = urgency(request, context.limits)
    body = await read_body(request, context.limits)

    began = perf_counter()
    payload = await _payload(kind, parameters, body, query, context)
    model, top_k = _choose(payload.options, context)
    if top_k is not None and form == pictures.NPY:
        raise Unprocessable(
            f"top_k shapes the answer as {pictures.JSON}; as {pictures.NPY} all probabilities are given",
            subject="top_k",
            expected=f"no top_k, or accept: {pictures.JSON}",
            got=f"top_k {top_k} with accept: {pictures.NPY}",
        )
    model.check_room(GRAPH)
    with model.hold(), WhileConnected(request):
        rows = await _decoded(payload, model, context)
        decode_s = perf_counter() - began
        trace = Trace.of(request.scope)
        trace.model, trace.rows = model.name, len(rows)
        tensors = {model.manifest.graphs[GRAPH].inputs[0].name: rows}
        got = await model.run(GRAPH, tensors, deadline=deadline, priority=priority)

    began = perf_counter()
    probabilities = got.tensors["probabilities"]
    if not np.isfinite(probabilities).all():
        raise InferenceFailed(f"model '{model.name}' gave probabilities that are not numbers")
    content = (
        encode_npy(np.asarray(probabilities, np.float32))
        if form == pictures.NPY
        else to_json(model, probabilities, top_k or min(DEFAULT_TOP_K, len(model.manifest.labels)))
    )
    encode_s = perf_counter() - began
    context.stages.observe(
        trace, model, GRAPH, decode_s=decode_s, queue_s=got.queue_s, run_s=got.run_s, encode_s=encode_s
    )
    return Answered(content, _headers(form, model, got, decode_s))


async def _payload(
    kind: str, parameters: str, body: bytes, query: dict[str, Option], context: Context
) -> pictures.Payload:
    """The body taken apart; on the event loop where that is quick, else in a thread."""

    def parse() -> pictures.Payload:
        return pictures.parse(
            kind,
            parameters,
            body,
            query=query,
            known=OPTIONS,
            schema=ClassifyRequest,
            max_rows=context.limits.max_rows,
            max_values=_most_values(context) if kind == pictures.JSON and len(body) > SMALL_BYTES else 0,
        )

    if len(body) <= pictures.SMALL_BYTES or kind not in (pictures.JSON, pictures.FORM):
        return parse()
    return await asyncio.get_running_loop().run_in_executor(context.pool, parse)


async def _decoded(payload: pictures.Payload, model: Model, context: Context) -> NDArray[Any]:
    """The model's rows; on the event loop where that is quick, else in a thread."""
    limits = context.limits

    def decode(max_pixels: int) -> NDArray[Any]:
        return pictures.decode(
            payload,
            model.manifest.picture,
            model.manifest.graphs[GRAPH].inputs[0],
            max_rows=limits.max_rows,
            max_pixels=max_pixels,
        )

    if payload.small:
        try:
            return decode(min(pictures.SMALL_PIXELS, limits.max_pixels))
        except TooLarge:  # few bytes, many pixels
            pass
    return await asyncio.get_running_loop().run_in_executor(context.pool, decode, limits.max_pixels)


def _most_values(context: Context) -> int:
    """What a JSON body needs for as many nested pictures as are taken, of the largest model."""
    shapes = (model.manifest.picture.shape for model in context.registry.models if model.manifest.picture)
    return context.limits.max_rows * max(map(math.prod, shapes), default=0) + 1000


def _choose(options: dict[str, Option], context: Context) -> tuple[Model, int | None]:
    name, version, top_k = options.get("model"), options.get("version"), options.get("top_k")
    wanted = None if version is None else str(version)
    if name is None:
        model = context.default("classify")
        if wanted is not None:
            model = context.registry.get(model.manifest.name, wanted)
    else:
        model = context.registry.get(str(name), wanted)
    manifest = model.manifest
    if manifest.task != "classify":
        raise Unprocessable(
            f"model '{manifest.name}' is made to {manifest.task}, not to classify",
            subject="model",
            expected="a model of the task classify",
            got=f"'{manifest.name}', a model of the task {manifest.task}",
        )
    labels = len(manifest.labels)
    if top_k is not None and not 1 <= int(top_k) <= labels:
        raise Unprocessable(
            f"top_k is {top_k}, model '{manifest.name}' has {labels} labels: it must be 1 to {labels}",
            subject="top_k",
            expected=f"1 to {labels}",
            got=str(top_k),
        )
    return model, None if top_k is None else int(top_k)


def _headers(form: str, model: Model, got: Answer, decode_s: float) -> list[tuple[bytes, bytes]]:
    timing = (
        f"decode;dur={decode_s * 1e3:.3f}, queue;dur={got.queue_s * 1e3:.3f}, "
        f'run;dur={got.run_s * 1e3:.3f}, rows;desc="batch of {got.batch_rows}"'
    )
    return [
        (b"content-type", form.encode("ascii")),
        (b"server-timing", timing.encode("ascii")),
        (b"x-model", f"{model.name}/{model.version}".encode("ascii")),
        (b"x-device", model.device.encode("ascii")),
    ]


def to_json(model: Model, probabilities: NDArray[Any], top_k: int) -> bytes:
    """ClassifyAnswer as bytes, built by hand: this is every request's last step.

    Args:
        probabilities: (rows, labels), finite.
        top_k: 1 to the number of labels.
    """
    labels = model.manifest.labels
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].tolist()
    # Seven decimals: what float32 holds near 1. Without rounding, 0.1 would be written 0.10000000149011612.
    values = np.round(np.clip(probabilities.astype(np.float64), 0, 1), 7).tolist()
    answer: bytes = pydantic_core.to_json(
        {
            "model": model.manifest.name,
            "version": model.manifest.version,
            "device": model.device,
            "results": [_result(labels, best, row) for best, row in zip(order, values, strict=True)],
        }
    )
    return answer


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
        },
        one_of=("image", "images"),
        takes={
            pictures.FORM: form_schema(options, max_files=limit),
            **dict.fromkeys(pictures.IMAGES, FILE),
            pictures.NPY: FILE | {"description": "uint8 rows of the model's own shape, as numpy.save writes them"},
        },
        gives={pictures.NPY: FILE | {"description": "float32 probabilities (rows, labels)"}},
        requests=_example_requests(shown),
        answers=_example_answers(shown),
    )


def _example_requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
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
