"""What every endpoint is given, and what is written down about each request."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from starlette.types import Scope

from app.core.manifest import Modality, Task
from app.engine.model import Model
from app.engine.registry import Registry

TRACE = "lectern.trace"
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_PROCESS = secrets.token_hex(6)
_COUNT = itertools.count(1)


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

    def observe(
        self, trace: Trace, model: Model, graph: str, *, decode_s: float, queue_s: float, run_s: float, encode_s: float
    ) -> None: ...


class Default(Protocol):
    """Chooses the model of a request that names none, by task and by what the request has brought.

    Raises:
        NotFound: there is none.
    """

    def __call__(self, task: Task, modality: Modality | None = None) -> Model: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The serving half of the house, as an endpoint sees it."""

    registry: Registry
    limits: Limits
    stages: Stages
    pool: Executor  # for decoding what would hold up the event loop
    default: Default


@dataclass(slots=True)
class Trace:
    """One request, for its log line and its metrics; endpoints fill in what they know.

    Attributes:
        heads: the request's headers, the last of each name; `repeated` where a name stands there twice.
        began: `time.monotonic()` when its head had come.
        route: the pattern of the path, for answers given before routing.
        status: of an answer that was given to the connection past everybody; else 0.
        unread: the answer comes before the whole body: the connection cannot be used again.
        stages: (name, seconds) in their order, of a request that was answered by a model.
    """

    request_id: str
    heads: Mapping[bytes, bytes] = field(default_factory=dict)
    repeated: bool = False
    began: float = field(default_factory=monotonic)
    route: str | None = None
    status: int = 0
    model: str | None = None
    rows: int | None = None
    unread: bool = False
    stages: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, scope: Scope) -> Trace:
        """The request's own trace; a new one where no middleware made it."""
        trace = scope.get(TRACE)
        if isinstance(trace, Trace):
            return trace
        made: Trace = begin(scope)
        return made


def begin(scope: Scope) -> Trace:
    """The trace of a request whose head has come."""
    headers = scope["headers"]
    heads = dict(headers)
    trace = scope[TRACE] = Trace(request_id_from(heads.get(b"x-request-id")), heads, len(heads) != len(headers))
    return trace


def new_request_id() -> str:
    """Unique to this request: the process's random part, and a count."""
    return f"{_PROCESS}{next(_COUNT):012x}"


def request_id_from(value: bytes | None) -> str:
    """The caller's id where it is safe to repeat in headers and logs, else a new one."""
    if value is not None:
        text = value.decode("latin-1")
        if _SANE_ID.fullmatch(text):
            return text
    return new_request_id()
