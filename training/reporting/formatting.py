"""Numbers as a reader wants them: small pure functions to text."""

from __future__ import annotations

import math

from app.core.metric_names import THIN


def count(n: int) -> str:
    """9974 -> 9,974."""
    return f"{n:,}"


def plural(n: int, noun: str) -> str:
    """`1 number`, `5 numbers`."""
    return f"{count(n)} {noun}{'s' * (n != 1)}"


def percent(share: float, rows: int) -> str:
    """A share of `rows` rows in per cent, with the decimals that so many rows can tell apart."""
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:.{2 if rows >= 5000 else 1}f}{THIN}%"


def seconds(value: float) -> str:
    """75.2 -> `1 min 15 s`."""
    if value < 60:
        return f"{value:.1f}{THIN}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h {minutes}{THIN}min" if hours else f"{minutes}{THIN}min {rest}{THIN}s"


def milliseconds(value: float) -> str:
    """Three significant figures, no unit."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"
