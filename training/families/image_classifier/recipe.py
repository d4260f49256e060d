"""Convolutional classifiers: digits, photos, or a folder of your own pictures."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.data import load
from training.data.base import ImageDataset
from training.export import check_can_publish
from training.families.image_classifier.trainer import GOALS, Classifier, Hyperparameters, Logits, for_dataset
from training.image_classification import Candidate, evaluate, finish, report
from training.loop import Run, fit, run_folder
from training.options import add_flags, given, positive
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="a data set of `python -m training list`, or a folder")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")
    add_flags(
        parser.add_argument_group(
            "hyperparameters (these defaults are for photos; digits and small folders have their own)"
        ),
        Hyperparameters,
    )


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one network per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    dataset = load(options.data, size=options.size)
    options.name = options.name or f"cnn-{dataset.name}"
    check_can_publish(Path(options.models), options.name, options.model_version)
    h = given(options, for_dataset(dataset))
    accelerator.print(_plan(dataset, h, accelerator))
    x, y = dataset.train_x.to(accelerator.device), dataset.train_y.to(accelerator.device)
    candidates = []
    for seed in options.seeds:
        recipe = Classifier(dataset, h, seed=seed, accelerator=accelerator, compiled=options.compile)
        run = Run(
            folder=run_folder(options, {"recipe": "cnn", "data": dataset.name, "seed": seed, **asdict(h)}, accelerator),
            epochs=h.epochs,
            batch_size=h.batch_size,
            seed=seed,
            title=f"{options.name}, seed {seed}",
        )
        history = fit(recipe, x, y, run=run, accelerator=accelerator)
        network = Logits(recipe.average, mirror=h.mirror).to("cpu").eval()
        candidates.append(Candidate(seed=seed, network=network, history=history))
    if not accelerator.is_main_process:
        return None
    title = f"Convolutional classifier, {dataset.title}"
    return finish(
        candidates,
        dataset,
        options=options,
        precision=accelerator.mixed_precision,
        title=title,
        goals=GOALS.get(options.data, {}),
    )


def _plan(dataset: ImageDataset, h: Hyperparameters, accelerator: Accelerator) -> str:
    """What is about to happen, for the person who waits."""
    height, width, channels = dataset.train_x.shape[1:]
    rows = [len(dataset.train_y), len(dataset.held_y), len(dataset.test_y)]
    threads = f", {torch.get_num_threads()} threads" if accelerator.device.type == "cpu" else ""
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    return (
        f"{dataset.title}: {len(dataset.labels)} classes, {rows[0]:,} rows to train, {rows[1]:,} held out, "
        f"{rows[2]:,} to test; {height}x{width} pixels, {'colour' if channels == 3 else 'grey'}\n"
        f"{h.epochs} epochs of {max(1, rows[0] // h.batch_size)} steps on {accelerator.device.type}, "
        f"{precision}{threads}"
    )


COMMANDS: Final = {
    "cnn": Command(
        help="Convolutional classifiers: digits, photos, or a folder of your own pictures.",
        add_options=add_options,
        train=train,
        evaluate=evaluate,
        report=report,
    )
}
