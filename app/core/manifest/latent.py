"""Codes in a manifest: the latent between encoder and decoder, and how unusual it is to be reconstructed badly."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.core.manifest.part import ManifestPart, brief


class Latent(ManifestPart):
    """The code between encoder and decoder: `size` numbers a row; `low` and `high` hold 98 % of the held-out rows'.

    `prior`: "normal" where the decoder was trained on a standard normal latent (a VAE), so that drawing from it makes
    new rows; None for a plain autoencoder, which promises nothing about points that no row was coded as.
    """

    size: Annotated[int, Field(ge=1, le=4096)]
    low: tuple[float, ...]
    high: tuple[float, ...]
    prior: Literal["normal"] | None = None

    @model_validator(mode="after")
    def _are_of_its_size(self) -> Self:
        if not len(self.low) == len(self.high) == self.size:
            raise ValueError(f"latent: size {self.size}, low has {len(self.low)} and high {len(self.high)}")
        return self

    def middle(self) -> list[float]:
        """An example: the middle of each number's range."""
        return [brief((low + high) / 2) for low, high in zip(self.low, self.high, strict=True)]


class Anomaly(ManifestPart):
    """Held-out rows' reconstruction errors (mean squared, pixels in [0, 1]), rising: is a new row's unusual?"""

    errors: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=20, max_length=5000)]

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(a > b for a, b in pairwise(self.errors)):
            raise ValueError("anomaly.errors: they must rise")
        return self

    def p_value(self, error: float) -> float:
        """(1 + held-out errors at least as large) / (1 + held-out errors): under 0.05 for one usual row in twenty."""
        n = len(self.errors)
        return (1 + n - bisect_left(self.errors, error)) / (1 + n)
