"""The option `alternatives`: how many readings of a recording are listed."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.errors import invalid
from app.tasks.transcribe.schema import DEFAULT_ALTERNATIVES, MOST_ALTERNATIVES
from app.web.request.media_types import EVENT_STREAM, JSON
from app.web.request.model_choice import check_within
from app.web.request.options import Option


def readings(options: Mapping[str, Option], form: str = JSON) -> int:
    """How many.

    Args:
        form: of the answer.

    Raises:
        Unprocessable: too many, or in a form that has no room for them.
    """
    n = options.get("alternatives")
    if n is None:
        return DEFAULT_ALTERNATIVES
    check_within("alternatives", int(n), 0, MOST_ALTERNATIVES)
    if form not in (JSON, EVENT_STREAM):
        raise invalid(
            "alternatives",
            expected=f"no alternatives, or accept: {JSON}",
            got=f"alternatives {n} with accept: {form}",
            detail=f"alternatives are listed in {JSON}; {form} has the best reading alone",
        )
    return int(n)
