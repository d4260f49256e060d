"""POST /v1/caption in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.caption.schema import CaptionAnswer, CaptionRequest
from app.web.openapi.golden import as_base64, example_pictures, stroke
from app.web.openapi.operation import (
    PROBLEM,
    Operation,
    events_schema,
    file_schema,
    fitting,
    model_options,
    models_for,
    shown_for,
)
from app.web.openapi.pictures import picture_bodies, picture_inputs
from app.web.openapi.schemas import WrittenToken
from app.web.request.limits import Limits
from app.web.request.media_types import EVENT_STREAM, PNG, TEXT
from app.web.writing import ENCODER, MOST_BEAM

EVENTS: Final = (
    "of one picture, greedy: an event `token` as each is written, then `final`, the JSON, or `error`, a problem"
)


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    models, limit = models_for(registry, "caption"), limits.max_rows
    count = {"type": "integer", "minimum": 1}
    longest = max((m.manifest.writing.max_tokens for m in models if m.manifest.writing is not None), default=0)
    options = model_options(
        models,
        CaptionRequest,
        beam=count | {"maximum": MOST_BEAM},
        n_best=count | {"maximum": MOST_BEAM},
        max_words=count | ({"maximum": longest} if longest else {}),
    )
    return Operation(
        about="A sentence for each picture, with where the model looked for each word, and how much of it the picture "
        "says and not the habit of the language.",
        options=options,
        body="CaptionRequest",
        inputs=picture_inputs(limit),
        one_of=("image", "images"),
        takes=picture_bodies(
            fitting(options, registry, "caption", ("image",)),
            max_rows=limit,
            npy="uint8 rows of the model's pictures, as numpy.save writes them",
        ),
        gives={
            TEXT: {"type": "string", "description": "the captions, a line each"},
            PNG: file_schema(PNG, "each picture once for each word, light where the model looked"),
            EVENT_STREAM: events_schema(EVENTS, {"token": WrittenToken, "final": CaptionAnswer, "error": PROBLEM}),
        },
        schemas=(WrittenToken,),
        requests=_requests(shown_for(registry, "caption")),
    )


def _requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        texts = [as_base64(pixels) for pixels in example_pictures(model, ENCODER)]
        if texts:
            found[f"{model.name}: a picture"] = {"image": texts[0], "model": model.name}
            found[f"{model.name}: the two likeliest captions"] = {"image": texts[0], "model": model.name, "n_best": 2}
    return found or {"a picture as base64": {"image": as_base64(stroke(28, 28))}}
