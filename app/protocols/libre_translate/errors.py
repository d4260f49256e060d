"""Errors in LibreTranslate's form: `{"error": "..."}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.core.errors import LecternError

PATHS: Final = ("/translate", "/languages")
REASONS: Final = {
    400: "Something is wrong with the request; says what, what was expected and what came.",
    401: "The API key is missing or not known.",
    408: "The body did not arrive in time.",
    413: "More bytes, texts or words than the limits.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "The server failed; its log has the reason under the request id.",
    503: "Not ready, or shutting down.",
    504: "Too late: the model did not answer in the time that the request or the server gives.",
}


class LibreError(BaseModel):
    """What went wrong."""

    error: str


def is_mine(path: str) -> bool:
    """Whether a path is answered in this protocol's form."""
    return path in PATHS


def refusal(error: LecternError) -> Response:
    """The response to an error: 400 for whatever is wrong with a request and has no status of its own there."""
    status = 400 if error.status in (403, 404, 406, 409, 415, 422) else error.status
    # A lone surrogate in what came from a client cannot be sent.
    return error_response(error.detail.encode("utf-8", "backslashreplace").decode(), status, error.headers)


def error_response(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The response to what the framework found."""
    return JSONResponse({"error": sentence}, status, headers=headers)
