"""Who may import whom, read from the syntax trees: the walls of docs/architecture.md.

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
BELOW_WEB = frozenset({"app.core", "app.engine", "app.codecs"})
ORT = frozenset({"onnxruntime"})
LEARNING = TORCH | {"onnx", "onnxscript", "sklearn", "threadpoolctl", "tqdm", "numpy", "PIL", "pydantic", "scipy"}
WORDS = frozenset({"tokenizers"})

# Of this server (by prefix) and of others (by top-level name; the standard library goes without saying).
# A module may always import its own package.
RULES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "app.core": (frozenset(), frozenset({"numpy", "pydantic"})),
    "app.engine": (frozenset({"app.core"}), frozenset({"numpy", "pydantic"})),
    "app.engine.runtime": (frozenset({"app.core", "app.engine"}), frozenset({"numpy", "onnxruntime"})),
    # A tokenizer is a file of a model's folder, and is proved at load like its graphs.
    "app.engine.text_files": (frozenset({"app.core", "app.engine", "app.codecs.text"}), frozenset({"numpy"})),
    "app.codecs": (frozenset({"app.core"}), frozenset({"numpy", "PIL", "pydantic_core", "python_multipart"})),
    "app.codecs.audio": (frozenset({"app.core", "app.codecs"}), frozenset({"numpy", "soundfile", "soxr", "av"})),
    "app.codecs.text": (frozenset({"app.core", "app.codecs"}), frozenset({"numpy", "tokenizers"})),
    "app.codecs.video": (frozenset({"app.core", "app.codecs"}), frozenset({"numpy", "PIL", "av"})),
    # What the tasks and protocols share in reading requests and writing responses.
    "app.web": (BELOW_WEB, WEB | PYDANTIC | {"numpy"}),
    "app.tasks": (BELOW_WEB | {"app.web"}, WEB | PYDANTIC | {"numpy"}),
    "app.protocols": (BELOW_WEB | {"app.web"}, WEB | PYDANTIC | {"numpy"}),
    "app.telemetry": (BELOW_WEB | {"app.web"}, frozenset({"prometheus_client"})),
    "app.telemetry.spans": (BELOW_WEB | {"app.web", "app.telemetry"}, frozenset({"opentelemetry"})),
    "app.middleware": (BELOW_WEB | {"app.web", "app.telemetry", "app.protocols"}, WEB | {"pydantic"}),
    "app.pages": (
        BELOW_WEB | {"app.web", "app.telemetry", "app.tasks", "app.protocols", "app.middleware"},
        WEB | {"numpy", "pydantic", "prometheus_client"},
    ),
    "app.server": (BELOW_WEB | {"app.web", "app.telemetry", "app.middleware", "app.settings"}, WEB),
    # The entry of a process of its own.
    "app.server.worker": (BELOW_WEB | {"app.server", "app.settings", "app.main", "app.telemetry"}, WEB),
    "app.settings": (frozenset({"app.core"}), frozenset({"pydantic", "pydantic_settings"})),
    "app": (frozenset({"app"}), WEB | {"numpy", "pydantic"}),
    # A picture must be read in training exactly as when it is served, so training reads it with the same codec.
    "training": (frozenset({"app.core", "app.codecs", "training"}), LEARNING),
    "training.export": (frozenset({"app.core", "app.codecs", "training"}), LEARNING | {"onnxruntime"}),
    "training.metrics": (
        frozenset({"app.core", "app.codecs", "training.metrics", "training.data"}),
        LEARNING | ORT,
    ),
    "training.metrics.translation": (frozenset({"training.metrics"}), frozenset({"sacrebleu"})),
    "training.networks": (frozenset({"app.core", "training.networks"}), LEARNING),
    "training.optim": (frozenset({"training.optim"}), LEARNING),
    "training.data": (frozenset({"app.core", "app.codecs"}), LEARNING | WORDS),
    "training.reporting": (frozenset({"app.core", "training.metrics", "training.data"}), LEARNING),
    "training.families": (
        frozenset(
            {"app.core", "app.codecs", "training.networks", "training.optim", "training.metrics", "training.reporting"}
            | {"training.data", "training.export", "training.publish", "training.recipe", "training.options"}
            | {"training.loop", "training.image_classification", "training.family"}
        ),
        LEARNING | ORT | WORDS,
    ),
}
STRANGERS = ("app.tasks", "app.protocols", "training.families")  # packages whose members never import each other


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
    ours, others = RULES[rule]
    package = module if is_package else module.rpartition(".")[0]
    stranger = next((prefix for prefix in STRANGERS if within(module, prefix)), None)
    found = []
    for line, name in imports(source, package):
        top = name.partition(".")[0]
        if top in ("app", "training"):
            own = within(name, rule) or name == top
            allowed = own or any(within(name, prefix) for prefix in ours)
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
        ("app.core.sampling.samplers", "import asyncio\nimport torch"),
        ("app.core.manifest", "from app.engine import session"),
        ("app.engine.batcher", "def late():\n    import fastapi"),
        ("app.engine.registry", "import onnxruntime as ort"),
        ("app.engine.session", "import onnxruntime as ort"),
        ("app.codecs.npy", "from ..engine.registry import Model"),
        ("app.tasks.classify.endpoint", "from app.tasks.regress import router"),
        ("app.tasks.classify.endpoint", "from .. import regress"),
        ("app.tasks.classify.endpoint", "from app.main import create_app"),
        ("app.protocols.open_inference.infer", "from app.protocols.other import answer"),
        ("app.protocols.open_inference.infer", "from ..other import answer"),
        ("app.protocols.open_inference.infer", "from app.tasks.classify import router"),
        ("app.main", "from training.loop import train"),
        ("app.main", "import importlib\nimportlib.import_module('torch')"),
        ("training.loop", "import onnxruntime"),
        ("training.loop", "from app.engine.session import Session"),
        ("training.families.gan.report", "from training.families.vae.network import Net"),
        ("training.networks.dense", "from training.loop import fit"),
        ("app.web.context", "from app.tasks.classify import endpoint"),
        ("app.server.worker_slot", "from app.main import create_app"),
        ("app.middleware.errors", "from app.pages import landing"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(offences(module, source)) == 1


def test_an_allowed_import_is_let_through() -> None:
    source = "from __future__ import annotations\nimport asyncio, numpy\nfrom app.core.errors import Busy"
    assert offences("app.engine.batcher", source) == []


@pytest.mark.parametrize(
    "source", ["from app.protocols.open_inference.errors import refusal", "from .errors import refusal"]
)
def test_the_files_of_one_protocol_know_each_other(source: str) -> None:
    assert offences("app.protocols.open_inference.infer", source) == []


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


def test_onnx_runtime_is_imported_where_graphs_are_run_and_nowhere_else() -> None:
    users = {
        module_of(path)
        for path in sources()
        for _, name in imports(path.read_text(encoding="utf-8"), module_of(path))
        if within(name, "onnxruntime")
    }
    families = {module.removeprefix("training.families.") for module in users if within(module, "training.families")}
    # Sampling asks a published graph as the server does, for metrics and report alike.
    assert {name for name in families if not name.endswith(".metrics")} == {"diffusion.generation"}
    others = {module for module in users if not within(module, "training.families")}
    assert others == {"app.engine.runtime", "training.export", "training.metrics.onnx_model"}
