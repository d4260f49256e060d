"""Who may import whom, read from the syntax trees: the walls of the house (README, architecture).

A module is known by its longest prefix in `RULES`. Imports inside functions count as well: a late import is an import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WEB = frozenset({"fastapi", "starlette", "uvicorn", "httptools", "fastapi_offline", "python_multipart", "uvloop"})
PYDANTIC = frozenset({"pydantic", "pydantic_core"})
TORCH = frozenset({"torch", "accelerate"})
LEARNING = TORCH | {"onnx", "onnxscript", "sklearn", "tqdm", "numpy", "PIL", "pydantic", "scipy"}

# Of this house (by prefix) and of others (by top-level name; the standard library goes without saying).
# A module may always import its own package.
RULES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "app.core": (frozenset(), frozenset({"numpy", "pydantic"})),
    "app.engine": (frozenset({"app.core"}), frozenset({"numpy", "pydantic"})),
    "app.engine.runtime": (frozenset({"app.core", "app.engine"}), frozenset({"numpy", "onnxruntime"})),
    "app.codecs": (frozenset({"app.core"}), frozenset({"numpy", "PIL", "pydantic_core", "python_multipart"})),
    # What the tasks and protocols share in reading requests and writing answers.
    "app.wire": (frozenset({"app.core", "app.engine", "app.codecs"}), WEB | PYDANTIC | {"numpy"}),
    "app.tasks": (frozenset({"app.core", "app.engine", "app.codecs", "app.wire"}), WEB | PYDANTIC | {"numpy"}),
    "app.protocols": (frozenset({"app.core", "app.engine", "app.codecs", "app.wire"}), WEB | PYDANTIC | {"numpy"}),
    "app": (frozenset({"app"}), WEB | {"numpy", "pydantic", "pydantic_settings", "prometheus_client"}),
    "app.telemetry.spans": (frozenset({"app"}), frozenset({"opentelemetry"})),
    # A picture must be read in training exactly as when it is served, so training reads it with the same codec.
    "training": (frozenset({"app.core", "app.codecs", "training"}), LEARNING),
    "training.export": (frozenset({"app.core", "app.codecs", "training"}), LEARNING | {"onnxruntime"}),
    "training.evaluation": (frozenset({"app.core", "app.codecs", "training"}), LEARNING | {"onnxruntime"}),
}
STRANGERS = ("app.tasks", "app.protocols", "training.recipes")  # packages whose members never import each other


def sources() -> list[Path]:
    return [path for top in ("app", "training") for path in sorted((ROOT / top).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of everything imported; for `from a import b` both `a` and `a.b`'s place: `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            # A name that is not a literal is made at run time (recipes, found by name): only reading tells.
            yield from ((node.lineno, str(arg.value)) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def offences(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What `module` imports and may not, one sentence each."""
    rule = max((prefix for prefix in RULES if within(module, prefix)), key=len)
    houses, others = RULES[rule]
    package = module if is_package else module.rpartition(".")[0]
    stranger = next((prefix for prefix in STRANGERS if within(module, prefix)), None)
    found = []
    for line, name in imports(source, package):
        top = name.partition(".")[0]
        if top in ("app", "training"):
            own = within(name, rule) or name == top
            allowed = own or any(within(name, house) for house in houses)
            if stranger and module != stranger and within(name, stranger):
                mine, theirs = (full.removeprefix(stranger + ".").partition(".")[0] for full in (module, name))
                allowed = name == stranger or theirs == mine or theirs.startswith("_")
        else:
            allowed = top in others or top in sys.stdlib_module_names
        if not allowed:
            found.append(f"{module}, line {line}: {rule} may not import {name}")
    return found


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_every_module_imports_only_what_its_place_allows(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert offences(module_of(path), source, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("app.core.sampling", "import asyncio\nimport torch"),
        ("app.core.manifest", "from app.engine import session"),
        ("app.engine.batcher", "def late():\n    import fastapi"),
        ("app.engine.registry", "import onnxruntime as ort"),
        ("app.engine.session", "import onnxruntime as ort"),
        ("app.codecs.images", "from ..engine.registry import Model"),
        ("app.tasks.classify", "from app.tasks.regress import router"),
        ("app.tasks.classify", "from . import regress"),
        ("app.tasks.classify", "from app.main import create_app"),
        ("app.protocols.oip.infer", "from app.protocols.other import answer"),
        ("app.protocols.oip.infer", "from ..other import answer"),
        ("app.protocols.oip.infer", "from app.tasks.classify import router"),
        ("app.main", "from training.loop import train"),
        ("app.main", "import importlib\nimportlib.import_module('torch')"),
        ("training.loop", "import onnxruntime"),
        ("training.loop", "from app.engine.session import Session"),
        ("training.recipes.cnn", "from training.recipes.mlp import Net"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(offences(module, source)) == 1


def test_an_allowed_import_is_let_through() -> None:
    source = "from __future__ import annotations\nimport asyncio, numpy\nfrom app.core.errors import Busy"
    assert offences("app.engine.batcher", source) == []


@pytest.mark.parametrize("source", ["from app.protocols.oip.errors import refusal", "from .errors import refusal"])
def test_the_files_of_one_protocol_know_each_other(source: str) -> None:
    assert offences("app.protocols.oip.infer", source) == []


def test_core_knows_no_event_loop() -> None:
    guilty = [
        module_of(path)
        for path in sorted((ROOT / "app" / "core").rglob("*.py"))
        for _, name in imports(path.read_text(encoding="utf-8"), "app.core")
        if within(name, "asyncio") or within(name, "threading")
    ]
    assert guilty == []


def test_no_file_is_longer_than_400_lines() -> None:
    long = [f"{path}: {n}" for path in sources() if (n := path.read_text(encoding="utf-8").count("\n")) > 400]
    assert long == []
