"""Pictures in the OpenAPI document: their schemas in JSON, and the bodies that bring them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.web.openapi.forms import files_schema, form_schema
from app.web.openapi.operation import Schema, file_schema
from app.web.request.media_types import FORM, IMAGES, NPY, PNG

# A picture in JSON is checked by the codec, which knows the model; the parser only lets it through.
PICTURE_SCHEMA: Final[Schema] = {
    "description": "An image file as base64 (a `data:` URL is taken too), or pixels 0 to 255 as nested lists: "
    "height x width, or height x width x channels.",
    "anyOf": [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {}}},
    ],
}

PNG_SCHEMA: Final[Schema] = {"contentEncoding": "base64", "contentMediaType": PNG}
IMAGE_FILES: Final = "image files"


def picture_inputs(max_rows: int) -> dict[str, Schema]:
    """Schemas of `image` and `images` in a JSON body."""
    return {
        "image": PICTURE_SCHEMA,
        "images": {"type": "array", "minItems": 1, "maxItems": max_rows, "items": PICTURE_SCHEMA},
    }


def picture_bodies(options: Mapping[str, Schema], *, max_rows: int, npy: str) -> dict[str, Schema]:
    """Schemas of the bodies other than JSON that pictures come in, by media type; `npy` describes the rows of NPY."""
    return {
        FORM: form_schema({"image": files_schema(IMAGE_FILES, max_rows)}, options),
        **{kind: file_schema(kind) for kind in IMAGES},
        NPY: file_schema(NPY, npy),
    }
