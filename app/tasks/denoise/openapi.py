"""POST /v1/denoise in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.denoise.noise_level import span_of
from app.tasks.denoise.runs import DENOISER
from app.tasks.denoise.schema import MAX_SAMPLES, MAX_SEED, SIGMA_SCHEMA, DenoiseAnswer, DenoiseRequest
from app.web.openapi.golden import as_base64, golden_rows, stroke
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
from app.web.openapi.schemas import LAYOUTS, SamplingStep
from app.web.request.limits import Limits
from app.web.request.media_types import EVENT_STREAM, NPY, PNG
from app.web.response.images import in_8_bits

SIDE = 32  # of the photo in the examples
SIGMA_255 = 25
SHOWN = 2


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    limit = limits.max_rows
    steps = [
        sampler.max_steps
        for model in models_for(registry, "denoise")
        if model.manifest.sampling is not None
        for sampler in model.manifest.sampling.samplers
    ]
    options = model_options(
        models_for(registry, "denoise"),
        DenoiseRequest,
        sigma_255=SIGMA_SCHEMA,
        samples={"type": "integer", "minimum": 1, "maximum": min(MAX_SAMPLES, limit)},
        steps={"type": "integer", "minimum": 1, "maximum": max(steps, default=1)},
        seed={"type": "integer", "minimum": 0, "maximum": MAX_SEED},
        layout={"type": "string", "enum": list(LAYOUTS)},
        columns={"type": "integer", "minimum": 1, "maximum": limit},
    )
    return Operation(
        about="Each picture without its noise, whose strength is estimated where it is not given; with `samples` "
        "several restorations, and how far they differ.",
        options=options,
        body="DenoiseRequest",
        inputs=picture_inputs(limit),
        one_of=("image", "images"),
        takes=picture_bodies(
            fitting(options, registry, "denoise", ("image",)),
            max_rows=limit,
            npy="rows (rows, height, width[, channels]), as numpy.save writes them: uint8, or floats "
            "from 0 to 1 with noise that may lie beyond",
        ),
        gives={
            PNG: file_schema(
                PNG,
                "the picture without noise, or a grid of several; of samples a row for each picture: the noisy one, "
                "the posterior mean, the samples, their spread",
            ),
            NPY: file_schema(
                NPY,
                "float32 pictures (rows, height, width, channels), 0 to 1; samples (rows, samples, height, width, "
                "channels)",
            ),
            EVENT_STREAM: events_schema(
                "of samples: each step with a preview, then the JSON answer, or `error`, a problem",
                {"step": SamplingStep, "result": DenoiseAnswer, "error": PROBLEM},
            ),
        },
        schemas=(SamplingStep,),
        headers={
            "X-Sigma-255": "standard deviation of each picture's noise in grey levels, given or estimated",
            "X-Seed": "of samples: the same again gives the same",
        },
        requests=_requests(shown_for(registry, "denoise"), limit),
    )


def _requests(models: Sequence[Model], limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        sigma, noisy = _noisy(model)
        texts = [as_base64(pixels) for pixels in noisy]
        found[f"{model.name}: a picture, its noise estimated"] = {"image": texts[0], "model": model.name}
        found[f"{model.name}: the noise is known"] = {"image": texts[0], "model": model.name, "sigma_255": sigma}
        if 1 < len(texts) <= limit:
            each = [sigma] * len(texts)
            found[f"{model.name}: several pictures"] = {"images": texts, "model": model.name, "sigma_255": each}
        declared = model.manifest.sampling
        if declared is not None and declared.sampler("ancestral") is not None:
            body = {"image": texts[0], "model": model.name, "samples": min(4, limit), "steps": 1, "seed": 7}
            found[f"{model.name}: what may be under the noise"] = body
    return found or {"a picture as base64": {"image": as_base64(stroke(SIDE, SIDE)), "sigma_255": SIGMA_255}}


def _noisy(model: Model) -> tuple[float, list[NDArray[np.uint8]]]:
    """Noise in grey levels that the model takes, and pictures: the first golden rows, or a stroke."""
    manifest = model.manifest
    picture = manifest.picture
    least, most = (255 * sigma for sigma in span_of(manifest))
    rows = golden_rows(model, DENOISER)
    if "x" in rows:
        x, levels = rows["x"], 255 * rows["sigma"]
        if picture is not None and picture.layout == "chw":
            x = x.transpose(0, 2, 3, 1)
        pixels = in_8_bits(np.clip(x[:SHOWN], 0, 1))
        return round(float(np.clip(levels[0], least, most)), 3), list(pixels)
    height, width, channels = (SIDE, SIDE, 1) if picture is None else (picture.height, picture.width, picture.channels)
    return min(max(SIGMA_255, round(least, 3)), round(most, 3)), [stroke(height, width, channels)]
