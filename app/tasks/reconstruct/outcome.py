"""Pictures coded and decoded, as JSON, as rows, as one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from app.codecs.decimals import decimals, rounded
from app.codecs.images import grids
from app.core.manifest import Tensors
from app.core.sampling.latents import Latents
from app.engine.model import Model
from app.tasks.reconstruct.schema import Perturb
from app.web.response.images import as_base64, in_8_bits


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the graphs gave.

    Attributes:
        inputs: uint8 (N, H, W, C).
        images: float32 (N or N + N * K, H, W, C), in [0, 1]; after the reconstructions those of moved codes.
        coded: the encoder's outputs.
        latents: what was decoded, (len(images), Z).
    """

    model: Model
    inputs: NDArray[np.uint8]
    images: NDArray[np.float32]
    coded: Tensors
    latents: Latents
    perturb: Perturb | None

    @property
    def rows(self) -> NDArray[np.float32]:
        """As rows: the reconstructions (N, H, W, C), or of moved codes (N, K, H, W, C)."""
        n = len(self.inputs)
        if self.perturb is None:
            return self.images
        return self.images[n:].reshape(n, len(self.perturb.by), *self.images.shape[1:])


def page(outcome: Outcome, layout: str, columns: int | None) -> NDArray[np.uint8]:
    """All pictures as one."""
    n, height, width, _ = outcome.inputs.shape
    if outcome.perturb is not None:
        return grids.grid(in_8_bits(outcome.images[n:]), len(outcome.perturb.by))
    if layout == "pairs":
        return grids.pairs(outcome.inputs, in_8_bits(outcome.images), columns)
    return grids.grid(in_8_bits(outcome.images), columns or grids.near_square(n, height, width))


def to_json(outcome: Outcome) -> bytes:
    """ReconstructAnswer as bytes."""
    model, n = outcome.model, len(outcome.inputs)
    squares = np.square(outcome.inputs / 255 - outcome.images[:n])
    errors = squares.reshape(n, -1).mean(axis=1).tolist()
    images = as_base64(in_8_bits(outcome.images))
    results: list[dict[str, Any]] = [
        {
            "image": images[i],
            **{name: decimals(values[i]) for name, values in outcome.coded.items()},
            "error": {"mse": rounded([errors[i]])[0], "psnr_db": psnr_db(errors[i])},
            "anomaly": _unusual(model, errors[i]),
        }
        for i in range(n)
    ]
    if outcome.perturb is not None:
        steps = len(outcome.perturb.by)
        values = outcome.latents[n:, outcome.perturb.dimension]
        for i, result in enumerate(results):
            part = slice(i * steps, (i + 1) * steps)
            result["perturbed"] = {"values": decimals(values[part]), "images": images[n:][part]}
    answer: bytes = pydantic_core.to_json(
        {"model": model.name, "version": model.version, "device": model.device, "results": results}
    )
    return answer


def psnr_db(mse: float) -> float | None:
    """Peak signal-to-noise ratio of pixels from 0 to 1, in decibels; None for a perfect copy, whose is infinite."""
    return round(-10 * math.log10(mse), 4) if mse > 0 else None


def _unusual(model: Model, error: float) -> dict[str, float] | None:
    anomaly = model.manifest.anomaly
    return None if anomaly is None else {"p_value": anomaly.p_value(error), "held_out_rows": len(anomaly.errors)}
