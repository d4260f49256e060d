"""Learning-rate schedules, as factors of the base rate."""

from __future__ import annotations

import math
from typing import Final, Literal

Schedule = Literal["linear", "cosine", "one-cycle"]
RISE: Final = 0.25  # of a one-cycle run, from a tenth of the rate up to it
START: Final = 0.1
RISING: Final = 0.1  # of any run: what a rise of so many steps takes at most


def risen(steps: int, *, position: int, progress: float) -> float:
    """The factor of a rate that rises evenly over that many steps, or over a tenth of the run if that is shorter.

    Args:
        position: steps that were taken before this one.
        progress: they as a share of the run.
    """
    return min(1.0, max((position + 1) / max(1, steps), progress / RISING))


def rate_factor(schedule: Schedule, progress: float) -> float:
    """The factor at `progress` (0 at the first step, towards 1 at the last).

    linear: 1 to 0, what suits Muon's steps of fixed length. cosine: half a wave from 1 to 0 (Loshchilov and Hutter
    2017, one period). one-cycle: up from a tenth over the first quarter, then down to 0 (Smith and Topin 2018).
    """
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if progress < RISE:
        return START + (1 - START) * progress / RISE
    return (1 - progress) / (1 - RISE)
