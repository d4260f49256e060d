"""What `python -m tests.structure` counts, on trees small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import structure
from tests.request_calls import CallCount, count
from tests.structure import Source, Sources, count_arrows, cycles, family_files, grouped, import_graph, task_files

APP = {
    "app/__init__.py": "",
    "app/__main__.py": "from app.main import run",
    "app/main.py": "from app.tasks import TASKS\nimport app.server.shutdown",
    "app/server/__init__.py": '"""Marks a folder."""',
    "app/server/shutdown.py": "import json",
    "app/server/serving.py": "def late():\n    from app import main",
    "app/tasks/__init__.py": "from app.tasks import classify, translate\nTASKS = (classify, translate)",
    "app/tasks/classify.py": "from app.web.body import read\nkind = ''.translate({})",
    "app/tasks/translate/__init__.py": "from .ways import ways\nfrom app.web import body, cycle",
    "app/tasks/translate/ways.py": "ways = ()",
    "app/web/__init__.py": "",
    "app/web/body.py": '"""What `translate` reads."""\nread = None',
    "app/web/cycle.py": "error = None",
    "app/cards.py": "def card(manifest):\n    return [way for way in manifest.translations]",
}


def tree(texts: dict[str, str]) -> Sources:
    found = [Source.parse(Path(path), text) for path, text in texts.items()]
    return {source.module: source for source in found}


def test_arrows_between_folders_and_their_cycle() -> None:
    app = tree(APP)
    folders = {module: source.folder for module, source in app.items()}
    arrows = grouped(import_graph(app), folders)
    assert arrows["app"] == {"app/tasks", "app/server"}
    assert arrows["app/server"] == {"app"}
    assert arrows["app/tasks"] == {"app/web", "app/tasks/translate"}
    assert arrows["app/tasks/translate"] == {"app/web"}
    assert count_arrows(arrows) == "6, 2 inside a cycle; app + app/server"


def test_files_without_a_cycle_may_lie_in_folders_with_one() -> None:
    assert cycles(import_graph(tree(APP))) == []
    assert cycles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("ad"), "d": frozenset()}) == [
        ["a", "b", "c"]
    ]


def test_a_task_touches_its_folder_what_is_for_it_alone_and_what_names_it() -> None:
    assert [path.as_posix() for path in task_files(tree(APP), "translate")] == [
        "app/cards.py",
        "app/tasks/__init__.py",
        "app/tasks/translate/__init__.py",
        "app/tasks/translate/ways.py",
        "app/web/cycle.py",
    ]


@pytest.mark.parametrize("home", ["training/families/gan/recipe.py", "training/recipes/gan.py"])
def test_a_family_is_found_in_either_layout(home: str) -> None:
    training = tree(
        {
            home: "from training.networks import critic, dense",
            home.replace("gan", "cyclegan"): "from training.networks import dense\nname = 'cyclegan'",
            "training/__main__.py": "shown = 'gan-mnist'",
            "training/networks/critic.py": "net = None",
            "training/networks/dense.py": "net = None",
        }
    )
    found = [path.as_posix() for path in family_files(training, "gan")]
    assert found == sorted(["training/__main__.py", home, "training/networks/critic.py"])


def test_calls_are_counted_with_their_files_and_the_moves_between_them() -> None:
    assert count(["a", "a", "b", "a", "c"]) == CallCount(calls=5, files=3, moves=3)


@pytest.mark.slow
def test_the_whole_table_of_this_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    structure.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["| what | figure |", "|---|---|"]
    assert len(lines) > 12
    assert all(line.count("|") == 3 for line in lines)
