"""From a request's body to a model's rows; on the event loop where that is quick, else in a thread."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from numpy.typing import NDArray
from pydantic import BaseModel

from app.core.errors import TooLarge
from app.core.manifest import Manifest, Picture
from app.engine.model import Model
from app.web.context import Context
from app.web.request import images as pictures
from app.web.request import json_size
from app.web.request.model_choice import MADE_PIXELS
from app.web.request.options import Known, Option
from app.web.request.payload import FORM, JSON, SMALL_BYTES, Payload
from app.web.request.payload import parse as take_apart

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


async def parse(
    kind: str,
    parameters: str,
    body: bytes,
    *,
    query: dict[str, Option],
    known: Known,
    schema: type[BaseModel],
    context: Context,
) -> Payload:
    """The body taken apart: `app.wire.payload.parse`, whose errors it raises."""
    values, fields = most_in_json(context) if kind == JSON and len(body) > json_size.SMALL_BYTES else (0, 0)

    def work() -> Payload:
        return take_apart(
            kind,
            parameters,
            body,
            query=query,
            known=known,
            schema=schema,
            max_rows=context.limits.max_rows,
            max_values=values,
            max_fields=fields,
        )

    if len(body) <= SMALL_BYTES or kind not in (JSON, FORM):
        return work()
    return await asyncio.get_running_loop().run_in_executor(context.pool, work)


async def decode(
    payload: Payload, model: Model, graph: str, context: Context, picture: Picture | None = None
) -> NDArray[Any]:
    """The rows of one graph of the model: `pictures.decode`, whose errors it raises.

    Args:
        picture: how a picture becomes a row of that graph; the model's own where none is given.
    """
    limits = context.limits

    def work(max_pixels: int) -> NDArray[Any]:
        return pictures.decode(
            payload,
            picture or model.manifest.picture,
            model.manifest.graphs[graph].inputs[0],
            max_rows=limits.max_rows,
            max_pixels=max_pixels,
        )

    if payload.small:
        try:
            return work(min(pictures.SMALL_PIXELS, limits.max_pixels))
        except TooLarge:  # few bytes, many pixels
            pass
    return await asyncio.get_running_loop().run_in_executor(context.pool, work, limits.max_pixels)


def most_in_json(context: Context) -> tuple[int, int]:
    """What a JSON body needs for as many rows as are taken, of the largest model: values of nested pictures or of rows
    of a table, and fields of the latter, of which each may be an object of two."""
    manifests = [model.manifest for model in context.registry.catalog.models]
    pixels = max((_pixels(m) for m in manifests), default=0)
    columns = max((len(m.table.columns) for m in manifests if m.table), default=0)
    return context.limits.max_rows * max(pixels, 2 * columns) + 1000, context.limits.max_rows * 3 * columns


def _pixels(manifest: Manifest) -> int:
    """Values of one of its pictures at most; a plane is of any size, of three colours."""
    pictures = [manifest.picture, *(domain.picture for domain in manifest.domains)]
    sizes = [math.prod(picture.shape) for picture in pictures if picture is not None]
    return max([*sizes, 3 * MADE_PIXELS if manifest.plane is not None else 0])


def most_pixels(context: Context) -> int:
    """Of a picture of the largest model, each of its colours counted."""
    manifests = (model.manifest for model in context.registry.catalog.models)
    return max((math.prod(m.picture.shape) for m in manifests if m.picture), default=0)
