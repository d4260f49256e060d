"""Two builds of the server in one run: what a change costs or gains in speed and memory.

Both serve the same models with the same settings, each from its own checkout, by this Python. They stand side by side
and are loaded in turn, cell by cell: before, now, now, before, in the next round the other way round, so that what
drifts on the machine meets both alike. A ratio is of two neighbours in time; each round has two. Each round starts both
anew, since two processes of the same code differ as well.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.cells import Place, aligned
from tests.bench.checks import check
from tests.bench.load import Cell, measure
from tests.bench.models import publish
from tests.bench.processes import ROOT, Memory, Running, lectern
from tests.bench.shapes import SHAPES

CELLS: Final = "A1,A8,A32,mlp/A32,P32,D32"
ROUNDS: Final = 5
SECONDS: Final = 2.0  # short, so that neighbours are close to each other on a machine that others use as well
BEFORE, NOW = "before", "now"
SIDES: Final = (BEFORE, NOW)
START_S: Final = 20.0  # of both, with the answers compared, for the estimate alone

HEADINGS: Final = (
    "cell", "before req/s", "now req/s", "now/before", "least", "most", "before p99 ms", "now p99 ms",
    "before us", "now us", "now/before", "errors",
)  # fmt: skip


class WrongFolder(Exception):
    """A folder that is no checkout of Lectern."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FOLDER",
        help="another checkout, e.g. of the build before a change: load both side by side "
        f"(default: {ROUNDS} rounds of {SECONDS:g} s, {CELLS})",
    )


@dataclass
class Compared:
    """All that was measured of each side, in the order of time: cells twice in a round, memory once."""

    cells: dict[Place, dict[str, list[Cell]]] = field(default_factory=dict)
    started: dict[str, list[Memory]] = field(default_factory=lambda: {side: [] for side in SIDES})
    ended: dict[str, list[Memory]] = field(default_factory=lambda: {side: [] for side in SIDES})
    start_s: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})

    def add(self, place: Place, side: str, cell: Cell) -> None:
        self.cells.setdefault(place, {side: [] for side in SIDES})[side].append(cell)


def checkout(folder: Path) -> Path:
    """The folder of another build, as a path that holds whatever the working directory is.

    Raises:
        WrongFolder: there is no server in it.
    """
    if not (folder / "app" / "__main__.py").is_file():
        raise WrongFolder(f"{folder} is no checkout of Lectern: it has no app/__main__.py")
    return folder.resolve()


def run(
    options: argparse.Namespace, wanted: Sequence[Place], settings: Sequence[str], work: Path
) -> tuple[dict[str, Any], bool]:
    """All rounds, each line as it is measured, then the tables.

    Returns:
        The figures, and whether every request was answered.

    Raises:
        WrongFolder, StartFailed, WrkFailed, WrongAnswer.
    """
    folders = {BEFORE: checkout(options.against), NOW: ROOT}
    for side, folder in folders.items():
        print(f"{side:9} {build(folder)}", flush=True)
        compiled(folder)
    names = sorted({place.model for place in wanted})
    onnx = {name: publish(work / "models", name) for name in names}
    seconds = options.rounds * (4 * len(wanted) * (1 + options.seconds) + START_S)
    print(f"about {seconds / 60:.0f} minutes", flush=True)
    compared = Compared()
    for number in range(1, options.rounds + 1):
        order = SIDES if number % 2 else SIDES[::-1]
        with ExitStack() as servers:
            running = {
                side: servers.enter_context(
                    lectern(work / "models", work / f"{side}.log", settings, folder=folders[side])
                )
                for side in order
            }
            one_round(number, order, running, onnx, wanted, options.seconds, work, compared)
    print("\n" + aligned(table(compared)))
    print("\n" + aligned(memory_table(compared)))
    print(
        "\nnow/before: median of the ratios of neighbours, two for each round, with the least and the most of them;\n"
        "us: CPU time of the whole process tree per request; other figures are medians.",
        flush=True,
    )
    measured = (cell for sides in compared.cells.values() for cells in sides.values() for cell in cells)
    return in_json(compared), not any(cell.errors for cell in measured)


def one_round(
    number: int,
    order: Sequence[str],
    running: dict[str, Running],
    onnx: dict[str, bytes],
    wanted: Sequence[Place],
    seconds: float,
    work: Path,
    compared: Compared,
) -> None:
    for side, server in running.items():
        compared.started[side].append(server.tree.memory())
        compared.start_s[side].append(server.start_s)
    for server in running.values():
        for name, data in onnx.items():
            letters = sorted({place.shape for place in wanted if place.model == name})
            check(server, name, data, [SHAPES[letter] for letter in letters])
    for place in wanted:
        requests = SHAPES[place.shape].requests(place.model)
        for side in (*order, *order[::-1]):
            cell = measure(running[side], requests, place.connections, seconds, work)
            compared.add(place, side, cell)
            print(
                f"round {number}  {side:6}  {place!s:9} {cell.per_s:9,.0f} req/s  p50 {cell.p50_ms:7.2f}  "
                f"p99 {cell.p99_ms:7.2f} ms  {cell.cpu_us:8,.0f} us  {cell.errors or ''}",
                flush=True,
            )
    for side, server in running.items():
        compared.ended[side].append(server.tree.memory())


def ratios(sides: dict[str, list[Cell]], of: Callable[[Cell], float]) -> list[float]:
    """Now over before, of neighbours in time."""
    pairs = zip(sides[BEFORE], sides[NOW], strict=True)
    return [of(now) / of(before) if of(before) else math.inf for before, now in pairs]


def table(compared: Compared) -> list[list[str]]:
    """One line a cell."""
    lines = [list(HEADINGS)]
    for place, sides in compared.cells.items():
        rates, costs = ratios(sides, lambda cell: cell.per_s), ratios(sides, lambda cell: cell.cpu_us)
        errors = {side: sum(count for cell in cells for count in cell.errors.values()) for side, cells in sides.items()}
        lines.append(
            [
                str(place),
                *(f"{statistics.median(cell.per_s for cell in sides[side]):,.0f}" for side in SIDES),
                *(f"{ratio:.3f}" for ratio in (statistics.median(rates), min(rates), max(rates))),
                *(f"{statistics.median(cell.p99_ms for cell in sides[side]):.2f}" for side in SIDES),
                *(f"{statistics.median(cell.cpu_us for cell in sides[side]):,.0f}" for side in SIDES),
                f"{statistics.median(costs):.3f}",
                " and ".join(f"{count} {side}" for side, count in errors.items() if count) or "0",
            ]
        )
    return lines


def memory_table(compared: Compared) -> list[list[str]]:
    """One line a side, in MB."""
    lines = [
        ["memory, MB", "RSS after start", "PSS", "RSS at the end", "PSS", "most RSS", "processes", "ready after s"]
    ]
    for side in SIDES:
        started, ended = compared.started[side], compared.ended[side]
        figures = [
            statistics.median(memory.rss for memory in started),
            statistics.median(memory.pss for memory in started),
            statistics.median(memory.rss for memory in ended),
            statistics.median(memory.pss for memory in ended),
            max(memory.peak_rss for memory in ended),
        ]
        lines.append(
            [
                side,
                *(f"{figure / 1e6:,.1f}" for figure in figures),
                str(ended[-1].processes),
                f"{min(compared.start_s[side]):.1f}",
            ]
        )
    return lines


def in_json(compared: Compared) -> dict[str, Any]:
    return {
        "cells": {
            str(place): {side: [asdict(cell) for cell in cells] for side, cells in sides.items()}
            for place, sides in compared.cells.items()
        },
        "started": {side: [asdict(memory) for memory in found] for side, found in compared.started.items()},
        "ended": {side: [asdict(memory) for memory in found] for side, found in compared.ended.items()},
        "start_s": compared.start_s,
    }


def build(folder: Path) -> str:
    """The folder and its commit, with `-dirty` where files differ from it; the folder alone where git knows none."""
    said = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return f"{folder} {said.stdout.strip()}".strip()


def compiled(folder: Path) -> None:
    """A server that compiles its own modules starts later and has a larger heap: none is to be the first to do it."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "app"], cwd=folder, check=False)
