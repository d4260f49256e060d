"""python -m training RECIPE [--option value] | LESSON | list | evaluate NAME | report NAME"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import pkgutil
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import torch
from accelerate import Accelerator

from app.core.errors import LoadRefused
from app.core.example_commands import example_commands
from app.core.manifest import Manifest, Measure
from app.core.metric_names import is_better_higher
from training import data, families, family, lessons
from training.data import DataError, tables
from training.export import PublishError
from training.loop import Interrupted
from training.metrics import onnx_model
from training.options import integers, positive
from training.recipe import Command

PLACES: Final = frozenset({"--models", "--runs"})
TOLERANCE: Final = 1e-4  # two runtimes may sum in another order; one row of 10,000 may then change sides


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    options.command = "python -m training " + shlex.join(_anywhere(arguments))  # as a person would type it again
    try:
        status: int = options.run(options)
        return status
    except (DataError, PublishError, LoadRefused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        print(f"Interrupted and saved in {stop}; the same command goes on from there.", file=sys.stderr)
        return 130


def _anywhere(arguments: list[str]) -> list[str]:
    """The words of a command without the folders that it is run in: those are of one machine, and change nothing."""
    kept, words = [], iter(arguments)
    for word in words:
        name, joined, _ = word.partition("=")
        if name not in PLACES:
            kept.append(word)
        elif not joined:
            next(words)
    return kept


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Learn a model and publish it for serving.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in _commands().items():
        own = commands.add_parser(name, help=command.help)
        command.add_options(own)
        _common(own)
        own.set_defaults(run=_train, train=command.train)
    for name, lesson in _lessons().items():
        own = commands.add_parser(name, help=(lesson.__doc__ or "").splitlines()[0])
        own.add_argument("--to", default=f"runs/{name}", metavar="FOLDER", help="for index.html (default: %(default)s)")
        own.set_defaults(run=lesson.run)
    commands.add_parser("list", help="recipes, lessons and data sets").set_defaults(run=_list)
    for name, run, text in (
        ("evaluate", _evaluate, "measure a published model again, from its ONNX file alone"),
        ("report", _report, "write a published model's report again, to another folder"),
    ):
        own = commands.add_parser(name, help=text)
        own.add_argument("name")
        own.add_argument("--version", help="default: the newest")
        own.add_argument("--data", help="default: the data set that the manifest names")
        own.add_argument("--models", default="models", metavar="FOLDER")
        if name == "report":
            own.add_argument("--to", required=True, metavar="FOLDER")
        else:
            own.add_argument("--rows", type=positive, metavar="N", help="measure on the first N rows only")
        own.set_defaults(run=run)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--name", help="of the model; default: recipe and data set")
    group.add_argument("--model-version", help="default: one more than the newest")
    group.add_argument("--models", default="models", metavar="FOLDER", help="where to publish (default: models)")
    group.add_argument("--runs", default="runs", metavar="FOLDER", help="where checkpoints are kept meanwhile")
    group.add_argument("--seeds", type=integers, default=(0,), metavar="N,N,...", help="one training each; default 0")
    group.add_argument("--fresh", action="store_true", help="forget the checkpoint of this same command")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    group.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    group.add_argument("--threads", type=positive, help="CPU threads; default: all, or 1 for a small table")
    group.add_argument("--compile", action="store_true", help="torch.compile the network (slower on the CPUs tried)")


def _commands() -> dict[str, Command]:
    """Those of every family, by name."""
    found: dict[str, Command] = {}
    for folder in pkgutil.iter_modules(families.__path__):
        found |= importlib.import_module(f"{families.__name__}.{folder.name}.recipe").COMMANDS
    return dict(sorted(found.items()))


def _lessons() -> dict[str, ModuleType]:
    """Each file of training/lessons is a lesson of that name; its `run` takes the options and gives an exit status."""
    return {
        found.name: importlib.import_module(f"{lessons.__name__}.{found.name}")
        for found in pkgutil.iter_modules(lessons.__path__)
    }


def _train(options: argparse.Namespace) -> int:
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: --device cuda: PyTorch sees no CUDA device here", file=sys.stderr)
        return 1
    cpu = options.device == "cpu" or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=cpu, mixed_precision=_precision(options.precision, cpu=cpu))
    folder = options.train(options, accelerator)
    accelerator.wait_for_everyone()
    if folder is not None:
        _announce(folder)
    return 0


def _precision(asked: str, *, cpu: bool) -> str:
    """`auto` is bf16 where the hardware multiplies in it, else fp32. Accelerate calls the latter "no"."""
    if asked == "auto":
        fast = torch.cpu._is_avx512_bf16_supported() if cpu else torch.cuda.is_bf16_supported()
        asked = "bf16" if fast else "fp32"
    return "no" if asked == "fp32" else asked


def _announce(folder: Path) -> None:
    manifest = onnx_model.load_manifest(folder)
    print(f"\nPublished {folder}")
    for measure in manifest.quality:
        print("  " + _line(measure))
    print(f"  report: {folder / 'report' / 'index.html'}")
    models = folder.parent.parent
    settings = "" if models == Path("models") else f' ARGS="--models {models}"'
    print(f"\nServe it with `make serve{settings}` (restart it if it runs), then try:\n")
    print("".join(f"  {trial}\n" for trial in example_commands(manifest, "localhost:8000")))


def _line(measure: Measure) -> str:
    spread = "" if measure.spread is None else f" +- {measure.spread:.5f}"
    line = f"{measure.name} {measure.value:.5f}{spread}" + (f" {measure.unit}" if measure.unit else "")
    if measure.goal is None:
        return line
    higher = is_better_higher(measure.name)
    met = measure.value >= measure.goal if higher else measure.value <= measure.goal
    return f"{line}  (goal {measure.goal}: {'met' if met else 'missed'})"


def _list(_: argparse.Namespace) -> int:
    print("Recipes (python -m training RECIPE --help):")
    for name, command in _commands().items():
        print(f"  {name:16}{command.help}")
    print("\nLessons (python -m training LESSON):")
    for name, lesson in _lessons().items():
        print(f"  {name:16}{(lesson.__doc__ or '').splitlines()[0]}")
    print("\nData sets (--data):")
    for name, description, place in [*data.available(), *tables.available()]:
        print(f"  {name:16}{description} ({place})")
    return 0


def _published(options: argparse.Namespace) -> tuple[Path, Manifest]:
    parent = Path(options.models) / options.name
    versions = sorted((p for p in parent.glob("[1-9]*") if p.name.isdecimal()), key=lambda p: int(p.name))
    if not versions:
        there = sorted(p.name for p in Path(options.models).glob("*") if p.is_dir())
        raise LoadRefused(f"{parent}: no such model; there are {', '.join(there) or 'none'}")
    folder = parent / options.version if options.version else versions[-1]
    return folder, onnx_model.load_manifest(folder)


def _command(folder: Path, manifest: Manifest) -> Command:
    """The command that made the model."""
    command = _commands().get(manifest.made.recipe)
    if command is None:
        raise LoadRefused(f"{folder}: made by '{manifest.made.command}', which is no recipe of this package")
    return command


def _evaluate(options: argparse.Namespace) -> int:
    folder, manifest = _published(options)
    found = family.evaluate(_command(folder, manifest).family, folder, manifest, data=options.data, rows=options.rows)
    print(f"{folder} on {found.rows:,} {found.of}, ONNX Runtime on the CPU, fp32")
    claimed = {m.name: m for m in manifest.quality} if found.claimed else {}
    agree = True
    for name, value in found.figures.items():
        print(f"  {name:9} {value:.6f}  {found.protocols[name]}")
        if name in claimed:
            agree &= math.isclose(value, claimed[name].value, abs_tol=TOLERANCE, rel_tol=TOLERANCE)
    if not claimed:
        return 0
    print("The manifest says the same." if agree else "The manifest says otherwise: this is a defect.")
    return 0 if agree else 1


def _report(options: argparse.Namespace) -> int:
    folder, manifest = _published(options)
    target = Path(options.to)
    shutil.copytree(folder, target, dirs_exist_ok=True)
    family.report(_command(folder, manifest).family, target, manifest, data=options.data)
    print(target / "report" / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
