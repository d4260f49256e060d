"""The folder that the processes of one server share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.server.worker_slot import FOLDERS, NO_FILE, shared_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")


@pytest.fixture(autouse=True)
def _temporary_files_are_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return


def test_the_folder_is_open_to_this_server_alone_and_gone_at_its_end(tmp_path: Path) -> None:
    with shared_folder() as folder:
        inside = Path(f"/proc/self/fd/{folder}")
        (inside / "file").write_bytes(b"x")
        (made,) = tmp_path.iterdir()
        assert (made / "file").read_bytes() == b"x"
        assert made.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from app.server.worker_slot import shared_folder\n"
        "with shared_folder(): print('open', flush=True); sys.stdin.read()"
    )
    left = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert left.stdout is not None
    assert left.stdout.readline() == b"open\n"
    (killeds,) = tmp_path.iterdir()
    strangers = tmp_path / "lectern-notes"
    strangers.mkdir()
    with shared_folder() as first:
        assert {killeds, strangers} < set(tmp_path.iterdir())
        left.send_signal(signal.SIGKILL)
        left.communicate()
        with shared_folder():
            assert not killeds.exists()
            assert os.fstat(first).st_nlink > 0
            assert len([path for path in tmp_path.iterdir() if path.name.startswith(FOLDERS)]) == 2
    assert list(tmp_path.iterdir()) == [strangers]


def test_where_there_is_no_place_for_a_folder_workers_go_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    with shared_folder() as folder:
        assert folder == NO_FILE
    assert "workers do not share the memory of models" in caplog.text
