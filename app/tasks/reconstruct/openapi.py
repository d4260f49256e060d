"""POST /v1/reconstruct in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.reconstruct.schema import Perturb, ReconstructRequest
from app.web.openapi.golden import as_base64, example_pictures, stroke
from app.web.openapi.operation import Operation, file_schema, fitting, model_options, models_for, shown_for
from app.web.openapi.pictures import picture_bodies, picture_inputs
from app.web.openapi.schemas import LAYOUTS
from app.web.request.limits import Limits
from app.web.request.media_types import NPY, PNG

STEPS: Final = (-2.0, 0.0, 2.0)


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    limit = limits.max_rows
    options = model_options(
        models_for(registry, "reconstruct"),
        ReconstructRequest,
        layout={"type": "string", "enum": list(LAYOUTS)},
        columns={"type": "integer", "minimum": 1, "maximum": limit},
    )
    return Operation(
        about="Each picture is coded as a few numbers and decoded from them: what is lost, how unusual that is, and "
        "with `perturb` what the numbers mean.",
        options=options,
        body="ReconstructRequest",
        inputs={
            **picture_inputs(limit),
            "perturb": Perturb.model_json_schema(),
        },
        one_of=("image", "images"),
        takes=picture_bodies(
            fitting(options, registry, "reconstruct", ("image",)),
            max_rows=limit,
            npy="uint8 rows of the model's own shape, as numpy.save writes them",
        ),
        gives={
            PNG: file_schema(PNG, "the reconstruction, or a grid of several"),
            NPY: file_schema(NPY, "float32 reconstructions (rows, height, width, channels), 0 to 1"),
        },
        requests=_requests(shown_for(registry, "reconstruct"), limit),
    )


def _requests(models: Sequence[Model], limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        texts = [as_base64(pixels) for pixels in example_pictures(model)]
        if not texts:
            continue
        found[f"{model.name}: a picture as base64"] = {"image": texts[0], "model": model.name}
        if len(texts) <= limit:
            found[f"{model.name}: several pictures"] = {"images": texts, "model": model.name}
        if 1 + len(STEPS) <= limit:
            found[f"{model.name}: move one number of the code"] = {
                "image": texts[0],
                "model": model.name,
                "perturb": {"dimension": 0, "by": list(STEPS)},
            }
    return found or {"a picture as base64": {"image": as_base64(stroke(28, 28))}}
