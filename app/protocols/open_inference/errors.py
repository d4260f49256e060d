"""Errors in the protocol's own form: `{"error": "..."}`, with Triton's statuses."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response
from fastapi.responses import JSONResponse

from app.core.errors import ClientError, LecternError, LoadRefused
from app.protocols.open_inference.documents import OipError

PREFIX: Final = "/v2"
REASONS: Final = {
    400: "Something is wrong with the request; says what, what was expected and what came.",
    401: "The API key is missing or not known.",
    403: "Switched off here; says by which setting.",
    404: "There is no such model or version; the names that exist are listed.",
    500: "The model could not be run on these rows.",
    503: "Not ready, too busy (`Retry-After` says when to come back), or too late for the timeout.",
}


def is_mine(path: str) -> bool:
    """Whether a path is answered in this protocol's form."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def refusal(error: LecternError) -> Response:
    """`{"error": ...}`: 404 for what is not there, 503 for what may succeed later, 400 for other faults of a client."""
    status = error.status
    if isinstance(error, LoadRefused) or (isinstance(error, ClientError) and status not in (401, 403, 404, 405)):
        status = 400
    elif status in (429, 504):
        status = 503
    return error_response(error.detail, status, error.headers)


def error_response(sentence: str, status: int, headers: dict[str, str] | None = None) -> Response:
    # A lone surrogate in what came from a client cannot be sent.
    text = sentence.encode("utf-8", "backslashreplace").decode("utf-8")
    return JSONResponse({"error": text}, status, headers=headers)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for its documentation."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": REASONS[status], "model": OipError} for status in statuses
    }
    return found
