"""From trained variational autoencoders to a published one: selection, the one look at the test set, its report."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from app.core.manifest import Manifest
from app.core.manifest.latent import Anomaly, Latent
from training.data import dataset_of
from training.data.base import ImageDataset
from training.data.binarise import PROTOCOL, binarised
from training.export import Export
from training.families.vae import report as page
from training.families.vae.likelihood import Likelihood
from training.families.vae.metrics import PROTOCOLS, PublishedVae, figures
from training.family import Family, Measured
from training.image_classification import spread_rows
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency
from training.reporting.page import write

MAX_ROWS: Final = 64
FIGURES_FILE: Final = "report/figures.json"
BOUNDS: Final = (1, 10, 100, 1000)
GOAL_ON_MNIST: Final = 86.0  # nats; of the model that is made to be probable, not of the one with two latents


@dataclass(frozen=True, kw_only=True)
class TrainedVae:
    """One trained model: uint8 pictures -> mu, logvar, and latents -> probabilities, on the CPU in fp32."""

    seed: int
    encoder: nn.Module
    decoder: nn.Module
    history: list[dict[str, float]]
    held_loss: float  # nats, of these weights


def publish_vae(
    vaes: list[TrainedVae],
    dataset: ImageDataset,
    grey: ImageDataset,
    *,
    options: argparse.Namespace,
    precision: str,
    latent: int,
) -> Path:
    """Publish the coder with the highest held-out ELBO.

    Args:
        dataset: what was trained on and is scored. grey: the same rows as the server sees them.

    Returns: the published folder. Raises: PublishError.
    """
    chosen = min(vaes, key=lambda vae: vae.held_loss)
    shown = spread_rows(grey.test_x.cpu(), grey.test_y.numpy())
    held_x = grey.held_x.cpu().numpy()
    with torch.no_grad():
        codes = chosen.encoder(shown)[0]
        held = torch.cat([chosen.encoder(x)[0] for x in torch.split(grey.held_x.cpu(), 500)])
        back = torch.cat([chosen.decoder(mu) for mu in torch.split(held, 500)]).numpy()
    low, high = np.quantile(held.numpy(), [0.01, 0.99], axis=0)
    held_errors = np.sort(((back - held_x / np.float32(255)) ** 2).reshape(len(back), -1).mean(axis=1))
    goal = {"nll": GOAL_ON_MNIST} if options.data == "mnist" and latent > 2 else {}
    data = VaeData(grey=grey, trained_on=dataset)
    kept = Path(options.runs) / f"{options.name}-scores"
    return publish(
        FAMILY,
        data,
        Draft(
            task="reconstruct",
            modality="image",
            title=f"Variational autoencoder, {latent} latents, {grey.title}",
            summary=f"Codes a picture as {latent} numbers with their uncertainty (mu, logvar), draws the picture that "
            f"a code stands for, and new ones from the standard normal prior. Trained on {grey.title}"
            f"{', statically binarised' if dataset is not grey else ''}.",
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=total_seconds(chosen.history),
            precision=precision,
            seeds=(chosen.seed,),
            goals=goal,
            fields={
                "labels": grey.labels,
                "picture": grey.picture,
                "latent": Latent(size=latent, low=tuple(low.tolist()), high=tuple(high.tolist()), prior="normal"),
                "anomaly": Anomaly(errors=tuple(held_errors.astype(float).tolist()[:5000]))
                if len(held_errors) >= 20
                else None,
            },
        ),
        [
            Export(graph="encoder", module=chosen.encoder, inputs={"image": shown}, outputs=("mu", "logvar")),
            Export(graph="decoder", module=chosen.decoder, inputs={"latent": codes}, outputs=("image",)),
        ],
        options=options,
        measure=lambda folder, manifest: measured(folder, manifest, data, kept=kept),
        keep=lambda folder, found: write_json(folder / FIGURES_FILE, {"history": chosen.history, **found.shown}),
    )


def _shown(found: Likelihood) -> dict[str, Any]:
    """What the report shows of the scoring, which takes too long to do again for it."""
    most = found.log_w.shape[1]
    bounds = found.bounds()
    return {
        "kl": found.kl.mean(axis=0).tolist(),
        "nll_by_samples": {str(k): found.nll(k) for k in BOUNDS if k <= most},
        "nll_standard_error": float(bounds.std(ddof=1) / len(bounds) ** 0.5) if len(bounds) > 1 else None,
    }


@dataclass(frozen=True, kw_only=True)
class VaeData:
    """The same rows twice: `grey` as the server sees them, `trained_on` as they are trained on and scored."""

    grey: ImageDataset
    trained_on: ImageDataset


def measured(
    folder: Path,
    manifest: Manifest,
    dataset: VaeData,
    *,
    data: str | None = None,
    rows: int | None = None,
    kept: Path | None = None,
) -> Measured:
    """`Family.measure`; what is scored is `kept` in that folder, so that a scoring that was stopped goes on."""
    grey, trained_on = dataset.grey, dataset.trained_on
    x, plain = ((d.everything()[0] if data else d.test_x)[:rows].cpu().numpy() for d in (trained_on, grey))
    model = PublishedVae(folder, manifest)
    found = model.score(x, kept=kept, quiet=False)
    scored = figures(found, model.errors(plain))
    return Measured(
        rows=len(x),
        of=f"rows of {grey.title}" + (", statically binarised" if trained_on is not grey else ""),
        figures=scored,
        protocols=PROTOCOLS,
        how="; from the ONNX graphs in fp32, on the test rows",
        remarks={"nll": f"; {PROTOCOL}"} if trained_on is not grey else {},
        units={name: "nats" for name in scored if name != "mse"},
        claimed=data is None and len(x) == len(trained_on.test_x),
        shown=_shown(found),
    )


class VariationalAutoencoders(Family[VaeData]):
    def load_data(self, manifest: Manifest, data: str | None) -> VaeData:
        grey = dataset_of(manifest, data)
        return VaeData(grey=grey, trained_on=binarised(grey) if PROTOCOL in manifest.data.note else grey)

    def measure(
        self, folder: Path, manifest: Manifest, dataset: VaeData, *, data: str | None, rows: int | None
    ) -> Measured:
        return measured(folder, manifest, dataset, data=data, rows=rows)

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: VaeData, measured: Measured | None = None
    ) -> None:
        model = PublishedVae(folder, manifest)
        kept = read_json(folder / FIGURES_FILE)
        report = page.VaeReport(
            manifest=manifest,
            history=kept["history"],
            kl=np.array(kept["kl"]),
            nll_by_samples={int(k): v for k, v in kept["nll_by_samples"].items()},
            nll_standard_error=kept["nll_standard_error"],
            encode=model.encode,
            decode=model.decode,
            test_x=dataset.grey.test_x.numpy(),
            test_y=dataset.grey.test_y.numpy(),
            scored_x=dataset.trained_on.test_x.numpy(),
            latency=kept_latency(folder, "decoder"),
        )
        write(report.page(), folder)


FAMILY: Final = VariationalAutoencoders()
