"""The structure of a checkout in figures: `python -m tests.structure [--checkout FOLDER] [--names]`.

Prints a Markdown table: how many functions and files one request passes, the imports between folders and those that
run in a cycle, how many files a family of models and a task touch, lines, files, words. The checkout may be of any age:
its sources are those that Git tracks, as they lie in the folder, and only the requests run any of them.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import request_calls
from tests.request_calls import CallCount

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("app", "training", "tests")
FAMILIES: Final = "training.families"

Graph = Mapping[str, frozenset[str]]  # a node, and the nodes that it has an arrow to


# Files and their imports.


@dataclass(frozen=True)
class Source:
    """One Python file: its path below the checkout, its dotted name (a package's for `__init__.py`), its text."""

    path: Path
    module: str
    tree: ast.Module
    lines: int

    @classmethod
    def parse(cls, path: Path, text: str) -> Source:
        parts = path.with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        return cls(path, module, ast.parse(text), text.count("\n"))

    @property
    def folder(self) -> str:
        return self.path.parent.as_posix()

    @property
    def is_empty(self) -> bool:
        """Nothing but a docstring: an `__init__.py` that only marks a folder."""
        return all(isinstance(node, ast.Expr) for node in self.tree.body)


Sources = Mapping[str, Source]  # by module


def read_sources(checkout: Path) -> Sources:
    """Every Python file of PACKAGES that Git tracks."""
    command = ["git", "-C", str(checkout), "ls-files", "-z", "--", *(f"{package}/*.py" for package in PACKAGES)]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    paths = [Path(name) for name in listed if name and (checkout / name).is_file()]  # one may just have been removed
    found = [Source.parse(path, (checkout / path).read_text(encoding="utf-8")) for path in paths]
    return {source.module: source for source in found}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def below(sources: Sources, package: str) -> Sources:
    return {module: source for module, source in sources.items() if within(module, package)}


def imported(source: Source, modules: Collection[str]) -> Iterator[str]:
    """Those of `modules` that a file imports, anywhere in it; of `from a import b`, `a.b` where that is a module."""
    for node in ast.walk(source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = source.path.parent.parts
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            names = [str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)]
        for name in names:
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name and name != source.module:
                yield name


def import_graph(sources: Sources) -> Graph:
    """Module -> the modules of `sources` that it imports."""
    return {module: frozenset(imported(source, sources)) for module, source in sources.items()}


def grouped(graph: Graph, group: Mapping[str, str]) -> Graph:
    """The arrows between groups of modules; none from a group to itself."""
    found: dict[str, set[str]] = {name: set() for name in group.values()}
    for module, names in graph.items():
        found[group[module]] |= {group[name] for name in names}
    return {name: frozenset(others - {name}) for name, others in found.items()}


def reached(graph: Graph, starts: Iterable[str], without: Collection[str] = ()) -> set[str]:
    """The nodes on paths from `starts`, themselves included, that do not pass through `without`."""
    found: set[str] = set()
    left = [name for name in starts if name not in without]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [following for following in graph[name] if following not in without]
    return found


def cycles(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one node."""
    reach = {name: reached(graph, graph[name]) for name in graph}
    found = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]}
    return sorted(sorted(component) for component in found)


def count_arrows(graph: Graph) -> str:
    """How many there are, how many of them run inside a cycle, and the nodes of each cycle."""
    found = cycles(graph)
    back = sum(other in cycle for cycle in found for name in cycle for other in graph[name])
    return f"{sum(map(len, graph.values()))}, {back} inside a cycle" + "".join(f"; {' + '.join(c)}" for c in found)


# What a family of models and a task touch.


def words(tree: ast.Module) -> Iterator[str]:
    """The identifiers and strings of a file, but for comments, docstrings and `text.translate(...)`, Python's own."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "translate":
            skipped.add(id(node.func))
        if id(node) not in skipped:
            for _, value in ast.iter_fields(node):
                yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))


def touched(sources: Sources, own: Collection[str], pattern: str) -> list[Path]:
    """The files that concern one thing: what somebody changes or adds to make another of its kind.

    They are the modules `own`; those that are imported by no others, directly or not; and those that name the thing,
    in a part of an identifier or string that matches `pattern`. Files without a statement do not count.
    """
    graph = import_graph(sources)
    starts = graph.keys() - {name for names in graph.values() for name in names}
    concerned = set(own) | (reached(graph, starts) - reached(graph, starts, without=own))
    matches = re.compile(pattern, re.IGNORECASE).search
    return sorted(
        source.path
        for module, source in sources.items()
        if not source.is_empty and (module in concerned or any(map(matches, words(source.tree))))
    )


def family_files(training: Sources, family: str) -> list[Path]:
    """Its own is its folder in training/families, or its recipe in a checkout from before there was that."""
    homes = (f"{FAMILIES}.{family}", f"training.recipes.{family}")
    own = [module for module in training if any(within(module, home) for home in homes)]
    return touched(training, own, rf"(?<![a-z]){re.escape(family)}(?![a-z])")


def task_files(app: Sources, task: str) -> list[Path]:
    """Its own is its folder or file in app/tasks. Words made of its name count (`translations`)."""
    own = [module for module in app if within(module, f"app.tasks.{task}")]
    return touched(app, own, rf"(?<![a-z]){re.escape(task.removesuffix('e'))}")


# The table.


def count_calls(checkout: Path) -> dict[str, CallCount]:
    """`tests.request_calls` in a process of its own, which imports the checkout's `app` and not this one's."""
    command = [sys.executable, "-P", str(Path(request_calls.__file__).resolve())]
    others = ("LECTERN_", "OTEL_", "PYTHONPATH")  # settings of this shell
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    environment["PYTHONPATH"] = str(checkout)
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {name: CallCount(**figures) for name, figures in json.loads(done.stdout).items()}


def call_rows(checkout: Path) -> Iterator[tuple[str, str]]:
    counted = count_calls(checkout)
    for name, what, model in (
        ("picture", "PNG to /v1/classify", request_calls.PICTURE_MODEL),
        ("raw", "raw row to /v2", request_calls.RAW_MODEL),
    ):
        yield f"calls / files / moves between files of one warm {what} ({model})", str(counted[name])


def import_rows(sources: Sources) -> Iterator[tuple[str, str]]:
    for package in ("app", "training"):
        some = below(sources, package)
        graph = import_graph(some)
        folders = {module: source.folder for module, source in some.items()}
        # The entry points lie at the top and import what is below; what is below imports the settings, at the top.
        apart = {module: module if folder == package else folder for module, folder in folders.items()}
        yield f"arrows between folders of {package}", count_arrows(grouped(graph, folders))
        yield f"the same, each file directly in {package}/ taken alone", count_arrows(grouped(graph, apart))
        yield f"cycles of files in {package}", str(len(cycles(graph)))
    members = {module: source for module, source in below(sources, FAMILIES).items() if module != FAMILIES}
    families = {module: module.split(".")[2] for module in members}
    between = count_arrows(grouped(import_graph(members), families))
    yield "arrows between families", between if families else "there is no folder of families"


def touch_rows(sources: Sources, family: str, task: str, *, names: bool) -> Iterator[tuple[str, str]]:
    for package, what, paths in (
        ("training", f"the family {family}", family_files(below(sources, "training"), family)),
        ("app", f"the task {task}", task_files(below(sources, "app"), task)),
    ):
        listed = ": " + ", ".join(path.as_posix() for path in paths) if names else ""
        yield (
            f"files / folders of {package} that {what} touches",
            f"{len(paths)} / {len({p.parent for p in paths})}{listed}",
        )


def size_rows(checkout: Path, sources: Sources) -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        some = below(sources, package)
        yield f"lines / files of Python in {package}", f"{sum(s.lines for s in some.values()):,} / {len(some)}"
    yield "words of README.md", f"{len((checkout / 'README.md').read_text(encoding='utf-8').split()):,}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.structure", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--checkout", type=Path, default=ROOT, metavar="FOLDER", help="default: this one")
    parser.add_argument("--family", default="cyclegan", help="whose files are counted (default: cyclegan)")
    parser.add_argument("--task", default="translate", help="whose files are counted (default: translate)")
    parser.add_argument("--names", action="store_true", help="name the files that the family and the task touch")
    options = parser.parse_args(arguments)
    checkout = options.checkout.resolve()
    sources = read_sources(checkout)
    print("| what | figure |\n|---|---|")
    for what, figure in (
        *call_rows(checkout),
        *import_rows(sources),
        *touch_rows(sources, options.family, options.task, names=options.names),
        *size_rows(checkout, sources),
    ):
        print(f"| {what} | {figure} |")


if __name__ == "__main__":
    main()
