"""Problem details (RFC 9457), for a response of their own and for an event in one that has started."""

from __future__ import annotations

from typing import Any

from app.core.errors import LecternError, SeveralPieces


def problem_details(error: BaseException | None, request_id: str) -> dict[str, Any]:
    """A problem's members. Of an unforeseen error, which is any other, only that it happened; the log has the rest."""
    if not isinstance(error, LecternError):
        return {
            "type": "about:blank",
            "title": "Internal error",
            "status": 500,
            "detail": "The server failed on this request; its log has the reason under the request id.",
            "request_id": request_id,
        }
    body: dict[str, Any] = {
        "type": f"/errors/{error.kind}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    for name in ("subject", "expected", "got"):
        value = getattr(error, name)
        if value is not None:
            body[name] = value
    if isinstance(error, SeveralPieces):
        body["boxes"] = error.boxes
    return body
