"""POST /v1/generate in the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from app.core.sampling.latents import sample_prior
from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.generate import plans
from app.tasks.generate.schema import (
    IMPLY_N,
    MAX_SEED,
    MODES,
    MOST_FRAMES,
    MOST_LEVELS,
    MOST_VISITS,
    GenerateAnswer,
    GenerateRequest,
    Grid,
)
from app.web.openapi.golden import as_base64, stroke
from app.web.openapi.operation import (
    PROBLEM,
    Operation,
    Schema,
    events_schema,
    file_schema,
    model_options,
    models_for,
    shown_for,
)
from app.web.openapi.pictures import PICTURE_SCHEMA
from app.web.openapi.schemas import SamplingStep
from app.web.request.limits import Limits
from app.web.request.media_types import EVENT_STREAM, NPY, PNG
from app.web.request.model_choice import latent_of, most_pictures

FRAMES: Final = 5
SIDE: Final = 8
SEED: Final = 7
DECIMALS: Final = 2  # of latents that are shown
LEVELS: Final = 8
RULE: Final = (
    f"The query or the body has one of {', '.join(f'`{name}`' for name in MODES)}, and options; "
    f"{' or '.join(f'`{name}`' for name in IMPLY_N)} alone asks for `n` as well."
)


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    models = models_for(registry, "generate")
    # Of the model that makes most: what it answers, the document may not forbid.
    most = max((most_pictures(model, limits) for model in models), default=limits.max_rows)
    schemas = GenerateRequest.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    label, sampling = _label(models), _sampling(models)
    return Operation(
        about="New pictures of the kind that the model was trained on: by chance, by label, from codes, between two, "
        "or from a picture that is sent.",
        options=model_options(
            models,
            GenerateRequest,
            n={"type": "integer", "minimum": 1, "maximum": most},
            seed={"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            columns={"type": "integer", "minimum": 1, "maximum": limits.max_rows},
            label=label,
            **sampling,
            strength={"type": "number", "minimum": 0, "maximum": 1},
            visits={"type": "integer", "minimum": 1, "maximum": MOST_VISITS},
            forward={"type": "integer", "minimum": 1, "maximum": min(MOST_LEVELS, most - 1)},
        ),
        body="GenerateRequest",
        inputs={
            "latents": schemas["latents"]["anyOf"][0] | {"maxItems": most},
            "between": schemas["between"]["anyOf"][0],
            "frames": {"type": "integer", "minimum": 2, "maximum": min(MOST_FRAMES, most)},
            "grid": _grid(most),
            "labels": {"type": "array", "minItems": 1, "maxItems": most, "items": label}
            | {"description": schemas["labels"]["description"]},
            **{name: PICTURE_SCHEMA | {"description": schemas[name]["description"]} for name in ("init_image", "mask")},
        },
        rule=RULE,
        optional_body=True,
        gives={
            PNG: file_schema(PNG, "the picture, or a grid of several; X-Seed is the seed"),
            NPY: file_schema(NPY, "float32 pictures (rows, height, width, channels), 0 to 1"),
            EVENT_STREAM: events_schema(
                "of models that generate in steps an event `step` for each of them; in the end `result`, the answer as "
                "JSON, or `error`, a problem",
                {"step": SamplingStep, "result": GenerateAnswer, "error": PROBLEM},
            ),
        },
        schemas=(SamplingStep,),
        headers={"X-Seed": "of samples: the same again gives the same pictures"},
        requests=_requests(shown_for(registry, "generate"), limits),
    )


def _grid(most: int) -> Schema:
    schema = Grid.model_json_schema()
    side = schema["properties"]["side"]
    side["maximum"] = min(side["maximum"], math.isqrt(most))
    return schema


def _label(models: Sequence[Model]) -> Schema:
    names = list(dict.fromkeys(label for model in models for label in model.manifest.drawn_labels))
    most = max((len(model.manifest.drawn_labels) for model in models), default=0)
    if not names:
        return {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}
    return {"anyOf": [{"type": "string", "enum": names}, {"type": "integer", "minimum": 0, "maximum": most - 1}]}


def _sampling(models: Sequence[Model]) -> dict[str, Schema]:
    """What the models allow together; each has its own limits within these."""
    found = [model.manifest.sampling for model in models if model.manifest.sampling is not None]
    names = list(dict.fromkeys(spec.name for sampling in found for spec in sampling.samplers))
    steps = max((spec.max_steps for sampling in found for spec in sampling.samplers), default=1)
    weight = max((sampling.guidance.max_weight for sampling in found if sampling.guidance), default=1.0)
    return {
        "sampler": {"type": "string"} | ({"enum": names} if names else {}),
        "steps": {"type": "integer", "minimum": 1, "maximum": steps},
        "guidance": {"type": "number", "minimum": 0, "maximum": weight},
    }


def _requests(models: Sequence[Model], limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        make = _of_codes if model.manifest.sampling is None else _of_steps
        bodies = make(model, most_pictures(model, limits))
        found |= {f"{model.name}: {what}": {**body, "model": model.name} for what, body in bodies.items()}
    return found or {"draws from the prior": {"n": 1, "seed": SEED}}


def _of_codes(model: Model, most: int) -> dict[str, dict[str, Any]]:
    there = plans.fields(model)
    label = {"label": model.manifest.drawn_labels[0]} if model.manifest.drawn_labels else {}
    first, second = _ends(model)
    bodies: dict[str, dict[str, Any]] = {}
    if "n" in there:
        bodies["three draws from the prior"] = {"n": min(3, most), "seed": SEED}
    bodies["a latent to decode"] = {"latents": [_middle(model)], **label}
    if label:
        bodies["one of each label"] = {"labels": list(model.manifest.drawn_labels[:most]), "seed": SEED}
    if most >= 2:
        bodies["from one latent to another"] = {"between": [first, second], "frames": min(FRAMES, most), **label}
    if "grid" in there and most >= 4:
        bodies["a plane of latents"] = {"grid": {"side": min(SIDE, math.isqrt(most))}, **label}
    return bodies


def _of_steps(model: Model, most: int) -> dict[str, dict[str, Any]]:
    manifest = model.manifest
    picture, sampling = manifest.picture, manifest.sampling
    assert picture is not None
    assert sampling is not None
    label = {"label": manifest.drawn_labels[0]} if manifest.drawn_labels else {}
    pixels = stroke(picture.height, picture.width, picture.channels)
    below = np.zeros((picture.height, picture.width), np.uint8)
    below[picture.height // 2 :] = 255
    make_sampler = {"init_image": as_base64(pixels), "seed": SEED}
    bodies: dict[str, dict[str, Any]] = {"three draws": {"n": min(3, most), "seed": SEED}}
    if label:
        bodies["one of each label"] = {"labels": list(manifest.drawn_labels[:most]), "seed": SEED}
    last = sampling.samplers[-1]
    guided = {"guidance": sampling.guidance.weight} if sampling.guidance else {}
    chosen = {"sampler": last.name, "steps": last.steps, **label, **guided}
    bodies["sampler, steps and label chosen"] = {"n": 1, "seed": SEED, **chosen}
    bodies["another picture like this one"] = {**make_sampler, "strength": 0.5, **label}
    bodies["the lower half drawn anew"] = {**make_sampler, "mask": as_base64(below), **label}
    if most >= 2:
        bodies["the picture under more and more noise"] = {**make_sampler, "forward": min(LEVELS, most - 1)}
    return bodies


def _middle(model: Model) -> list[float]:
    """The latent of the example: of a generator a sample, because the middle is unlike any."""
    latent = latent_of(model)
    if "encoder" not in model.manifest.graphs:
        return _ends(model)[0]
    return [round((low + high) / 2, 6) for low, high in zip(latent.low, latent.high, strict=True)]


def _ends(model: Model) -> tuple[list[float], list[float]]:
    """Two latents: of a generator two samples, else the bounds of what held-out rows have."""
    latent = latent_of(model)
    if "encoder" in model.manifest.graphs:
        return list(latent.low), list(latent.high)
    first, second = sample_prior(2, latent.size, SEED).round(DECIMALS).astype(float).round(DECIMALS).tolist()
    return first, second
