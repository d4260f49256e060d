"""What is installed, from what is written down: pyproject.toml, the constraints, the Makefile, the Dockerfile."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from app.main import VERSION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = {
    str(canonicalize_name(name)): version
    for name, _, version in (line.partition("==") for line in CONSTRAINTS if line and not line.startswith("#"))
}


def asked(*extras: str) -> list[str]:
    return PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]


def installed_tree(lines: list[str]) -> Iterator[Requirement]:
    """What `lines` need here and what that needs in turn, as far as it is installed."""
    waiting, seen = [Requirement(line) for line in lines], set()
    while waiting:
        need = waiting.pop()
        yield need
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            below = metadata.requires(need.name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in below:
            child = Requirement(line)
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in ("", *need.extras)):
                waiting.append(child)


def test_every_constraint_is_one_exact_public_version() -> None:
    wrong = [
        line
        for line in CONSTRAINTS
        if not line.startswith("#") and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*", line)
    ]
    assert wrong == []
    assert len(PINS) == len([line for line in CONSTRAINTS if not line.startswith("#")])  # none twice


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_package_that_is_asked_for_is_pinned_within_its_bounds(extra: str | None) -> None:
    for line in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        need = Requirement(line)
        assert Version(PINS[str(canonicalize_name(need.name))]) in need.specifier


def test_everything_that_comes_along_is_pinned_within_the_bounds_of_all_that_need_it() -> None:
    needs = {
        (str(canonicalize_name(need.name)), str(need.specifier))
        for need in installed_tree(asked("cpu", "training", "test", "browser"))
    }
    names = {name for name, _ in needs}
    assert "starlette" in names
    assert "sympy" in names  # torch's: the tree is really walked
    assert sorted(names - PINS.keys()) == []
    wrong = [
        f"{name}{bounds}, pinned {PINS[name]}"
        for name, bounds in needs
        if Version(PINS[name]) not in SpecifierSet(bounds)
    ]
    assert sorted(wrong) == []


def test_both_builds_of_onnx_runtime_are_the_same_version_and_never_asked_for_together() -> None:
    assert PINS["onnxruntime"] == PINS["onnxruntime-gpu"]
    for extra in EXTRAS:
        together = [Requirement(line).name for line in asked(extra) if line.startswith("onnxruntime")]
        assert len(together) <= (extra in ("cpu", "gpu"))


def test_serving_needs_no_torch() -> None:
    names = {canonicalize_name(Requirement(line).name) for line in asked("gpu")}
    assert not names & {"torch", "accelerate", "onnx", "scikit-learn", "matplotlib"}


def test_the_version_is_the_same_everywhere() -> None:
    label = re.search(r'image\.version="([^"]+)"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert label is not None
    assert (PROJECT["version"], label[1]) == (VERSION, VERSION)


def test_the_requirements_script_prints_what_pyproject_asks_for() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "requirements.py"), "gpu", "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == asked("gpu", "test")


def test_the_offline_pages_have_their_scripts() -> None:
    spec = importlib.util.find_spec("fastapi_offline")
    assert spec is not None
    assert spec.submodule_search_locations
    names = {path.name for path in (Path(spec.submodule_search_locations[0]) / "static").iterdir()}
    assert {"swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"} <= names


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "RUNTIME")}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments],
        capture_output=True, text=True, check=False, env=clean | environment,
    )  # fmt: skip


def test_make_help_names_the_targets() -> None:
    shown = make("help")
    assert shown.returncode == 0
    for target in ("serve", "test", "slow", "proofs", "image", "browser", "quality"):
        assert f"make {target} " in shown.stdout


def test_make_refuses_a_runtime_it_does_not_know() -> None:
    refused = make("install", "RUNTIME=tpu")
    assert refused.returncode == 2
    assert "RUNTIME is 'tpu', it must be cpu or gpu" in refused.stderr


@pytest.mark.parametrize(("runtime", "other"), [("cpu", "onnxruntime-gpu"), ("gpu", "onnxruntime")])
def test_make_installs_one_build_after_removing_the_other(tmp_path: Path, runtime: str, other: str) -> None:
    plan = make("--dry-run", "install", f"RUNTIME={runtime}", f"VENV={tmp_path / 'venv'}").stdout
    assert re.search(rf"uninstall --quiet --yes {other}\b", plan)
    assert re.search(rf"requirements\.py {runtime} >", plan)
    assert plan.index("uninstall") < plan.index("install --quiet")


@pytest.mark.skipif(platform.system() + platform.machine() != "Linuxx86_64", reason="no GPU build for this platform")
def test_make_takes_the_gpu_build_where_an_nvidia_gpu_is_seen(tmp_path: Path) -> None:
    seen = tmp_path / "nvidia-smi"
    seen.write_text('#!/bin/sh\necho "GPU 0: NVIDIA T4 (UUID: GPU-0)"\n', encoding="utf-8")
    seen.chmod(0o755)
    plan = make("--dry-run", "install", f"VENV={tmp_path / 'venv'}", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert re.search(r"requirements\.py gpu >", plan.stdout)


def test_make_says_in_one_line_that_python_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.10\n[ "$1" = --version ]\n', encoding="utf-8")
    old.chmod(0o755)
    refused = make("install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "RUNTIME=cpu")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[0].startswith("Python 3.11 or newer is needed")
    assert "Python 3.8.10" in refused.stderr.splitlines()[0]
    assert not (tmp_path / "venv").exists()


def test_the_image_is_made_without_root_without_torch_and_with_a_health_check() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    final = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001:10001" in final
    assert [line for line in final if line.startswith("RUN")] == []
    assert any(line.startswith("HEALTHCHECK") for line in final)
    assert final[-1] == 'ENTRYPOINT ["python3", "-m", "app"]'


def test_ci_runs_the_readme_test_command_then_the_slow_tests_and_the_browser() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if "make" in line and line[0] != "#"]
    assert commands == ["make test", "exec make --keep-going slow browser"]
