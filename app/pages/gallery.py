"""Golden rows as pictures: what a model was given and what it answered, for the landing page."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.files import encode_png
from app.engine.model import Model
from app.web.openapi.golden import golden_pictures, golden_rows
from app.web.response.images import in_8_bits

__all__ = ["Example", "gallery"]

MOST: Final = 10
"""Golden rows of one model; a page has those of many."""
_PREPARED: Final = "pages.gallery"


@dataclass(frozen=True, slots=True)
class Example:
    """One golden row. Pictures are `data:` addresses; None where the model takes or gives no picture.

    Attributes:
        label: what a classifier calls it, else nothing.
        width: of its pictures, pixels.
    """

    given: str | None
    answered: str | None
    label: str
    width: int


def gallery(model: Model) -> tuple[Example, ...]:
    """A few golden rows with the model's answers to them, the strongest noise first; none where no picture is in them.
    Encoded once per model."""
    found = model.prepared.get(_PREPARED)
    if found is None:
        found = model.prepared[_PREPARED] = tuple(_examples(model))
    assert isinstance(found, tuple)
    return found


def _examples(model: Model) -> Iterator[Example]:
    golden = model.manifest.golden
    if golden is None:
        return
    rows = golden_rows(model)
    outputs = {spec.name for spec in model.manifest.graphs[golden.graph].outputs}
    given = golden_pictures(model) or _pictures(rows, rows.keys() - outputs)
    answered = _pictures(rows, outputs)
    best = rows["probabilities"].argmax(axis=1) if model.manifest.task == "classify" and rows else ()
    rows_shown = range(min(MOST, max(len(given), len(answered))))
    for i in sorted(rows_shown, key=lambda i: -rows["sigma"][i]) if "sigma" in rows else rows_shown:
        yield Example(
            given=_address(given[i]) if given else None,
            answered=_address(answered[i]) if answered else None,
            label=model.manifest.labels[best[i]] if len(best) else "",
            width=(given or answered)[i].shape[1],
        )


def _pictures(rows: dict[str, NDArray[Any]], names: set[str]) -> list[NDArray[np.uint8]]:
    """The rows of the first of these tensors that is pictures, (B, H, W, 1 or 3); as (H, W) or (H, W, 3) each."""
    stack = next((rows[n] for n in rows if n in names and rows[n].ndim == 4 and rows[n].shape[-1] in (1, 3)), ())
    pictures = (one if one.dtype == np.uint8 else in_8_bits(np.clip(one, 0, 1)) for one in stack)
    return [one[..., 0] if one.shape[-1] == 1 else one for one in pictures]


def _address(pixels: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"
