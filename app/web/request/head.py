"""What a request's head says: how the response should be written (RFC 9110, 12.5.1), what the body is, how long the
client will wait, and who goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.core.errors import ClientError, NotAcceptable, UnsupportedMedia, invalid, shown
from app.engine.queue import FIRST, LAST, NORMAL
from app.web.request.limits import Limits
from app.web.request.media_types import ALIASES, URL_ENCODED
from app.web.request.trace import Trace

DEADLINE: Final = "X-Request-Deadline-Ms"
PRIORITY: Final = "X-Request-Priority"
# The deadline stands in the text and not among the parameters: whoever tries what a document allows would send 1 ms and
# take the 504 that answers it for a failure of the server.
DOCUMENTED: Final = (
    f"`{DEADLINE}` says for how many milliseconds the answer is of use, from the request's head on: what would come "
    "later is answered {late} and not run. The server's own limit holds in any case."
)
PARAMETER: Final[dict[str, Any]] = {
    "name": PRIORITY,
    "in": "header",
    "required": False,
    "description": "who goes first where requests wait: 1 before 2, which is normal, before 3",
    "schema": {"type": "integer", "enum": [FIRST, NORMAL, LAST]},
}
_PRIORITIES: Final = {None: NORMAL, "1": FIRST, "2": NORMAL, "3": LAST}


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


def media_type(trace: Trace, taken: Sequence[str]) -> tuple[str, str]:
    """The declared content type, lower case, bare and by its registered name, and its parameters as they came. Empty
    where none is declared.

    Raises:
        UnsupportedMedia: it is none of `taken`.
    """
    declared = trace.header(b"content-type") or ""
    kind, _, parameters = declared.partition(";")
    kind = kind.strip().lower()
    kind = ALIASES.get(kind, kind)
    if kind and kind not in taken:
        hint = f"; curl --data-binary needs -H 'Content-Type: {taken[0]}'" if kind == URL_ENCODED else ""
        raise UnsupportedMedia(
            f"content type {shown(kind)} is not taken, send one of {', '.join(taken)}{hint}",
            subject="header.content-type",
            expected=", ".join(taken),
            got=shown(kind),
        )
    return kind, parameters


def deadline_and_priority(trace: Trace, limits: Limits) -> tuple[float, int]:
    """The `time.monotonic()` after which the answer is of no use, at most the server's own limit away; the priority.

    Raises:
        Unprocessable: a header that says neither.
    """
    text = trace.header(b"x-request-deadline-ms")
    patience_s = limits.request_timeout_s
    if text is not None:
        if not text.isdecimal() or len(text) > 9:
            raise _wrong(DEADLINE, "a whole number of milliseconds", text)
        patience_s = min(patience_s, int(text) / 1e3)
    priority = trace.header(b"x-request-priority")
    if priority not in _PRIORITIES:
        raise _wrong(PRIORITY, "1 (first), 2 (normal) or 3 (last)", priority)
    return trace.started + patience_s, _PRIORITIES[priority]


def _wrong(name: str, expected: str, got: str | None) -> ClientError:
    return invalid(f"header.{name.lower()}", expected=expected, got=shown(got), where=f"header {name}", rule="expected")
