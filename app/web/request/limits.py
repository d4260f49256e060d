"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Set by the operator; checked before anything is decoded."""

    max_rows: int
    max_body_bytes: int
    max_pixels: int
    max_seconds: float = 600.0
    body_timeout_s: float
    request_timeout_s: float
