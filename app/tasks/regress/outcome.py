"""Values and their intervals, as JSON and as CSV.

The interval is conformal (Vovk et al. 2005): value +- q * scale, q from the scores of rows that the net did not learn
from, so that it holds a new row with the requested probability, whatever the net is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from app.codecs.decimals import decimals
from app.core.errors import InferenceFailed
from app.core.manifest.table import Target
from app.engine.model import Model
from app.web.prediction import Notes, csv_of

DIGITS: Final = 7  # significant ones that float32 is sure of


def bounded(
    model: Model, value: NDArray[Any], scale: NDArray[Any] | None, coverage: float | None
) -> NDArray[np.float64]:
    """Values and both ends of their intervals, (rows, 3); NaN for the ends where there are none.

    Raises:
        InferenceFailed: a scale below 0.
    """
    value = np.asarray(value, np.float64)
    reach = np.full_like(value, np.nan)
    conformal = model.manifest.conformal
    if conformal is not None and scale is not None and coverage is not None:
        if (scale < 0).any():
            raise InferenceFailed(f"model '{model.name}' gave a scale below 0")
        reach = conformal.quantile(coverage) * np.asarray(scale, np.float64)
    return np.stack([value, value - reach, value + reach], axis=1)


def to_json(model: Model, values: NDArray[np.float64], coverage: float | None, notes: Notes) -> bytes:
    """RegressAnswer as bytes; `values` as `bounded` gives them."""
    target = _target(model)
    columns = (decimals(column, DIGITS) for column in values.T)
    results: list[dict[str, Any]] = [
        {
            "value": value,
            "unit": target.unit,
            "interval": None if coverage is None else {"low": low, "high": high, "coverage": coverage},
        }
        for value, low, high in zip(*columns, strict=True)
    ]
    for i, note in notes.items():
        results[i] |= note
    answer: bytes = pydantic_core.to_json(
        {
            "model": model.manifest.name,
            "version": model.manifest.version,
            "device": model.device,
            "target": target.name,
            "results": results,
        }
    )
    return answer


def to_csv(model: Model, values: NDArray[np.float64], coverage: float | None, notes: Notes) -> bytes:
    """The same as CSV; the interval's cells are empty where there is none."""
    unit = f" [{_target(model).unit}]" if _target(model).unit else ""
    rows: Iterable[Sequence[float | str]] = zip(*(decimals(column, DIGITS) for column in values.T), strict=True)
    if coverage is None:
        rows = ((row[0], "", "") for row in rows)
    return csv_of([f"value{unit}", f"low{unit}", f"high{unit}"], rows, notes)


def _target(model: Model) -> Target:
    target = model.manifest.target
    assert target is not None  # of every model of this task
    return target
