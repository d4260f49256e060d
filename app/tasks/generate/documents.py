"""What the OpenAPI document says of POST /v1/generate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from app.engine.model import Model
from app.tasks.generate.schema import MAX_SEED, MOST_FRAMES, WAYS, GenerateRequest
from app.wire import painted
from app.wire.choice import latent_of
from app.wire.context import Context, Limits
from app.wire.documented import FILE, Documented, model_options, models_for, shown_for
from app.wire.payload import NPY

FRAMES: Final = 5
SIDE: Final = 8


def documented(context: Context, path: str) -> Documented:
    """From what is loaded."""
    limit = context.limits.max_rows
    schemas = GenerateRequest.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    return Documented(
        path=path,
        options=model_options(
            models_for(context, "generate"),
            GenerateRequest,
            n={"type": "integer", "minimum": 1, "maximum": limit},
            seed={"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            columns={"type": "integer", "minimum": 1, "maximum": limit},
        ),
        body="GenerateRequest",
        inputs={
            "latents": schemas["latents"]["anyOf"][0] | {"maxItems": limit},
            "between": schemas["between"]["anyOf"][0],
            "frames": {"type": "integer", "minimum": 2, "maximum": min(MOST_FRAMES, limit)},
            "grid": {"$ref": "#/components/schemas/Grid"},
        },
        one_of=WAYS,
        optional_body=True,
        gives={
            painted.PNG: FILE | {"description": "the picture, or a grid of several; X-Seed tells the seed"},
            NPY: FILE | {"description": "float32 pictures (rows, height, width, channels), 0 to 1"},
        },
        requests=_requests(shown_for(context, "generate"), context.limits),
    )


def _requests(models: Sequence[Model], limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        latent = latent_of(model)
        asked: dict[str, dict[str, Any]] = {"a latent to decode": {"latents": [_middle(model)]}}
        if latent.prior == "normal":
            asked["three draws from the prior"] = {"n": min(3, limits.max_rows), "seed": 7}
        asked["from one latent to another"] = {
            "between": [list(latent.low), list(latent.high)],
            "frames": min(FRAMES, limits.max_rows),
        }
        if latent.size > 1:
            asked["a plane of latents"] = {"grid": {"side": min(SIDE, math.isqrt(limits.max_rows))}}
        found |= {f"{model.name}: {what}": {**body, "model": model.name} for what, body in asked.items()}
    return found or {"draws from the prior": {"n": 1, "seed": 7}}


def _middle(model: Model) -> list[float]:
    latent = latent_of(model)
    return [round((low + high) / 2, 6) for low, high in zip(latent.low, latent.high, strict=True)]
