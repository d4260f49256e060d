"""What every endpoint is given, and what is written down about each request."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Scope

from app.core.manifest import Task
from app.engine.registry import Model, Registry

TRACE = "lectern.trace"
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may cost."""

    max_rows: int
    max_body_bytes: int
    max_pixels: int
    body_timeout_s: float
    request_timeout_s: float


class Stages(Protocol):
    """Where an endpoint says how long each stage of a request took, in seconds."""

    def observe(self, model: str, *, decode_s: float, queue_s: float, run_s: float, encode_s: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The serving half of the house, as an endpoint sees it."""

    registry: Registry
    limits: Limits
    stages: Stages
    pool: Executor  # for decoding what would hold up the event loop
    default: Callable[[Task], Model]


@dataclass(slots=True)
class Trace:
    """One request, for its log line and its metrics; endpoints fill in what they know."""

    request_id: str
    model: str | None = None
    rows: int | None = None
    unread: bool = False  # the answer comes before the whole body: the connection cannot be used again

    @classmethod
    def of(cls, scope: Scope) -> Trace:
        """The request's own trace; a new one where no middleware made it."""
        trace = scope.get(TRACE)
        if isinstance(trace, Trace):
            return trace
        made: Trace = cls(new_request_id())
        scope[TRACE] = made
        return made


def new_request_id() -> str:
    return secrets.token_hex(12)


def request_id_from(value: bytes | None) -> str:
    """The caller's id where it is safe to repeat in headers and logs, else a new one."""
    if value is not None:
        text = value.decode("latin-1")
        if _SANE_ID.fullmatch(text):
            return text
    return new_request_id()
