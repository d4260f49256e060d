"""Errors as `application/problem+json` (RFC 9457), made in one place.

Every error of the house names its subject, what was expected there and what came instead. What the framework
raises (no such page, no such method) takes the same form. What nobody foresaw is logged with its trace under the
request id, and the client is told that id and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.core.errors import ClientError, LecternError, LoadRefused, NotFound, Unprocessable, shown
from app.wire.context import Trace
from app.wire.options import described, in_words

MEDIA_TYPE: Final = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, for people (`title`, `detail`) and for programs (`type`, `subject`)."""

    type: str = Field(description="what kind of error this is; stable", examples=["/errors/unsupported-media"])
    title: str = Field(description="the kind in words", examples=["Unsupported media type"])
    status: int = Field(description="the HTTP status", examples=[415])
    detail: str = Field(description="what happened, in a sentence")
    request_id: str = Field(description="this request, as in X-Request-Id and in the server's log")
    subject: str | None = Field(None, description="the header, parameter, field or file at fault")
    expected: str | None = Field(None, description="what is taken there")
    got: str | None = Field(None, description="what came")


class MethodNotAllowed(ClientError):
    """The page exists, the method does not."""

    status = 405
    title = "No such method here"


def kinds() -> dict[str, type[LecternError]]:
    """Every error that a client can meet, by its kind, in the order of their statuses."""
    todo: list[type[LecternError]] = [*LecternError.__subclasses__()]
    found: list[type[LecternError]] = []
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls is not ClientError and not issubclass(cls, LoadRefused):
            found.append(cls)
    # Not called: some are made with more than a sentence, and a kind is its class's name.
    named = {cls.__new__(cls).kind: cls for cls in found}
    return dict(sorted(named.items(), key=lambda item: (item[1].status, item[0])))


def problem(error: LecternError, request_id: str) -> Response:
    """The response that tells of an error."""
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
    return json_problem(body, error.headers)


def json_problem(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    # ASCII only: what came from a client (lone surrogates among it) can always be encoded.
    content = json.dumps(body, separators=(",", ":")).encode("ascii")
    return Response(content, status_code=body["status"], media_type=MEDIA_TYPE, headers=dict(headers or {}))


def internal_error(request_id: str) -> Response:
    """The answer to what nobody foresaw."""
    return json_problem(
        {
            "type": "about:blank",
            "title": "Internal error",
            "status": 500,
            "detail": "The server failed on this request; its log has the reason under the request id.",
            "request_id": request_id,
        }
    )


def install(app: FastAPI) -> None:
    """Give the app its handlers."""
    app.add_exception_handler(LecternError, _house)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _validation)

    @app.get("/errors/{kind}", include_in_schema=False)
    async def explain(kind: str) -> dict[str, Any]:
        """What the `type` of a problem points to."""
        known = kinds()
        if kind not in known:
            there_are = ", ".join(known)
            raise NotFound(f"no error is called {shown(kind)}, there are: {there_are}", subject="path", got=shown(kind))
        return {"type": f"/errors/{kind}", "status": known[kind].status, "title": known[kind].title}


async def _house(request: Request, error: Exception) -> Response:
    assert isinstance(error, LecternError)
    return problem(error, Trace.of(request.scope).request_id)


async def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    request_id = Trace.of(request.scope).request_id
    path = request.scope["path"][:200]
    if error.status_code == 404:
        return problem(NotFound(f"there is no page {path!r}", subject="path", got=repr(path)), request_id)
    if error.status_code == 405:
        allowed = {m.strip() for m in (error.headers or {}).get("Allow", "").split(",") if m.strip()}
        allow = ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))
        method = request.scope["method"][:20]
        answer = problem(
            MethodNotAllowed(
                f"{path!r} takes {allow}, not {method}", subject="method", expected=allow, got=repr(method)
            ),
            request_id,
        )
        answer.headers["Allow"] = allow
        return answer
    return json_problem(
        {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": str(error.detail),
            "request_id": request_id,
        },
        error.headers,
    )


async def _validation(request: Request, error: Exception) -> Response:
    """What FastAPI's own checks of parameters refused."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part)[:100] for part in first["loc"])
    expected = in_words(str(first["msg"]))
    got = described(first.get("input"))
    return problem(
        Unprocessable(f"{place} is {got}, it must be {expected}", subject=place, expected=expected, got=got),
        Trace.of(request.scope).request_id,
    )
