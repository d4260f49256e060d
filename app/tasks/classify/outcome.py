"""Probabilities as JSON and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from app.engine.model import Model
from app.web.prediction import Notes, csv_of

DEFAULT_TOP_K: Final = 5


def to_json(model: Model, probabilities: NDArray[Any], top_k: int, notes: Notes | None = None) -> bytes:
    """ClassifyAnswer as bytes, built by hand: this is every request's last step.

    Args:
        probabilities: (rows, labels), finite.
        top_k: 1 to the number of labels.
        notes: what is reported of a row beside its result, by row.
    """
    labels = model.manifest.labels
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].tolist()
    values = _rounded(probabilities)
    results = [_result(labels, best, row) for best, row in zip(order, values, strict=True)]
    for i, note in (notes or {}).items():
        results[i] |= note
    answer: bytes = pydantic_core.to_json(
        {
            "model": model.manifest.name,
            "version": model.manifest.version,
            "device": model.device,
            "results": results,
        }
    )
    return answer


def to_csv(model: Model, probabilities: NDArray[Any], notes: Notes) -> bytes:
    """The same as CSV: the most probable label of each row, and every label's probability."""
    labels = model.manifest.labels
    best = probabilities.argmax(axis=1).tolist()
    rows = ([labels[k], *row] for k, row in zip(best, _rounded(probabilities), strict=True))
    return csv_of(["label", *(f"probability of {label}" for label in labels)], rows, notes)


def _rounded(probabilities: NDArray[Any]) -> list[list[float]]:
    # Seven decimals: what float32 holds near 1. Without rounding, 0.1 would be written 0.10000000149011612.
    rounded: list[list[float]] = np.round(np.clip(probabilities.astype(np.float64), 0, 1), 7).tolist()
    return rounded


def _result(labels: Sequence[str], best: list[int], row: list[float]) -> dict[str, Any]:
    top = [{"label": labels[i], "index": i, "probability": row[i]} for i in best]
    return {**top[0], "top_k": top, "probabilities": dict(zip(labels, row, strict=True))}
