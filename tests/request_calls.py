"""How many functions of `app` one request calls, in how many files: `python tests/request_calls.py` in a checkout.

Serves that checkout's models in this process, as `python -m app` does, and asks over HTTP from a second thread, on one
connection that is kept alive, with `sys.setprofile` and `threading.setprofile` on. Prints JSON. `tests.structure` runs
it with another checkout as its folder, so it relies on no name inside `app` but the entry point and the connection's
`data_received`.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import queue
import re
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

PICTURE_MODEL: Final = "cnn-mnist"  # runs for longer than the event loop may be held up: in its worker's thread
RAW_MODEL: Final = "perceptron-mnist"  # so fast that its run stays on the event loop, however busy the machine is
REPEATS: Final = 51  # of each request: timers call functions too, so the most frequent count is the request's
TIMEOUT_S: Final = 120.0


@dataclass(frozen=True)
class CallCount:
    """What one request called.

    Attributes:
        calls: functions whose code lies in `app`, in all threads. A coroutine or generator that resumes counts again.
        files: in which these functions lie.
        moves: how often a call is to another file than the call before it.
    """

    calls: int
    files: int
    moves: int

    def __str__(self) -> str:
        return f"{self.calls} / {self.files} / {self.moves}"


def count(files: Sequence[str]) -> CallCount:
    """From the file of each call, in the order of the calls."""
    return CallCount(len(files), len(set(files)), sum(a != b for a, b in itertools.pairwise(files)))


class Recorder:
    """A profile function that keeps (file, function) of each call of a function below a folder."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[tuple[str, str]] = []
        self._prefix = f"{folder}{os.sep}"

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (name := frame.f_code.co_filename).startswith(self._prefix):
            self.calls.append((name, frame.f_code.co_name))

    def counts(self) -> list[CallCount]:
        """One for each request, from the arrival of its bytes to that of the next one's; the last has no end.

        What `app` does once an answer is written (it counts and logs) thus belongs to the request.
        """
        starts = [i for i, (_, function) in enumerate(self.calls) if function == "data_received"]
        return [count([file for file, _ in self.calls[a:b]]) for a, b in itertools.pairwise(starts)]


class Announcement(io.StringIO):
    """Standard output of a server that says on which port it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.port: queue.SimpleQueue[int] = queue.SimpleQueue()

    def write(self, text: str) -> int:
        if found := re.search(r"http://[^/\s]+:(\d+)", text):
            self.port.put(int(found[1]))
        return super().write(text)


def requests() -> dict[str, bytes]:
    """The two requests: a digit as a PNG file, and as the bytes of one row."""
    from PIL import Image

    picture = bytearray(28 * 28)  # black; a white nought in the middle, as MNIST's digits lie
    for y, x in itertools.product(range(6, 22), repeat=2):
        picture[28 * y + x] = 0 if 9 <= x < 19 and 9 <= y < 19 else 255
    file = io.BytesIO()
    Image.frombytes("L", (28, 28), bytes(picture)).save(file, "PNG")
    raw = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    return {
        "picture": request(f"/v1/classify?model={PICTURE_MODEL}", {"Content-Type": "image/png"}, file.getvalue()),
        "raw": request(f"/v2/models/{RAW_MODEL}/infer", raw, bytes(picture)),
    }


def request(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """With the headers of a Python client, and sent in one piece: a second packet would be a second call."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Accept: */*", "Accept-Encoding: gzip, deflate"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def read_answer(connection: socket.socket) -> None:
    """Read one whole answer.

    Raises:
        SystemExit: it is not 200, or not whole.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536) or stop("the server closed the connection")
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if not head.startswith(b"HTTP/1.1 200 ") or not length:
        stop(f"expected 200 with its length, got {received.decode(errors='replace')}")
    while len(body) < int(length[1]):
        body += connection.recv(65536) or stop("the server closed the connection")


def stop(why: str) -> NoReturn:
    raise SystemExit(why)


def measure(checkout: Path) -> dict[str, CallCount]:
    """The most frequent count of each of `requests()`."""
    recorder = Recorder(checkout / "app")
    announcement = Announcement()
    found: dict[str, CallCount] = {}
    failed: list[BaseException] = []

    def client() -> None:
        try:
            port = announcement.port.get(timeout=TIMEOUT_S)
            for name, asked in requests().items():
                with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
                    recorder.calls.clear()
                    for _ in range(REPEATS):
                        connection.sendall(asked)
                        read_answer(connection)
                    found[name] = Counter(recorder.counts()).most_common(1)[0][0]
        except BaseException as error:  # raised again below
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # the server ends as it does for its operator

    threading.setprofile(recorder)  # before `app` makes a thread
    sys.setprofile(recorder)
    from app.__main__ import main

    threading.Thread(target=client, daemon=True).start()
    flags = ["--models=models", f"--only={PICTURE_MODEL},{RAW_MODEL}", "--device=cpu", "--threads=1", "--port=0"]
    with redirect_stdout(announcement):
        code = main(["serve", *flags, "--log-level=warning"])  # no line on standard error for each request
    sys.setprofile(None)
    threading.setprofile(None)
    if failed or code:
        raise failed[0] if failed else SystemExit(code)
    return found


if __name__ == "__main__":
    print(json.dumps({name: asdict(counted) for name, counted in measure(Path.cwd()).items()}))
