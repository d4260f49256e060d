"""Lines of the log: one per event, of one form, whatever is in it."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.logs import FIELDS, JsonFormatter, TextFormatter

VALUES = st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.tuples(st.integers(), st.text()))


def record(fields: dict[str, object], created: float = 0.0) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "a.b", "msg": "what", "levelname": "INFO", FIELDS: fields})
    made.created = created
    return made


@given(VALUES)
def test_a_value_in_a_text_line_is_one_word_or_a_json_text(value: object) -> None:
    line = TextFormatter().format(record({"key": value, "next": 1}))
    assert len(line.splitlines()) == 1
    assert line.isascii()
    head, _, told = line.partition(" key=")
    assert head == "1970-01-01T00:00:00.000Z INFO what"
    told, _, last = told.rpartition(" next=")
    assert last == "1"
    assert (json.loads(told) if told.startswith('"') else told) == str(value)
    assert told.startswith('"') or "'" in told or shlex.split(told) == [told]


@given(VALUES.filter(lambda value: value == value))
def test_a_value_in_a_json_line_comes_back(value: object) -> None:
    line = JsonFormatter().format(record({"key": value}))
    assert len(line.splitlines()) == 1
    expected = list(value) if isinstance(value, tuple) else value
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000Z", "level": "info", "logger": "a.b", "message": "what", "key": expected,
    }  # fmt: skip


def test_the_time_is_that_of_the_record_whatever_line_came_before() -> None:
    for seconds in (0.0, 1.9996, 1e9 + 0.125, 1.7e9, 1.7e9 + 1, 1.7e9 + 0.5, 1.7e9):  # a clock may go back
        stamp = TextFormatter().format(record({}, seconds)).split()[0]
        assert stamp == datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_process_that_is_killed_has_written_all_its_lines_in_their_order() -> None:
    program = (
        "import logging, os, signal; from app.telemetry import logs\n"
        "logs.configure('text', 'info'); log = logging.getLogger('a')\n"
        "for i in range(1000): log.info('line', extra={logs.FIELDS: {'i': i}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert [line.split("i=")[1] for line in done.stderr.splitlines()] == [str(i) for i in range(1000)]
