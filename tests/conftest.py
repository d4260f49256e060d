"""What all tests share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.made_models import PHOTO, make_classifier_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """`@pytest.mark.anyio` runs a test on asyncio, the only loop that the server runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on a free port with the shipped models, or a made one where none is shipped."""
    models = ROOT / "models"
    if not list(models.glob("*/*/manifest.json")):
        models = tmp_path_factory.mktemp("models")
        make_classifier_folder(models, picture=PHOTO)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LECTERN_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", "0", "--device", "cpu", "--models", str(models)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        printed = ""
        for line in server.stdout:  # ends when the server does
            printed += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            pytest.fail(f"the server ended with {server.wait()}: {printed}")
    finally:
        server.terminate()
        server.communicate(timeout=30)
