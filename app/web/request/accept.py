"""Which form of answer the client asks for (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.errors import NotAcceptable, invalid, shown


def choose(accept: str | None, offers: Sequence[str]) -> str:
    """The offer that `Accept` likes best; among equals the first. No header accepts everything.

    Raises:
        NotAcceptable: none of the offers is accepted.
    """
    if accept is None or accept in ("*/*", offers[0]) or not accept.strip():
        return offers[0]
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    best, best_q = None, 0.0
    for offer in offers:
        # The most specific range that matches decides, whatever its place in the list.
        q = max(((_specificity(kind, offer), q) for kind, q in ranges), default=(-1, 0.0))
        if q[0] >= 0 and q[1] > best_q:
            best, best_q = offer, q[1]
    if best is None:
        raise invalid(
            "header.accept",
            expected=", ".join(offers),
            got=shown(accept),
            detail=f"accept is {shown(accept)}, answers are given as {' or '.join(offers)}",
            error=NotAcceptable,
        )
    return best


def _parse(part: str) -> tuple[str, float]:
    kind, *parameters = part.split(";")
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return kind.strip().lower(), quality if quality == quality else 0.0


def _specificity(kind: str, offer: str) -> int:
    """2 for the type itself, 1 for `application/*`, 0 for `*/*`, -1 for no match."""
    if kind == offer:
        return 2
    if kind == offer.partition("/")[0] + "/*":
        return 1
    return 0 if kind == "*/*" else -1
