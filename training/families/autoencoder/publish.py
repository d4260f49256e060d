"""From trained autoencoders to a published one: selection, the one look at the test set, its report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.errors import LoadRefused
from app.core.manifest import Manifest
from app.core.manifest.latent import Anomaly, Latent
from training.data.base import ImageDataset
from training.export import Export
from training.families.autoencoder import report as page
from training.families.autoencoder.metrics import PROTOCOLS, ROWS_PER_RUN, PublishedAutoencoder, figures, pca_errors
from training.families.autoencoder.network import FourierDecoder
from training.families.autoencoder.search import SearchingEncoder
from training.family import Measured, PictureFamily
from training.image_classification import spread_rows
from training.metrics import onnx_model
from training.metrics.images import squared_errors
from training.networks.pictures import pixels
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency
from training.reporting.page import write

NEAREST: Final = 3  # codebook entries that the search starts from, besides the encoder's proposal
STEPS: Final = 6  # Gauss-Newton steps from each
STEPS_FROM_GRID: Final = 2  # with one or two numbers the codebook is a grid, and its entries are near already
MAX_ROWS: Final = 16  # rows in one run of the search, which more rows hardly speed up and others wait for
MOST_ERRORS: Final = 2000  # kept for p-values
SIZES_ROWS: Final = 1000  # held-out rows on which latent sizes are compared
FIGURES_FILE: Final = "report/figures.json"
GOALS: Final = {("mnist", 2): 0.030, ("mnist", 5): 0.0165}


class HalfStored(nn.Module):
    """`module` with its weights rounded to half precision and stored so; it computes in single precision.

    The rounding costs nothing that shows in the errors and halves the file.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        self.names = list(module.state_dict())
        for i, value in enumerate(module.state_dict().values()):
            self.register_buffer(f"half_{i}", value.to(torch.float16, copy=True))

    def forward(self, x: Tensor) -> Tensor:
        halves = dict(self.named_buffers())
        weights = {name: halves[f"half_{i}"].float() for i, name in enumerate(self.names)}
        out: Tensor = torch.func.functional_call(self.module, weights, (x,))
        return out


class Encode(nn.Module):
    """(N, H, W, C) uint8 -> latents (N, Z)."""

    def __init__(self, encoder: SearchingEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.encoder(pixels(image))
        return out


class Decode(nn.Module):
    """Latents (N, Z) -> (N, H, W, C) in [0, 1]."""

    def __init__(self, decoder: FourierDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        out: Tensor = self.decoder(latent).permute(0, 2, 3, 1)
        return out


class TrainedAutoencoder:
    """One trained autoencoder on the CPU in fp32, with the weights as they are served."""

    def __init__(self, seed: int, encoder: SearchingEncoder, history: list[dict[str, float]]) -> None:
        self.seed, self.history = seed, history
        self.search = encoder
        self.encoder, self.decoder = HalfStored(Encode(encoder)), HalfStored(Decode(encoder.decoder))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """(N, H, W, C) uint8 -> (N, Z)."""
        return torch.cat([self.encoder(part) for part in torch.split(x, ROWS_PER_RUN)])

    @torch.no_grad()
    def errors(self, x: Tensor, codes: Tensor | None = None) -> NDArray[np.float64]:
        """Mean squared error of each picture and its reconstruction: (N,)."""
        codes = self.codes(x) if codes is None else codes
        parts = zip(torch.split(x, ROWS_PER_RUN), torch.split(codes, ROWS_PER_RUN), strict=True)
        errors = [(self.decoder(z) - part.float() / 255).square().flatten(1).mean(1) for part, z in parts]
        return torch.cat(errors).double().numpy()

    def without_search(self, x: Tensor, *, nearest: int, steps: int) -> float:
        """The mean squared error where less is searched, or nothing."""
        before = self.search.nearest, self.search.steps
        self.search.nearest, self.search.steps = nearest, steps
        try:
            return float(self.errors(x).mean())
        finally:
            self.search.nearest, self.search.steps = before


def flat(x: Tensor) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C * H * W) in [0, 1]."""
    return pixels(x).flatten(1)


def publish_autoencoder(
    autoencoders: list[TrainedAutoencoder],
    by_size: Mapping[int, TrainedAutoencoder],
    dataset: ImageDataset,
    *,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the coder with the least held-out error.

    `by_size` are shorter trainings with other latent sizes, for the report's curve.

    Returns: the published folder. Raises: PublishError.
    """
    held_x = dataset.held_x.cpu()
    few_x = held_x[:SIZES_ROWS]
    codes = [c.codes(held_x) for c in autoencoders]
    errors = [c.errors(held_x, z) for c, z in zip(autoencoders, codes, strict=True)]
    best = int(np.argmin([e.mean() for e in errors]))
    chosen, held_errors = autoencoders[best], np.sort(errors[best])
    size = codes[best].shape[1]
    low, high = np.quantile(codes[best].numpy(), [0.01, 0.99], axis=0)
    kept = held_errors[np.linspace(0, len(held_errors) - 1, min(MOST_ERRORS, len(held_errors))).round().astype(int)]
    sizes = sorted({size, *by_size})
    found = {
        "history": chosen.history,
        "held": {
            "rows": len(held_x),
            "mse": float(held_errors.mean()),
            "proposal_mse": chosen.without_search(held_x, nearest=0, steps=0),
            "codebook_mse": chosen.without_search(held_x, nearest=NEAREST, steps=0),
        },
        "sizes": {
            "rows": len(few_x),
            "this": float(errors[best][: len(few_x)].mean()),
            "epochs": getattr(options, "sizes_epochs", None),
            "coder": {n: float(c.errors(few_x).mean()) for n, c in by_size.items()},
            "pca": pca_errors(dataset.train_x.cpu().numpy(), few_x.numpy(), sizes),
        },
    }
    test_x = dataset.test_x.cpu()
    shown = spread_rows(test_x, dataset.test_y.numpy())
    return publish(
        FAMILY,
        dataset,
        Draft(
            task="reconstruct",
            modality="image",
            title=f"Autoencoder with {size} number{'s' * (size != 1)}, {dataset.title}",
            summary=_summary(dataset, size),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=total_seconds(chosen.history),
            precision=precision,
            seeds=(chosen.seed,),
            goals={"mse": GOALS[dataset.name, size]} if (dataset.name, size) in GOALS else {},
            fields={
                "labels": dataset.labels,
                "picture": dataset.picture,
                "latent": Latent(size=size, low=tuple(low.tolist()), high=tuple(high.tolist())),
                "anomaly": Anomaly(errors=tuple(float(f"{e:.6g}") for e in kept)) if len(kept) >= 20 else None,
            },
        ),
        [
            Export(graph="encoder", module=chosen.encoder, inputs={"image": shown}, outputs=("latent",)),
            Export(graph="decoder", module=chosen.decoder, inputs={"latent": chosen.codes(shown)}, outputs=("image",)),
        ],
        options=options,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, found),
    )


class Autoencoders(PictureFamily):
    def measure(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        x = (dataset.everything()[0] if data else dataset.test_x)[:rows].cpu().numpy()
        model = PublishedAutoencoder(folder, manifest)
        codes = model.encode(x)
        return Measured(
            rows=len(x),
            of=f"rows of {dataset.title}",
            figures=figures(squared_errors(model.decode(codes), x)),
            protocols=PROTOCOLS,
            how="; this model's ONNX graphs in fp32, on the test rows",
            units={"psnr": "dB"},
            claimed=data is None and len(x) == len(dataset.test_x),
            details=codes,  # once: the search takes its time
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, measured: Measured | None = None
    ) -> None:
        model = PublishedAutoencoder(folder, manifest)
        test_x = dataset.test_x.cpu().numpy()
        report = page.AutoencoderReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            encode=model.encode,
            decode=model.decode,
            siblings=siblings(folder, manifest),
            test_x=test_x,
            test_y=dataset.test_y.numpy(),
            test_codes=model.encode(test_x) if measured is None else measured.details,
            latency=kept_latency(folder, "encoder"),
            decoder_latency=kept_latency(folder, "decoder"),
        )
        write(report.page(), folder)


FAMILY: Final = Autoencoders()


def siblings(folder: Path, manifest: Manifest) -> dict[int, page.Reconstruct]:
    """Autoencoders of the same data and other latent sizes that lie beside `folder`'s model, by latent size."""
    found: dict[int, page.Reconstruct] = {}
    for path in sorted(folder.resolve().parent.parent.glob("*/[1-9]*")):
        try:
            other = onnx_model.load_manifest(path)
            if other.made.recipe != manifest.made.recipe or other.name == manifest.name or other.latent is None:
                continue
            if (other.data.spec, other.picture) == (manifest.data.spec, manifest.picture):
                model = PublishedAutoencoder(path, other)
                found[other.latent.size] = lambda x, model=model: model.decode(model.encode(x))  # type: ignore[misc]
        except LoadRefused:
            continue  # a neighbour's defect is the neighbour's
    return found


def _summary(dataset: ImageDataset, size: int) -> str:
    p = dataset.picture
    what = "handwritten characters" if p.kind == "digit" else "pictures"
    return (
        f"Codes {what} as {size} number{'s' * (size != 1)} and draws them again, and says how unusual its error is. "
        f"Trained on {dataset.title}; takes {p.height}x{p.width} pixels in {'grey' if p.channels == 1 else 'colour'}, "
        "made from any picture sent."
    )
