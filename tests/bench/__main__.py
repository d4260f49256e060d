"""python -m tests.bench: the server under load, beside bare uvicorn and raw ONNX Runtime, all in one run.

    python -m tests.bench [--cells A1,A32,mlp/A32] [--seconds 5] [--rounds 2] [-- --workers 2 --threads 1]
    python -m tests.bench --against FOLDER [--seconds 2] [--rounds 5] [-- --workers 2]
    python -m tests.bench --same FOLDER
    python -m tests.bench --overload 60
    python -m tests.bench --soak 30
    python -m tests.bench --streams [-- --threads 1]
    python -m tests.bench --words

What stands after `--` are the server's own settings. Every answer is compared with ONNX Runtime's before the load and
after it. The load shares the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.bench import compare, models, overload, same, soak, streams, words
from tests.bench.bare import bare_uvicorn
from tests.bench.cells import DEFAULT, Place, Results, aligned, places, raw_table, table
from tests.bench.checks import WrongAnswer, check
from tests.bench.load import WrkFailed, measure, wrk_path, wrk_version
from tests.bench.processes import Running, StartFailed, lectern
from tests.bench.shapes import SHAPES
from tests.bench.yardsticks import raw_onnxruntime

OK: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
SECONDS: Final = 5.0
ROUNDS: Final = 2


def parser() -> argparse.ArgumentParser:
    shapes = "; ".join(f"{letter} {shape.what}" for letter, shape in SHAPES.items())
    made = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--cells", help=f"form and connections: {shapes} (default: {DEFAULT})")
    made.add_argument(
        "--seconds", type=float, help=f"of each cell, after a fifth of that to warm up (default: {SECONDS:g})"
    )
    made.add_argument("--rounds", type=int, help=f"of everything; the table has medians (default: {ROUNDS})")
    made.add_argument("--no-bare", action="store_true", help="leave bare uvicorn out")
    made.add_argument("--out", type=Path, help="write every figure there, as JSON")
    compare.add_flags(made)
    same.add_flags(made)
    overload.add_flags(made)
    soak.add_flags(made)
    streams.add_flags(made)
    words.add_flags(made)
    return made


def main(arguments: Sequence[str]) -> int:
    ours, settings = list(arguments), []
    if "--" in ours:
        at = ours.index("--")
        ours, settings = ours[:at], ours[at + 1 :]
    options = parser().parse_args(ours)
    compares = options.against is not None
    try:
        wanted = places(options.cells or (compare.CELLS if compares else DEFAULT))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_USAGE
    needs_wrk = options.soak is None and options.same is None and not options.streams and not options.words
    if needs_wrk and wrk_path() is None:
        print("wrk is missing: install it (Debian and Ubuntu: apt-get install wrk)", file=sys.stderr)
        return WRONG_USAGE
    options.seconds = options.seconds or (compare.SECONDS if compares else SECONDS)
    options.rounds = options.rounds or (compare.ROUNDS if compares else ROUNDS)
    about = machine(settings)
    print("\n".join(f"{name:9} {value}" for name, value in about.items()), flush=True)
    warn_if_busy()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            work = Path(folder)
            if options.soak is not None:
                figures, good = soak.run(options, settings, work)
            elif options.streams:
                figures, good = streams.run(options, settings, work)
            elif options.words:
                figures, good = words.run(options, settings, work)
            elif options.overload is not None:
                figures, good = overload.run(options, settings, work)
            elif options.same is not None:
                figures, good = same.run(options, settings, work)
            elif options.against is not None:
                figures, good = compare.run(options, wanted, settings, work)
            else:
                figures, good = bench(options, wanted, settings, work), True
    except (compare.WrongFolder, models.WrongModel, StartFailed, WrkFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return FAILED
    if options.out:
        options.out.write_text(json.dumps({"about": about, **figures}, indent=1), encoding="utf-8")
    return OK if good else FAILED


def machine(settings: Sequence[str]) -> dict[str, str]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    packages = ("onnxruntime", "uvicorn", "uvloop", "httptools", "fastapi", "numpy")
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {found}" for name in packages if (found := installed(name))]
    if wrk_path():
        versions.append(wrk_version())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {cpu}, Linux {platform.release()}",
        "versions": ", ".join(versions),
        "settings": " ".join(settings) or "the server's own defaults",
        "cnn": os.environ.get(models.EXTERNAL) or "made here",
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


def warn_if_busy() -> None:
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"note: something else runs here (load average {load:.1f}): the figures will be of both", flush=True)


def bench(options: argparse.Namespace, wanted: Sequence[Place], settings: Sequence[str], work: Path) -> dict[str, Any]:
    """All rounds, each line as it is measured, then the tables."""
    names = sorted({place.model for place in wanted})
    onnx = {name: models.publish(work / "models", name) for name in names}
    each_s = 1.2 * options.seconds * (1 if options.no_bare else 2)
    print(f"about {options.rounds * (len(wanted) * each_s + len(names) * 9 + 10) / 60:.0f} minutes", flush=True)
    results = Results()
    for number in range(1, options.rounds + 1):
        for name in names:
            results.raw.setdefault(name, []).append(raw_onnxruntime(name, onnx[name]))
        if not options.no_bare:
            with bare_uvicorn(work / "bare.log") as server:
                for place in wanted:
                    requests = SHAPES[place.shape].requests(place.model)
                    cell = measure(server, requests, place.connections, options.seconds, work)
                    results.bare.setdefault(place, []).append(cell)
                    print(f"round {number}  bare     {place!s:9} {cell.per_s:9,.0f} req/s", flush=True)
        with lectern(work / "models", work / "server.log", settings) as server:
            results.start_s.append(server.start_s)
            check_all(server, onnx, wanted, results)
            for place in wanted:
                requests = SHAPES[place.shape].requests(place.model)
                cell = measure(server, requests, place.connections, options.seconds, work)
                results.lectern.setdefault(place, []).append(cell)
                print(
                    f"round {number}  Lectern  {place!s:9} {cell.per_s:9,.0f} req/s  p50 {cell.p50_ms:7.2f}  "
                    f"p99 {cell.p99_ms:7.2f} ms  {cell.cpu_us:8,.0f} us  {cell.errors or ''}",
                    flush=True,
                )
            check_all(server, onnx, wanted, results)
    report(results)
    return in_json(results)


def check_all(server: Running, onnx: dict[str, bytes], wanted: Sequence[Place], results: Results) -> None:
    for name in onnx:
        letters = sorted({place.shape for place in wanted if place.model == name})
        worst = check(server, name, onnx[name], [SHAPES[letter] for letter in letters])
        results.worst[name] = max(worst, results.worst.get(name, 0.0))


def report(results: Results) -> None:
    print("\n" + aligned(table(results)))
    print("\n" + aligned(raw_table(results)))
    last = [cells[-1].memory for cells in results.lectern.values()][-1]
    worst = ", ".join(f"{name} {value:.1g}" for name, value in results.worst.items())
    print(
        f"\nready after {min(results.start_s):.1f} s; {last.processes} processes; "
        f"most RSS {last.peak_rss / 1e6:,.0f} MB\n"
        f"answers compared one by one and from 16 clients at once, before and after: largest difference {worst}\n"
        "server us: CPU time of the whole process tree per request; model us: what ONNX Runtime alone takes for the\n"
        "same rows (the cheapest batch above; at one connection a batch of its own); overhead: their difference.\n"
        "of raw: rows/s against two sessions of one thread alone on the machine; bare: one uvicorn with a fixed reply.",
        flush=True,
    )


def in_json(results: Results) -> dict[str, Any]:
    return {
        "lectern": {str(place): [asdict(cell) for cell in cells] for place, cells in results.lectern.items()},
        "bare": {str(place): [asdict(cell) for cell in cells] for place, cells in results.bare.items()},
        "raw": {model: [asdict(raw) for raw in rounds] for model, rounds in results.raw.items()},
        "model_us": {str(place): results.model_us(place) for place in results.lectern},
        "start_s": results.start_s,
        "worst": results.worst,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
