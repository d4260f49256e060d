"""From trained CycleGANs to a published one: selection, the one look at the test digits, its report."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from app.core.manifest import Manifest, Translation
from app.core.manifest.latent import Anomaly
from training.data.domains import Pair, load
from training.export import Export
from training.families.cyclegan import report as page
from training.families.cyclegan.metrics import (
    PublishedTranslators,
    ScoredDirection,
    absolute_errors,
    figures,
    in_8_bits,
    protocols,
)
from training.family import Family, Measured
from training.image_classification import spread_rows
from training.publish import Draft, publish, read_json, write_json
from training.reporting.latency import kept_latency
from training.reporting.page import write

MAX_ROWS: Final = 64
HELD_ERRORS: Final = 5000
ROWS_PER_PASS: Final = 250
HISTORY_FILE: Final = "report/history.json"
GOALS: Final = {"accuracy": 0.97, "psnr": 22.0}  # of each direction


@dataclass(frozen=True, kw_only=True)
class TrainedTranslators:
    """One trained pair of translators: uint8 pictures -> the other domain's in [0, 1], on the CPU in fp32."""

    seed: int
    there: nn.Module  # from the pair's first domain to its second
    back: nn.Module
    history: list[dict[str, float]]  # by step, or by epoch
    held_cycle: float  # mean absolute error of held-out returns, both ways
    seconds: float  # of training


def publish_translators(
    trained: list[TrainedTranslators], pair: Pair, *, options: argparse.Namespace, precision: str
) -> Path:
    """Publish the translators with the smallest held-out cycle error.

    Returns: the published folder. Raises: PublishError.
    """
    chosen = min(trained, key=lambda one: one.held_cycle)
    first, second = (domain.name for domain in pair.domains)
    y = pair.digits.test_y.numpy()
    shown = [spread_rows(x, y) for x in pair.test]
    there, back = f"{first}_to_{second}", f"{second}_to_{first}"

    held = held_errors(chosen, pair)
    translations = (
        Translation(graph=there, source=first, target=second, cycle=Anomaly(errors=held[0])),
        Translation(graph=back, source=second, target=first, cycle=Anomaly(errors=held[1])),
    )
    return publish(
        FAMILY,
        pair,
        Draft(
            task="translate",
            modality="image",
            title=f"CycleGAN, {pair.domains[0].title.lower()} and {pair.domains[1].title.lower()}",
            summary=f"Translates pictures: {pair.domains[0].title.lower()} become {pair.domains[1].title.lower()}, and "
            f"the reverse. Trained on two sets of {pair.title}, no digit in both: it never saw a pair.",
            data=pair.data_source,
            max_rows=MAX_ROWS,
            train_s=chosen.seconds,
            precision=precision,
            seeds=(chosen.seed,),
            goals={f"{figure}_{way}": goal for figure, goal in GOALS.items() for way in (there, back)},
            fields={
                "labels": pair.digits.labels,
                "domains": pair.domains,
                "translations": translations,
            },
        ),
        [
            Export(graph=there, module=chosen.there, inputs={"image": shown[0]}, outputs=("translated",)),
            Export(graph=back, module=chosen.back, inputs={"image": shown[1]}, outputs=("translated",)),
        ],
        options=options,
        keep=lambda folder, _: write_json(folder / HISTORY_FILE, chosen.history),
    )


@torch.no_grad()
def held_errors(translators: TrainedTranslators, pair: Pair) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Cycle errors of held-out pictures, rising, of the first domain's and of the second's."""
    found = []
    for x, way, home in zip(
        pair.held, (translators.there, translators.back), (translators.back, translators.there), strict=True
    ):
        errors: list[float] = []
        for rows in torch.split(x[:HELD_ERRORS], ROWS_PER_PASS):
            made = torch.from_numpy(in_8_bits(way(rows).numpy()))
            errors += absolute_errors(home(made).numpy(), rows.numpy()).tolist()
        found.append(tuple(sorted(errors)))
    return found[0], found[1]


class CycleGans(Family[Pair]):
    """The data set is a pair of domains, by its name."""

    def load_data(self, manifest: Manifest, data: str | None) -> Pair:
        return load(data or manifest.data.spec)

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Pair, *, data: str | None, rows: int | None
    ) -> Measured:
        scored = scores(folder, manifest, dataset, rows)
        found = figures(scored)
        return Measured(
            rows=len(scored[0].y),
            of=f"test digits of {dataset.title}",
            figures=found,
            protocols=protocols(dataset),
            how="; from the ONNX graphs in fp32, on the test digits",
            units={name: "dB" for name in found if name.startswith("psnr")},
            claimed=data is None and len(scored[0].y) == len(dataset.digits.test_y),
            details=scored,
        )

    def write_report(self, folder: Path, manifest: Manifest, dataset: Pair, measured: Measured | None = None) -> None:
        model = PublishedTranslators(folder, manifest)
        scored = scores(folder, manifest, dataset, None) if measured is None else measured.details
        report = page.CycleReport(
            manifest=manifest,
            history=read_json(folder / HISTORY_FILE),
            scored=scored,
            there_and_back=model.there_and_back,
            translate=model.translate,
            plain=dataset.digits.test_x.numpy(),
            latency=kept_latency(folder, scored[0].way.graph),
        )
        write(report.page(), folder)


def scores(folder: Path, manifest: Manifest, pair: Pair, rows: int | None) -> list[ScoredDirection]:
    """Both directions on the first test digits, or all."""
    a, b = (x[:rows].numpy() for x in pair.test)
    return PublishedTranslators(folder, manifest).score(pair, (a, b), pair.digits.test_y[:rows].numpy())


FAMILY: Final = CycleGans()
