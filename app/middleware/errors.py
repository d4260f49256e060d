"""Errors as `application/problem+json` (RFC 9457), built in one place; under the paths of a protocol in its own form.

Every error of the app names its subject, what was expected there and what came instead. What the framework raises (no
such page, no such method) takes the same form. Unforeseen exceptions are logged with their trace under the request id,
and the client gets that id and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.core.errors import ClientError, LecternError, LoadRefused, NotFound, invalid, shown
from app.core.text import described
from app.protocols import libre_translate, open_inference, openai_audio
from app.web.request.options import in_words
from app.web.request.trace import Trace
from app.web.response.problem import problem_details

MEDIA_TYPE: Final = "application/problem+json"
PROTOCOLS: Final[
    Sequence[tuple[Callable[[str], bool], Callable[[LecternError], Response], Callable[..., Response]]]
] = (
    (open_inference.is_mine, open_inference.refusal, open_inference.error_response),
    (openai_audio.is_mine, openai_audio.refusal, openai_audio.error_response),
    (libre_translate.is_mine, libre_translate.refusal, libre_translate.error_response),
)
"""Those whose errors have a form of their own: which paths are theirs, an error of ours, what the framework found."""


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
    boxes: list[Annotated[list[int], Field(min_length=4, max_length=4)]] | None = Field(
        None,
        description="of several pieces of writing: left, top, right, bottom of each, in pixels of the upright picture",
    )


class MethodNotAllowed(ClientError):
    """The page exists, the method does not."""

    status = 405
    title = "No such method here"


def kinds() -> dict[str, type[LecternError]]:
    """Every error that a client can meet, by its kind, in the order of their statuses, general ones before special."""
    todo: list[type[LecternError]] = [*LecternError.__subclasses__()]
    found: list[type[LecternError]] = []
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls is not ClientError and not issubclass(cls, LoadRefused):
            found.append(cls)
    # Not called: some take more than a sentence, and a kind is its class's name.
    named = {cls.__new__(cls).kind: cls for cls in found}
    return dict(sorted(named.items(), key=lambda item: (item[1].status, len(item[1].__mro__), item[0])))


def refused(error: LecternError, scope: Scope) -> Response:
    """The response for an error, in the form that belongs to the path."""
    for is_mine, refusal, _ in PROTOCOLS:
        if is_mine(scope["path"]):
            return refusal(error)
    return problem(error, Trace.of(scope).request_id)


def problem(error: LecternError, request_id: str) -> Response:
    """The problem response for an error."""
    return json_problem(problem_details(error, request_id), error.headers)


def json_problem(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    # ASCII only: what came from a client (lone surrogates among it) can always be encoded.
    content = json.dumps(body, separators=(",", ":")).encode("ascii")
    return Response(content, status_code=body["status"], media_type=MEDIA_TYPE, headers=dict(headers or {}))


def internal_error(request_id: str, path: str = "") -> Response:
    """The answer to what nobody foresaw, in the form that belongs to the path."""
    body = problem_details(None, request_id)
    return _of_protocol(path, body["detail"], 500) or json_problem(body)


def install(app: FastAPI) -> None:
    """Give the app its handlers."""
    app.add_exception_handler(LecternError, _lectern_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid_parameter)

    @app.get("/errors/{kind}", include_in_schema=False)
    async def explain(kind: str) -> dict[str, Any]:
        """What the `type` of a problem points to."""
        known = kinds()
        if kind not in known:
            there_are = ", ".join(known)
            raise invalid(
                "path",
                got=shown(kind),
                detail=f"no error is called {shown(kind)}, there are: {there_are}",
                error=NotFound,
            )
        return {"type": f"/errors/{kind}", "status": known[kind].status, "title": known[kind].title}


async def _lectern_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LecternError)
    return refused(error, request.scope)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    if error.status_code == 404:
        return refused(
            invalid("path", got=repr(path), detail=f"there is no page {path!r}", error=NotFound), request.scope
        )
    if error.status_code == 405:
        allow = ", ".join(allowed_methods(request))
        method = request.scope["method"][:20]
        answer = refused(
            invalid(
                "method",
                expected=allow,
                got=repr(method),
                detail=f"{path!r} takes {allow}, not {method}",
                error=MethodNotAllowed,
            ),
            request.scope,
        )
        answer.headers["Allow"] = allow
        return answer
    headers = dict(error.headers or {})
    return _of_protocol(path, str(error.detail), error.status_code, headers) or json_problem(
        {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": str(error.detail),
            "request_id": Trace.of(request.scope).request_id,
        },
        headers,
    )


def _of_protocol(path: str, sentence: str, status: int, headers: dict[str, str] | None = None) -> Response | None:
    """The response in the form of the protocol that the path belongs to; None where it belongs to none."""
    for is_mine, _, error_response in PROTOCOLS:
        if is_mine(path):
            return error_response(sentence, status, headers)
    return None


def allowed_methods(request: Request) -> list[str]:
    """The methods that a path takes. The router names those of the first route that fits, and there may be several."""
    routes: list[BaseRoute] = request.app.routes
    found = {
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


async def _invalid_parameter(request: Request, error: Exception) -> Response:
    """What FastAPI's own checks of parameters refused."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    subject = ".".join(str(part)[:100] for part in first["loc"])
    expected = in_words(str(first["msg"]))
    got = described(first.get("input"))
    return refused(
        invalid(subject, expected=expected, got=got),
        request.scope,
    )
