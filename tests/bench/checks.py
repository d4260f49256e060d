"""Whether the answers are right: one by one, and when many are in flight."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from tests.bench.processes import HOST, Running
from tests.bench.shapes import Probabilities, Request, Shape
from tests.bench.yardsticks import session

CLIENTS: Final = 16
TOGETHER: Final = 256
ATOL: Final = 1e-5


class WrongAnswer(Exception):
    """What came is not what ONNX Runtime says in this process."""


def check(server: Running, model: str, onnx: bytes, shapes: Sequence[Shape]) -> float:
    """20 requests of each shape one after the other, then 256 of all shapes from 16 clients at once.

    Returns:
        The largest difference to ONNX Runtime in this process.

    Raises:
        WrongAnswer: one differs by more than ATOL, or is no answer.
    """
    run = session(onnx)
    asked = [(shape, request) for shape in shapes for request in shape.requests(model)[:20]]
    wanted = [run(request.rows) for _, request in asked]
    alike = closest([want for (shape, _), want in zip(asked, wanted, strict=True) if shape is shapes[0]])
    if alike < 10 * ATOL:  # else an answer given to the wrong client would not be seen
        print(f"  note: two of the wanted answers of '{model}' differ by {alike:.1g} only", flush=True)
    local = threading.local()
    opened: list[http.client.HTTPConnection] = []

    def ask(i: int) -> float:
        shape, request = asked[i % len(asked)]
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
            opened.append(local.connection)
        return difference(local.connection, shape, request, wanted[i % len(asked)])

    try:
        worst = max(map(ask, range(len(asked))))
        with ThreadPoolExecutor(CLIENTS) as clients:
            # A stride that is no divisor: neighbours in time are of different shapes.
            return max(worst, *clients.map(lambda i: ask(i * 7), range(TOGETHER)))
    finally:
        for connection in opened:
            connection.close()


def difference(connection: http.client.HTTPConnection, shape: Shape, request: Request, want: Probabilities) -> float:
    connection.request("POST", request.path, request.body, dict(request.headers))
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise WrongAnswer(f"{shape.what}: status {response.status}: {body[:300]!r}")
    got = shape.read({name.lower(): value for name, value in response.getheaders()}, body)
    worst = float(np.abs(got.reshape(want.shape) - want).max())
    if not worst <= ATOL:
        raise WrongAnswer(f"{shape.what}: an answer is off ONNX Runtime's by {worst:.3g}, at most {ATOL} is right")
    return worst


def closest(answers: Sequence[Probabilities]) -> float:
    """The least difference between two of the answers."""
    flat = np.stack([answer.ravel() for answer in answers])
    apart = np.abs(flat[:, None] - flat[None]).max(axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min())
