"""Pictures translated there and back, as JSON and as one picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from app.codecs.decimals import rounded
from app.codecs.images import grids
from app.engine.model import Model
from app.tasks.translate.directions import Direction
from app.web.response.images import as_base64, in_8_bits


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the graphs gave; H, W and C are those of each one's own domain.

    Attributes:
        inputs: uint8 (N, H, W, C).
        images: float32 (N, H, W, C), in [0, 1].
        returned: float32, as the inputs, in [0, 1]; None where they were not translated back.
    """

    model: Model
    direction: Direction
    inputs: NDArray[np.uint8]
    images: NDArray[np.float32]
    returned: NDArray[np.float32] | None

    @property
    def errors(self) -> list[float]:
        """Mean absolute error of each cycle; none where there was none."""
        if self.returned is None:
            return []
        differences = np.abs(self.inputs / 255 - self.returned)
        errors: list[float] = differences.reshape(len(differences), -1).mean(axis=1).tolist()
        return errors

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Of a response other than JSON: what it reports of each picture, in their order."""
        errors = self.errors
        return _listed("x-cycle-error", errors) + _listed("x-cycle-p-value", map(self.direction.cycle.p_value, errors))


def _listed(name: str, values: Iterable[float]) -> tuple[tuple[bytes, bytes], ...]:
    text = ", ".join(f"{value:.4g}" for value in values)
    return ((name.encode("ascii"), text.encode("ascii")),) if text else ()


def page(outcome: Outcome, layout: str, columns: int | None) -> NDArray[np.uint8]:
    """All pictures as one."""
    images = in_8_bits(outcome.images)
    if layout == "pairs":
        return grids.pairs(outcome.inputs, images, columns)
    if layout == "cycle":
        assert outcome.returned is not None
        images = grids.beside(outcome.inputs, images, in_8_bits(outcome.returned))
    return grids.grid(images, columns or grids.near_square(*images.shape[:3]))


def to_json(outcome: Outcome) -> bytes:
    """TranslateAnswer as bytes."""
    model, direction = outcome.model, outcome.direction
    images = as_base64(in_8_bits(outcome.images))
    cycles: list[dict[str, object] | None] = [None] * len(images)
    if outcome.returned is not None:
        returned = as_base64(in_8_bits(outcome.returned))
        cycles = [
            {
                "error": rounded([error])[0],
                "p_value": direction.cycle.p_value(error),
                "held_out_rows": len(direction.cycle.errors),
                "image": image,
            }
            for error, image in zip(outcome.errors, returned, strict=True)
        ]
    results = [{"image": image, "cycle": cycle} for image, cycle in zip(images, cycles, strict=True)]
    answer: bytes = pydantic_core.to_json(
        {
            "model": model.name,
            "version": model.version,
            "device": model.device,
            "from": direction.source.name,
            "to": direction.target.name,
            "results": results,
        }
    )
    return answer
