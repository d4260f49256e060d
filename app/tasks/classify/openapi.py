"""POST /v1/classify in the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.core.manifest import Modality
from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.classify.outcome import DEFAULT_TOP_K, to_json
from app.tasks.classify.schema import ClassifyRequest
from app.web.openapi.forms import files_schema, form_schema
from app.web.openapi.golden import as_base64, example_pictures, golden_rows, stroke
from app.web.openapi.operation import (
    Operation,
    Schema,
    csv_schema,
    file_schema,
    fitting,
    model_options,
    models_for,
    shown_for,
)
from app.web.openapi.pictures import IMAGE_FILES
from app.web.openapi.sounds import SOUND_FILES, example_sounds, sound_bodies, sound_inputs
from app.web.openapi.tables import example_records, row_bodies, row_inputs
from app.web.openapi.texts import CSV_TEXTS, example_text, text_bodies, text_inputs
from app.web.request.limits import Limits
from app.web.request.media_types import CSV, FORM, NPY

SMALL_PIXELS: Final = 28 * 28
"""Pictures up to this size are also shown as nested pixels: more would be a wall of digits."""


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    models = models_for(registry, "classify")
    most = max((len(m.manifest.labels) for m in models), default=0)
    options = model_options(
        models,
        ClassifyRequest,
        top_k={"type": "integer", "minimum": 1} | ({"maximum": most} if most else {}),
        explain={"type": "boolean"},
    )
    limit = limits.max_rows
    shown = shown_for(registry, "classify")
    return Operation(
        about="Each picture, recording, row of a table or text gets a label, and every label's calibrated probability. "
        "What is sent chooses the default model.",
        options=options,
        body="ClassifyRequest",
        inputs={**row_inputs(models, limit), **sound_inputs(limit), **text_inputs(limit)},
        one_of=("image", "images", "instances", "sound", "sounds", "text"),
        takes=_bodies(options, limit, _form(registry, options, limit)),
        gives={
            NPY: file_schema(NPY, "float32 probabilities (rows, labels)"),
            CSV: csv_schema(
                "label, each label's probability, outside, imputed (of texts: unknown, truncated); a line per row",
                {
                    "^label$": "string",
                    "^probability of .*": "number",
                    "^(outside|imputed|ignored|unknown)$": "string",
                    "^truncated$": "boolean",
                },
            ),
        },
        requests=_example_requests(shown),
        answers=_example_answers(shown),
    )


def _form(registry: Registry, options: Mapping[str, Schema], limit: int) -> dict[str, Schema]:
    """Pictures or sound, where a loaded model takes them; without a model both are shown."""
    models = models_for(registry, "classify")
    fields: dict[Modality, Schema] = {
        "image": {"image": files_schema(IMAGE_FILES, limit)},
        "audio": {"sound": files_schema(SOUND_FILES, limit)},
    }
    there = [one for one in fields if not models or any(model.manifest.modality == one for model in models)]
    files = {name: schema for one in there for name, schema in fields[one].items()}
    return {FORM: form_schema(files, fitting(options, registry, "classify", there))} if files else {}


def _bodies(options: Mapping[str, Schema], limit: int, form: Mapping[str, Schema]) -> dict[str, Schema]:
    """Pictures, rows, sound and texts."""
    rows, sounds, texts = row_bodies(options, limit), sound_bodies(options, max_rows=limit), text_bodies()
    npy = file_schema(NPY, f"{rows[NPY]['description']}; of sound {sounds[NPY]['description']}")
    columns = file_schema(CSV, f"{rows[CSV]['description']}; or {CSV_TEXTS}")
    bodies = {**rows, **sounds, **texts, CSV: columns, NPY: npy}
    del bodies[FORM]
    return {**form, **bodies}


def _example_requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        if records := example_records(model):
            found[f"{model.name}: a row of a table"] = {"instances": records[:1], "model": model.name}
            found[f"{model.name}: several rows, the best label"] = {
                "instances": records,
                "model": model.name,
                "top_k": 1,
            }
        if sounds := example_sounds(model):
            found[f"{model.name}: a recording as base64"] = {"sound": sounds[0], "model": model.name}
        if text := example_text(model):
            found[f"{model.name}: a text"] = {"text": text, "model": model.name}
            found[f"{model.name}: two texts, word by word"] = {
                "text": [text, text],
                "model": model.name,
                "explain": True,
            }
        pictures = example_pictures(model)
        if not pictures:
            continue
        texts = [as_base64(pixels) for pixels in pictures]
        found[f"{model.name}: a picture as base64"] = {"image": texts[0], "model": model.name}
        found[f"{model.name}: several pictures, the two best labels"] = {
            "images": texts,
            "model": model.name,
            "top_k": 2,
        }
        if pictures[0].size <= SMALL_PIXELS:
            found[f"{model.name}: nested pixels"] = {"image": pictures[0].tolist(), "model": model.name}
    # Without one, the page would make up a body with both `image` and `images`, which is refused.
    return found or {"a picture as base64": {"image": as_base64(stroke(28, 28))}}


def _example_answers(models: Sequence[Model]) -> dict[str, Any]:
    found = {}
    for model in models:
        probabilities = golden_rows(model).get("probabilities")
        if probabilities is not None:
            text = to_json(model, probabilities[:1], min(DEFAULT_TOP_K, len(model.manifest.labels)))
            found[model.name] = json.loads(text)
    return found
