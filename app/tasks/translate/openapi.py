"""What the OpenAPI document says of POST /v1/translate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.engine.model import Model
from app.tasks.translate.directions import ways_of
from app.tasks.translate.schema import LAYOUTS, TranslateRequest
from app.web.context import Context
from app.web.openapi.golden import as_base64, drawn, example_pictures
from app.web.openapi.operation import FILE, Documented, form_schema, model_options, models_for, named, shown_for
from app.web.request import rows
from app.web.request.payload import FORM, IMAGES, NPY
from app.web.response import images as painted


def documented(context: Context, path: str) -> Documented:
    """From what is loaded."""
    limit = context.limits.max_rows
    models = models_for(context, "translate")
    domains = named(sorted({domain.name for model in models for domain in model.manifest.domains}))
    options = model_options(
        models,
        TranslateRequest,
        **{"from": domains, "to": domains},
        cycle={"type": "boolean", "default": True},
        layout={"type": "string", "enum": list(LAYOUTS)},
        columns={"type": "integer", "minimum": 1, "maximum": limit},
    )
    return Documented(
        path=path,
        options=options,
        body="TranslateRequest",
        inputs={
            "image": rows.PICTURE_SCHEMA,
            "images": {"type": "array", "minItems": 1, "maxItems": limit, "items": rows.PICTURE_SCHEMA},
        },
        one_of=("image", "images"),
        takes={
            FORM: form_schema(options, max_files=limit),
            **dict.fromkeys(IMAGES, FILE),
            NPY: FILE | {"description": "uint8 rows of the shape of the domain's pictures, as numpy.save writes them"},
        },
        gives={
            painted.PNG: FILE | {"description": "the translation, or a grid of several"},
            NPY: FILE | {"description": "float32 translations (rows, height, width, channels), 0 to 1"},
        },
        headers={
            "X-Cycle-Error": "of answers other than JSON: each picture's `cycle.error`",
            "X-Cycle-P-Value": "of answers other than JSON: each picture's `cycle.p_value`",
        },
        requests=_requests(shown_for(context, "translate"), limit),
    )


def _requests(models: Sequence[Model], limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        several: dict[str, Any] = {}
        for way in ways_of(model):
            texts = [as_base64(pixels) for pixels in example_pictures(model, way.there, way.source.picture)]
            if not texts:
                continue
            options = {"model": model.name, "to": way.target.name}
            found[f"{model.name}: {way}"] = {"image": texts[0], **options}
            if len(texts) <= limit:
                several[f"{model.name}: several, {way}, without the way back"] = {
                    "images": texts,
                    **options,
                    "cycle": False,
                }
        found |= several
    return found or {"a picture as base64": {"image": as_base64(drawn(28, 28)), "to": "another_domain"}}
