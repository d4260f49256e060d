"""What every part of a manifest is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class ManifestPart(BaseModel):
    """Frozen, strict, closed: a value of another type or a field of another name is an error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def brief(value: float) -> float:
    """Three significant figures, as an integer where they are whole: for examples."""
    value = float(f"{value:.3g}")
    return int(value) if value.is_integer() else value
