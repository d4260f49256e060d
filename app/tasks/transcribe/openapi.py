"""POST /v1/transcribe in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.transcribe.schema import MOST_ALTERNATIVES, PartialTranscript, TranscribeAnswer, TranscribeRequest
from app.web.openapi.operation import (
    PROBLEM,
    Operation,
    Schema,
    events_schema,
    fitting,
    model_options,
    models_for,
    shown_for,
)
from app.web.openapi.sounds import example_sounds, sound_bodies, sound_inputs, tone
from app.web.request.limits import Limits
from app.web.request.media_types import EVENT_STREAM, SRT, TEXT, VTT


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    models, limit = models_for(registry, "transcribe"), limits.max_rows
    number: Schema = {"type": "integer", "minimum": 0, "maximum": MOST_ALTERNATIVES}
    options = model_options(models, TranscribeRequest, alternatives=number)
    return Operation(
        about="The words of each recording, when they were said, and how sure the model is of them; as JSON, text or "
        "subtitles.",
        options=options,
        body="TranscribeRequest",
        inputs=sound_inputs(limit),
        one_of=("sound", "sounds"),
        takes=sound_bodies(fitting(options, registry, "transcribe", ("audio",)), max_rows=limit),
        gives={
            TEXT: {"type": "string", "description": "a line for each recording"},
            SRT: {"type": "string", "description": "subtitles of one recording, as SubRip"},
            VTT: {"type": "string", "description": "subtitles of one recording, as WebVTT"},
            EVENT_STREAM: events_schema(
                "of one recording, by a model that streams: an event `partial` whenever its words change; in the end "
                "`final`, the answer as JSON, or `error`, a problem",
                {"partial": PartialTranscript, "final": TranscribeAnswer, "error": PROBLEM},
            ),
        },
        schemas=(PartialTranscript,),
        errors=(409,),
        requests=_example_requests(shown_for(registry, "transcribe")),
    )


def _example_requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        sounds = example_sounds(model)
        found[f"{model.name}: a recording as base64"] = {"sound": sounds[0], "model": model.name}
        found[f"{model.name}: several recordings, the best reading alone"] = {
            "sounds": sounds,
            "model": model.name,
            "alternatives": 0,
        }
    return found or {"a recording as base64": {"sound": tone()}}
