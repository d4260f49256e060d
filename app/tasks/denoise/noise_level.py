"""How much noise there is: what a request says of it, within what a model was trained for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.errors import invalid
from app.core.manifest import Manifest
from app.core.text import described
from app.tasks.denoise.schema import AUTO

Sigmas = NDArray[np.float32]
"""(N,), standard deviations of pixels from 0 to 1."""

_NUMBERS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,18})?( ?, ?[0-9]{1,9}(\.[0-9]{0,18})?)*")
_LONGEST: Final = 1 << 16  # characters of them all
_EXPECTED: Final = f"'{AUTO}', a number, or a number for each picture"


def span_of(manifest: Manifest) -> tuple[float, float]:
    """Least and greatest standard deviation that the model takes, pixels from 0 to 1."""
    if manifest.sampling is None:
        return 0.0, 1.0
    return manifest.sampling.sigma_min, manifest.sampling.sigma_max


def given_sigmas(value: object, n: int, manifest: Manifest) -> Sigmas | None:
    """The noise that the option `sigma_255` gives of n pictures; None where it is to be estimated.

    Raises:
        Unprocessable: neither `auto` nor numbers; another number of them; beyond the model's.
    """
    if value in (None, AUTO):
        return None
    values = _numbers(value)
    if len(values) not in (1, n):
        raise invalid(
            "sigma_255",
            expected=f"one number, or {n}",
            got=f"{len(values)} numbers",
            detail=f"sigma_255 has {len(values)} numbers, the request has {n} pictures",
        )
    least, most = (255 * sigma for sigma in span_of(manifest))
    for i, value in enumerate(values):
        number = _checked(value)
        # Not as exact as the manifest says it: 255 times a level is rounded, here and by whoever reads it.
        if not least * (1 - 1e-5) <= number <= most * (1 + 1e-5):
            subject, got = f"sigma_255[{i}]" if len(values) > 1 else "sigma_255", _short(number)
            raise invalid(
                subject,
                expected=f"{least:g} to {most:g}",
                got=got,
                detail=f"{subject} is {got}, for model '{manifest.name}' it must be {least:g} to {most:g}",
            )
    return np.resize(np.array(values, np.float32) / 255, n)


def _numbers(value: object) -> Sequence[object]:
    """What there is to check; of a text numbers."""
    if isinstance(value, str) and len(value) <= _LONGEST and _NUMBERS.fullmatch(value):
        return [float(number) for number in value.split(",")]
    return value if isinstance(value, list) and value else [value]


def _checked(number: object) -> int | float:
    if isinstance(number, int | float) and not isinstance(number, bool):
        return number
    got = described(number)
    raise invalid("sigma_255", expected=_EXPECTED, got=got)


def _short(number: float) -> str:
    return described(number) if isinstance(number, int) else f"{number:g}"  # an int may be too large for a float
