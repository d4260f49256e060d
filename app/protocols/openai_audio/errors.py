"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.core.errors import LecternError

PREFIX: Final = "/v1/audio"
REASONS: Final = {
    400: "Something is wrong with the request; says what, what was expected and what came.",
    401: "The API key is missing or not known.",
    404: "There is no such model; the names that exist are listed.",
    408: "The body did not arrive in time.",
    413: "More bytes or seconds than the limits.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "The server failed; its log has the reason under the request id.",
    503: "Not ready, or shutting down.",
    504: "Too late: the model did not answer in the time that the request or the server gives.",
}
_TYPES: Final = {429: "rate_limit_error", 401: "authentication_error"}


class OpenAIFault(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """What went wrong."""

    error: OpenAIFault


def is_mine(path: str) -> bool:
    """Whether a path is answered in this protocol's form."""
    return path.startswith(PREFIX + "/")


def status_of(error: LecternError) -> int:
    """400 for whatever is wrong with a request and has no status of its own there. The client tries 409 again."""
    return 400 if error.status in (403, 406, 409, 415, 422) else error.status


def fault(error: LecternError | None, status: int) -> dict[str, Any]:
    """The document of an error; of an unforeseen one only that it happened."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = "The server failed on this request; its log has the reason." if error is None else error.detail
    subject, code = (None, None) if error is None else (error.subject, error.kind)
    # A lone surrogate in what came from a client cannot be sent.
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    subject = subject and subject.encode("utf-8", "backslashreplace").decode("utf-8")
    return {"error": {"message": message, "type": kind, "param": subject, "code": code}}


def refusal(error: LecternError) -> Response:
    """The response to an error."""
    status = status_of(error)
    return JSONResponse(fault(error, status), status, headers=error.headers)


def error_response(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The response to what the framework found."""
    return JSONResponse(fault(LecternError(sentence), status), status, headers=headers)


def event(error: BaseException | None) -> dict[str, Any]:
    """An error in a stream that has started."""
    known = error if isinstance(error, LecternError) else None
    return fault(known, 500 if known is None else status_of(known))
