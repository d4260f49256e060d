"""The ceiling of HTTP in Python: uvicorn around the least that an ASGI server can do, and no model behind it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tests.bench.processes import HOST, Running, running

ROW: Final = [7.7e-09, 2.3e-10, 1.1e-06, 0.99999, 3.2e-11, 1.4e-08, 5.5e-12, 2.2e-07, 9.1e-09, 4.4e-08]
REPLIES: Final = {rows: json.dumps({"probabilities": [ROW] * rows}).encode() for rows in (1, 64)}
LARGE_BYTES: Final = 32 << 10  # a body of 64 rows; one row, as JSON, has 3 KB


def start(body: bytes) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


STARTS: Final = {rows: start(body) for rows, body in REPLIES.items()}


async def app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Read the body, give a fixed reply."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    rows = 64 if size > LARGE_BYTES else 1
    await send(STARTS[rows])
    await send({"type": "http.response.body", "body": REPLIES[rows]})


def bare_uvicorn(log: Path) -> AbstractContextManager[Running]:
    """One process of it, until the block ends."""
    command = [sys.executable, "-m", "uvicorn", "tests.bench.bare:app", "--host", HOST, "--port", "{port}"]
    command += ["--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log"]
    return running([*command, "--log-level", "warning"], ready="/", log=log, ends=(-signal.SIGTERM,))
