"""The one training loop that all families share.

Rows lie on the device as whole tensors. The order of rows is a function of (seed, epoch) and every other random
number one of (seed, epoch, step), so a run that was killed and resumed gives the weights of one that was not.
Processes started by `accelerate launch` share each batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from training.recipe import Batch, Recipe

CHECKPOINT_FILE = "checkpoint.pt"
R = TypeVar("R", bound=Recipe)


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the run is saved and can be resumed."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: how long, which rows together, and where it is kept meanwhile."""

    folder: Path
    epochs: int
    batch_size: int
    seed: int
    title: str
    checkpoint_every_s: float = 30.0
    quiet: bool = False


class Length(Protocol):
    """What a family's hyperparameters have in common."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Fitted(Generic[R]):
    """A model that has been trained to the end of its run."""

    seed: int
    recipe: R
    history: list[dict[str, float]]  # one dict per epoch, see `fit`


def fit_seeds(
    make: Callable[[int], R],
    x: Tensor,
    y: Tensor,
    h: Length,
    settings: dict[str, Any],
    options: argparse.Namespace,
    accelerator: Accelerator,
    *,
    seeds: Sequence[int] | None = None,
    name: str | None = None,
    title: str | None = None,
) -> Iterator[Fitted[R]]:
    """Train one model per seed, each from where an earlier run of the same command left it, and yield it.

    One is let go before the next is made: take from it what is wanted.

    Args:
        make: the untrained recipe of a seed.
        x, y: as `fit` takes them, on any device.
        h: says how long to train, which rows together.
        settings: what the weights depend on besides the seed; runs are kept apart by it.
        seeds: default: `options.seeds`.
        name: that the runs are kept under; default: the model's.
        title: shown beside the progress; default: the model's name.

    Raises: Interrupted.
    """
    x, y = x.to(accelerator.device), y.to(accelerator.device)
    for seed in options.seeds if seeds is None else seeds:
        recipe = make(seed)
        run = Run(
            folder=run_folder(options, {**settings, "seed": seed}, accelerator, name=name),
            epochs=h.epochs,
            batch_size=h.batch_size,
            seed=seed,
            title=f"{title or options.name}, seed {seed}",
        )
        yield Fitted(seed=seed, recipe=recipe, history=fit(recipe, x, y, run=run, accelerator=accelerator))


def run_folder(
    options: argparse.Namespace, settings: dict[str, Any], accelerator: Accelerator, *, name: str | None = None
) -> Path:
    """Where the run of these settings is kept: the same command finds it again, another one makes another.

    Files and folders of one name are not the same data, nor are pictures brought to another `--size`.
    With `--fresh` what lies there is forgotten.
    """
    data = getattr(options, "data", None)
    if data is not None and Path(data).exists():
        settings = {**settings, "path": str(Path(data).resolve()), "size": getattr(options, "size", None)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(options.runs) / f"{name or options.name}-seed{settings['seed']}-{digest}"
    if options.fresh and accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    accelerator.wait_for_everyone()
    return folder


def fit(recipe: Recipe, x: Tensor, y: Tensor, *, run: Run, accelerator: Accelerator) -> list[dict[str, float]]:
    """Train for `run.epochs`, resuming from `run.folder` where a checkpoint lies there.

    A recipe may have a property `stopped`: where it is true after an epoch, the run ends there, also when resumed.

    Args:
        x, y: (N, ...) and (N, ...), whole, on `accelerator.device`.
    Returns:
        One dict per epoch: means of what `step` returned, what `measure` returned, seconds and rows per second.
    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the checkpoint is written.
    """
    steps = max(1, len(x) // run.batch_size)  # the rest of an epoch's rows waits for another shuffle
    batch_size = min(run.batch_size, len(x))
    position, history, sums, spent_s = _resume(recipe, run, accelerator)
    total = run.epochs * steps
    if position and not run.quiet:
        accelerator.print(f"{run.title}: going on from step {position} of {total}")
    saved_at = time.monotonic()
    with (
        _stop_signals() as stop,
        tqdm(
            total=total,
            initial=position,
            desc=run.title,
            unit="step",
            disable=run.quiet or not accelerator.is_main_process,
            dynamic_ncols=True,
            smoothing=0.05,
        ) as bar,
    ):
        while position < total and not getattr(recipe, "stopped", None):
            epoch, step = divmod(position, steps)
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(_seed(run.seed, epoch, -1)))
            order = order.to(x.device)
            while step < steps:
                started = time.perf_counter()
                rows = order[step * batch_size : (step + 1) * batch_size]
                figures = recipe.step(
                    Batch(
                        x=x[rows],
                        y=y[rows],
                        index=rows,
                        share=_share(batch_size, accelerator),
                        generator=torch.Generator(x.device).manual_seed(_seed(run.seed, epoch, step)),
                        epoch=epoch,
                        position=position,
                        progress=position / total,
                    )
                )
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                seconds = time.perf_counter() - started
                spent_s += seconds
                step += 1
                position += 1
                shown = {name: f"{total_ / step:.4g}" for name, total_ in sums.items()}
                bar.set_postfix(epoch=f"{epoch + 1}/{run.epochs}", **shown, rate=f"{batch_size / seconds:,.0f}/s")
                bar.update()
                if step < steps and (stop or time.monotonic() - saved_at > run.checkpoint_every_s):
                    _save(recipe, run, accelerator, position, history, sums, spent_s)
                    saved_at = time.monotonic()
                if stop and step < steps:
                    raise Interrupted(run.folder)
            row = {"epoch": float(epoch + 1), **{name: value / steps for name, value in sums.items()}}
            row |= recipe.measure()
            row |= {"seconds": spent_s, "rows_per_s": steps * batch_size / max(spent_s, 1e-9)}
            history.append(row)
            sums, spent_s = {}, 0.0
            _save(recipe, run, accelerator, position, history, sums, spent_s)
            saved_at = time.monotonic()
            if not run.quiet and accelerator.is_main_process:
                tqdm.write("  ".join(f"{name} {value:,.4g}" for name, value in row.items()))
            if stop and position < total:
                raise Interrupted(run.folder)
    return history


def _seed(seed: int, epoch: int, step: int) -> int:
    # Streams far apart for neighbouring seeds, epochs and steps.
    return hash((seed, epoch, step)) & 0x7FFF_FFFF_FFFF_FFFF


def _share(batch_size: int, accelerator: Accelerator) -> slice:
    size = batch_size // accelerator.num_processes
    return slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)


def _resume(
    recipe: Recipe, run: Run, accelerator: Accelerator
) -> tuple[int, list[dict[str, float]], dict[str, float], float]:
    path = run.folder / CHECKPOINT_FILE
    if not path.exists():
        return 0, [], {}, 0.0
    saved = torch.load(path, map_location=accelerator.device, weights_only=True)
    recipe.load_state(saved["recipe"])
    return saved["position"], saved["history"], saved["sums"], saved["spent_s"]


def _save(
    recipe: Recipe,
    run: Run,
    accelerator: Accelerator,
    position: int,
    history: list[dict[str, float]],
    sums: dict[str, float],
    spent_s: float,
) -> None:
    if not accelerator.is_main_process:
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / CHECKPOINT_FILE
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(
            {
                "recipe": recipe.state(),
                "position": position,
                "history": history,
                "sums": sums,
                "spent_s": spent_s,
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that fills on Ctrl-C or SIGTERM, so that a step is finished and saved before the run ends."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received:  # asked twice: at once
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: nobody can press Ctrl-C on us
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
