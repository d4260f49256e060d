"""POST /v1/translate in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.translate.directions import directions_of
from app.tasks.translate.schema import LAYOUTS, TranslateAnswer, TranslateRequest
from app.web.openapi.golden import as_base64, example_pictures, stroke
from app.web.openapi.operation import (
    PROBLEM,
    Operation,
    Schema,
    csv_schema,
    events_schema,
    file_schema,
    fitting,
    in_order,
    model_options,
    models_for,
    named,
    shown_for,
)
from app.web.openapi.pictures import picture_bodies, picture_inputs
from app.web.openapi.schemas import WrittenToken
from app.web.openapi.texts import example_text, text_bodies, text_inputs
from app.web.request.limits import Limits
from app.web.request.media_types import CSV, EVENT_STREAM, FORM, NPY, PNG, TEXT
from app.web.writing import MOST_BEAM

EVENTS: Final = (
    "of one text, greedy: an event `token` as each is written, then `final`, the answer as JSON, or `error`, a problem"
)


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    limit = limits.max_rows
    models = models_for(registry, "translate")
    codes = [model.manifest.languages for model in models if model.manifest.languages is not None]
    domains = {domain.name for model in models for domain in model.manifest.domains}
    sources, targets = (domains | {getattr(code, end) for code in codes} for end in ("source", "target"))
    # What no loaded model reads is not promised; without a model the forms of both are shown.
    of_pictures = not models or any(model.manifest.text is None for model in models)
    of_texts = not models or any(model.manifest.text is not None for model in models)
    own: dict[str, Schema] = {"from": named(sorted(sources)), "to": named(sorted(targets))}
    pictures_alone: dict[str, Schema] = {"from": named(sorted(domains)), "to": named(sorted(domains))}
    inputs, takes, gives = dict[str, Schema](), dict[str, Schema](), dict[str, Schema]()
    if of_texts:
        most = {"type": "integer", "minimum": 1, "maximum": MOST_BEAM}
        own |= {"beam": most, "n_best": most}
        gives |= {
            TEXT: {"type": "string", "description": "the translated texts, a line each"},
            CSV: csv_schema(
                "text, translation, log_probability, unknown; a line per text",
                {"^(text|translation|unknown)$": "string", "^log_probability$": "number"},
            ),
            EVENT_STREAM: events_schema(EVENTS, {"token": WrittenToken, "final": TranslateAnswer, "error": PROBLEM}),
        }
    if of_pictures:
        pictures_alone |= {
            "cycle": {"type": "boolean"},
            "layout": {"type": "string", "enum": list(LAYOUTS)},
            "columns": {"type": "integer", "minimum": 1, "maximum": limit},
        }
        own = pictures_alone | own
        gives |= {
            PNG: file_schema(PNG, "the translation, or a grid of several"),
            NPY: file_schema(NPY, "float32 translations (rows, height, width, channels), 0 to 1"),
        }
    options = model_options(models, TranslateRequest, **own)
    if of_pictures:
        bodies = picture_bodies(
            fitting(model_options(models, TranslateRequest, **pictures_alone), registry, "translate", ("image",)),
            max_rows=limit,
            npy="uint8 rows of the shape of the domain's pictures, as numpy.save writes them",
        )
        inputs |= picture_inputs(limit)
        takes |= bodies | {FORM: _with_target(bodies[FORM], in_order(registry, "translate", ("image",)), models)}
    if of_texts:
        inputs |= text_inputs(limit)
        takes |= text_bodies()
    return Operation(
        about="Texts in another language, with where the model looked for each token; or pictures as those of another "
        "domain, with how much of each is lost on the way.",
        options=options,
        body="TranslateRequest",
        inputs=inputs,
        one_of=tuple(inputs),
        takes=takes,
        gives=gives,
        schemas=(WrittenToken,) if of_texts else (),
        headers={
            "X-Cycle-Error": "of answers other than JSON: each picture's `cycle.error`",
            "X-Cycle-P-Value": "of answers other than JSON: each picture's `cycle.p_value`",
        }
        if of_pictures
        else {},
        requests=_requests(shown_for(registry, "translate"), limit),
    )


def _with_target(form: Schema, names: Sequence[str], models: Sequence[Model]) -> Schema:
    """The form with a target that fits its default model: a model has two, and none is its default."""
    ordered = sorted((model for model in models if model.name in names), key=lambda model: names.index(model.name))
    targets = list(dict.fromkeys(way.target.name for model in ordered for way in directions_of(model)))
    to = {"description": form["properties"]["to"]["description"], **named(targets)}
    return {**form, "required": ["image", "to"], "properties": {**form["properties"], "to": to}}


def _requests(models: Sequence[Model], limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        if text := example_text(model):
            found[f"{model.name}: a text"] = {"text": text, "model": model.name}
            found[f"{model.name}: two texts"] = {"text": [text, text], "model": model.name}
        several: dict[str, Any] = {}
        for direction in directions_of(model):
            texts = [as_base64(pixels) for pixels in example_pictures(model, direction.there, direction.source.picture)]
            if not texts:
                continue
            options = {"model": model.name, "to": direction.target.name}
            found[f"{model.name}: {direction}"] = {"image": texts[0], **options}
            if len(texts) <= limit:
                several[f"{model.name}: several, {direction}, without the way back"] = {
                    "images": texts,
                    **options,
                    "cycle": False,
                }
        found |= several
    return found or {"a picture as base64": {"image": as_base64(stroke(28, 28)), "to": "another_domain"}}
