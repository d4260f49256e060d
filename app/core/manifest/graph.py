"""The graphs of a manifest: their files, their tensors, and the golden rows that prove them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from app.core.manifest.part import Identifier, ManifestPart

ROWS: Final = "rows"
Tensors = Mapping[str, NDArray[Any]]
"""Named arrays; axis 0 is rows, everywhere."""

DType = Literal[
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"
]
# One file directly inside the folder: no separators, no dot first, so that no path can leave it.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Spec = tuple[str, str, tuple[str | int, ...]]  # a tensor's name, type and shape, as a manifest must have it


class TensorSpec(ManifestPart):
    """One input or output of a graph. Axis 0 is `"rows"`; any other axis is a size, or a name where it varies."""

    name: Identifier
    dtype: DType
    shape: Annotated[tuple[Annotated[int, Field(ge=1)] | Identifier, ...], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _axis_0_is_rows(self) -> Self:
        if self.shape[0] != ROWS:
            raise ValueError(f"tensor '{self.name}': axis 0 is {self.shape[0]!r}, it must be '{ROWS}'")
        if ROWS in self.shape[1:]:
            raise ValueError(f"tensor '{self.name}': only axis 0 may be '{ROWS}', the shape is {self.shape}")
        return self


class Graph(ManifestPart):
    """One ONNX file: weights inside it, inputs and outputs exactly as listed, in order."""

    file: FileName
    sha256: Sha256
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    precision: Literal["fp32", "tf32"] = "fp32"  # of products on a GPU; tf32 keeps ten bits of mantissa


class Golden(ManifestPart):
    """Rows and their answers (`.npz`: one array per input, one per output): checked at every load, shown in /docs."""

    file: FileName
    sha256: Sha256
    graph: Identifier
    rows: Annotated[int, Field(ge=1, le=64)]
    atol: Annotated[float, Field(gt=0)]


def check_specs(where: str, specs: tuple[TensorSpec, ...], want: Sequence[Spec]) -> None:
    """Raises ValueError where the tensors of a graph are not the wanted ones, in their order."""
    got = [(spec.name, spec.dtype, spec.shape) for spec in specs]
    if got != list(want):
        raise ValueError(f"graphs.{where}: expected {want}, got {got}")


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy type of a manifest's type name, little-endian as ONNX Runtime wants it."""
    return np.dtype(dtype)
