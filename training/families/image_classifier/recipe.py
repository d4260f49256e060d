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
from training.families.image_classifier.trainer import GOALS, Classifier, Hyperparameters, for_dataset
from training.image_classification import ImageClassifiers, train_classifier
from training.options import add_flags, add_picture_data, given
from training.publish import name_model
from training.recipe import Command

FAMILY: Final = ImageClassifiers()


def add_options(parser: argparse.ArgumentParser) -> None:
    add_picture_data(parser)
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
    name_model(options, f"cnn-{dataset.name}")
    h = given(options, for_dataset(dataset))
    accelerator.print(_plan(dataset, h, accelerator))

    def make(seed: int) -> Classifier:
        return Classifier(dataset, h, seed=seed, accelerator=accelerator, compiled=options.compile)

    settings = {"recipe": "cnn", "data": dataset.name, **asdict(h)}
    return train_classifier(
        make, dataset, h, settings, options, accelerator, title="Convolutional classifier", goals=GOALS, family=FAMILY
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
        family=FAMILY,
    )
}
