"""The commands of README.md and docs/, run as they stand, and their output compared with what the document shows.

A live server has the shipped models. `localhost:8000` is replaced by its address and `.venv/bin/python` by this Python;
the commands run in a folder that has what the checkout has, so that what they write does not stay.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.live import LiveServer, open_server
from tests.documents import DOCUMENTS, README, ROOT, Block, Command, blocks, disagreement

SLOW = re.compile(r"-m training|-m app verify|make_pictures|mlp-flats|cnn-handwritten")
BLOCKS = [block for path in DOCUMENTS for block in blocks(path, "bash")]
[PICTURES] = [block for block in BLOCKS if block.document == README and "sevens.png" in block.text]
QUICK = [block for block in BLOCKS if not SLOW.search(block.text) and block is not PICTURES]
TRAINING = [block for block in BLOCKS if block.document == README and SLOW.search(block.text)]
LINKED = ("app", "docs", "tests", "training", "pyproject.toml")
GREY_LEVELS = 3  # between two machines' arithmetic

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None, reason="needs bash and curl"
)


def workspace(folder: Path) -> Path:
    """A folder with the parts of the checkout that commands read; `models` is left out."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\nmax-time = 60\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = workspace(tmp_path_factory.mktemp("checkout"))
    (folder / "models").symlink_to(ROOT / "models")
    return folder


@pytest.fixture(scope="module")
def shipped() -> Iterator[LiveServer]:
    with open_server(ROOT / "models", model_control=True) as opened:
        yield opened


def run(command: Command, folder: Path, server: LiveServer | None) -> str:
    """Its standard output; an error where it fails."""
    text = command.text.replace(".venv/bin/python", sys.executable)
    if server is not None:
        text = text.replace("localhost:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", text],
        cwd=folder, env=os.environ | {"CURL_HOME": str(folder)}, capture_output=True, check=False,
    )  # fmt: skip
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{text}\nended with {done.returncode}: {output[-1000:]} {done.stderr[-2000:]!r}"
    return output


def check(block: Block, folder: Path, server: LiveServer | None, *, relative: float, absolute: float) -> None:
    for command in block.commands():
        output = run(command, folder, server)
        if command.shown:
            wrong = disagreement("\n".join(command.shown), output, relative=relative, absolute=absolute)
            assert not wrong, f"{block.name}: {command.text}: {wrong}"


@pytest.mark.parametrize("block", QUICK, ids=lambda block: block.name)
def test_the_commands_of_a_document_work_as_they_stand(block: Block, place: Path, shipped: LiveServer) -> None:
    check(block, place, shipped, relative=0.01, absolute=0.005)


@pytest.mark.parametrize("block", blocks(README, "python"), ids=lambda block: block.name)
def test_the_python_of_the_readme_prints_what_it_shows(block: Block, place: Path, shipped: LiveServer) -> None:
    (place / "readme.py").write_text(block.text.replace("localhost:8000", f"127.0.0.1:{shipped.port}"), "utf-8")
    shown = [line.partition("  # ")[2] for line in block.lines if line.startswith("print(")]
    assert len(shown) == block.text.count("print(") == 2
    printed = run(Command(".venv/bin/python readme.py"), place, shipped)
    assert disagreement("\n".join(shown), printed, relative=0.01, absolute=0.005) == ""


def test_the_pictures_of_the_readme_are_the_answers_of_its_commands(place: Path, shipped: LiveServer) -> None:
    check(PICTURES, place, shipped, relative=0.0, absolute=0.0)
    for name in ("sevens.png", "clean.png"):
        got, shown = (np.asarray(Image.open(path), int) for path in (place / name, ROOT / "docs" / "examples" / name))
        assert got.shape == shown.shape
        assert np.mean(np.abs(got - shown) > GREY_LEVELS) < 0.01


@pytest.mark.slow
def test_the_readme_trains_on_a_table_and_on_pictures_and_asks_the_new_models(tmp_path: Path) -> None:
    folder = workspace(tmp_path)
    asked = [block for block in TRAINING if "curl" in block.text]
    for block in TRAINING:
        if block not in asked:
            check(block, folder, None, relative=0.1, absolute=0.05)
    with open_server(folder / "models") as opened:
        for block in asked:
            check(block, folder, opened, relative=0.1, absolute=0.05)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("shown", "got", "same"),
    [
        ("a 0.50 b", "a  0.501 b", True),
        ("a 0.50 b", "a 0.6 b", False),
        ('{"n": 5, ...', '{"n":5,"more":[1,2]}', True),
        ('{"n": 5}', '{"n":5,"more":1}', False),
        ("... accuracy 0.94 ...", "header\nloss 3\naccuracy 0.941\nmore", True),
        ("... accuracy 0.94 ... end", "accuracy 0.94 and no more", False),
        ("1,797 pictures", "1797 pictures", True),
    ],
)
def test_output_is_compared_word_by_word_and_numbers_by_their_values(shown: str, got: str, same: bool) -> None:
    assert (disagreement(shown, got, relative=0.01, absolute=0.005) == "") is same
