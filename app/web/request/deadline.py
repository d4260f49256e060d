"""How long a client will wait, and who goes first: `X-Request-Deadline-Ms` and `X-Request-Priority`."""

from __future__ import annotations

from typing import Any, Final

from app.core.errors import ClientError, invalid, shown
from app.engine.queue import FIRST, LAST, NORMAL
from app.web.request.limits import Limits
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
