"""Downloads from file: URLs; a port that nobody listens on stands for a home that cannot be reached."""

import hashlib
import os
import socket

import pytest

from training.data import fetch
from training.data.base import DataError

CONTENT = b"a data set" * 10_000


def check(data):
    fetch.check_md5(data, want=hashlib.md5(CONTENT).hexdigest(), where="set.gz")


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "set.gz").write_bytes(CONTENT)
    return (tmp_path / "home").as_uri() + "/"


@pytest.fixture
def roots(tmp_path, monkeypatch):
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_missing_file_is_fetched_once_and_then_found(roots, home):
    path = fetch.find_or_fetch("set", "set.gz", url=home + "set.gz", check=check)
    assert path == roots / "data" / "set" / "set.gz"
    assert path.read_bytes() == CONTENT
    assert fetch.find_or_fetch("set", "set.gz", url="http://never.invalid/", check=check) == path
    assert [p.name for p in path.parent.iterdir()] == ["set.gz"]


def test_another_content_than_the_published_one_is_not_kept(roots, home, tmp_path):
    (tmp_path / "home" / "set.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"set\.gz: cannot be fetched .*MD5 is [0-9a-f]{32}, expected [0-9a-f]{32}"):
        fetch.find_or_fetch("set", "set.gz", url=home + "set.gz", check=check)
    assert list((roots / "data" / "set").iterdir()) == []


def test_an_unreachable_home_is_one_line_that_names_the_folder_to_fill(roots):
    with socket.socket() as held:  # bound and not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/set.gz"
        with pytest.raises(DataError) as caught:
            fetch.find_or_fetch("set", "set.gz", url=url, check=check)
    message = str(caught.value)
    assert url in message
    assert "refused" in message
    assert message.endswith(f"put it into {roots / 'data' / 'set'} by hand")
    assert "\n" not in message


def test_a_data_folder_that_cannot_be_made_sends_the_download_to_the_cache(roots, home):
    (roots / "data").write_text("a file where the folder should be")
    path = fetch.find_or_fetch("set", "set.gz", url=home + "set.gz", check=check)
    assert path == roots / "cache" / "lectern" / "set" / "set.gz"


def test_nowhere_to_write_is_said(roots, home):
    (roots / "data").write_text("a file")
    (roots / "cache").write_text("a file")
    with pytest.raises(DataError, match="can be written"):
        fetch.find_or_fetch("set", "set.gz", url=home + "set.gz", check=check)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def half(out):
        out.write(b"half")
        raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space left"):
        fetch.write_atomically(target, half)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}
