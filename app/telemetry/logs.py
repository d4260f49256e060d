"""One line per event, as text for people or as JSON for machines; what came from a client is escaped in both.

Each line is written when it is logged, and none is kept back: a process that is killed has written all it logged.
Gathering the lines of a turn of the event loop would save about a microsecond of the ten that a request's line costs.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

FIELDS: Final = "fields"
"""Key of a record's `extra` that holds its named values."""


_plain: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch  # printable ASCII without space, quote, = and backslash
_encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


def _stamp(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class TextFormatter(logging.Formatter):
    """`2026-01-01T00:00:00.000Z INFO message key=value`; values that are not plain words are JSON texts."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        line = f"{_stamp(record.created)} {record.levelname} {_one_line(message)}"
        fields: Mapping[str, Any] = getattr(record, FIELDS, {})
        for key, value in fields.items():
            text = str(value)
            line += f" {key}={text if _plain(text) else json.dumps(text)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode(line)


def _one_line(message: str) -> str:
    return message if message.isprintable() else json.dumps(message)[1:-1]


def configure(form: Literal["text", "json"], level: str) -> None:
    """Send every logger of the process to standard error in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # What no line shows need not be collected for each, as the library's manual says under "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    if level != "debug":
        for chatty in ("uvicorn.error", "asyncio"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a broken form is reported to the client
    warnings.filterwarnings("ignore", module=r"PIL\.")  # each odd picture would write lines of its own


def settle() -> None:
    """Log lines that no disk has taken would make the interpreter's exit code 120, whatever ours is."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = None  # as where there is none: nothing is left to flush
