"""From a trained denoiser to a published diffusion model, many steps or few: its graphs, figures and report."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from app.core.manifest import Manifest
from app.core.manifest.sampling import Guidance, SamplerSpec, Sampling
from training.data.base import DataError, ImageDataset
from training.export import Export
from training.families.diffusion import generation as generation
from training.families.diffusion import report as page
from training.families.diffusion.metrics import score
from training.families.diffusion.network import Denoiser, UNet
from training.families.diffusion.noise_level import train_estimator
from training.family import Measured, PictureFamily
from training.image_classification import spread_rows
from training.metrics.reference_classifiers import reference_classifiers
from training.networks.pictures import pixels
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency
from training.reporting.page import write

MAX_ROWS: Final = 64
LEVELS_ROWS: Final = 100  # pictures
SHOWN_FILE: Final = "report/figures.json"
MADE_BY: Final = (
    "the checkpoint of a run of the recipe `diffusion` on the same data: `python -m training diffusion --data mnist` "
    "leaves it in runs/diffusion-mnist-seed0-*/checkpoint.pt"
)
# As standard deviations of pixels in [0, 1]. So far up because the app begins with noise alone, without the mean
# picture that is beneath noised ones: beginning at 20, FD ratios of 1,500 pictures in 8 evaluations to held-out rows
# were 1.7, and at 80 they are 1.2.
MANY: Final = Sampling(
    sigma_min=0.05,
    sigma_max=80.0,
    rho=5.0,
    samplers=(
        SamplerSpec(name="multistep", steps=8, max_steps=64),
        SamplerSpec(name="heun", steps=8, max_steps=32),
        SamplerSpec(name="ddim", steps=16, max_steps=100),
        SamplerSpec(name="euler", steps=16, max_steps=100),
        SamplerSpec(name="ancestral", steps=32, max_steps=250),
    ),
    guidance=Guidance(weight=1.0, max_weight=8.0),
)
# The levels at which the teacher's trajectories were kept (see trajectories.py). Between them the student is
# worse: in four evaluations FD ratios of 4,000 pictures to held-out rows are 2.2 on them and up to 6.8 off them.
FEW: Final = Sampling(
    sigma_min=0.9967,
    sigma_max=20.0,
    ladder=(20.0, 15.5, 12.06, 6.993, 3.872, 2.03, 0.9967),
    samplers=(SamplerSpec(name="consistency", steps=2, max_steps=4),),
)
GOALS_ON_MNIST: Final = {
    "diffusion": {
        "fd_ratio_16": 1.4,
        "fd_ratio_8": 1.7,
        "fd_ratio_4": 2.5,
        "class_share": 0.993,
        "cas_gap": 0.5,
        "memorisation": 0.97,
        "gain_bm3d_psnr": 3.0,
        "gain_nlm_psnr": 3.0,
        "read_accuracy": 0.985,
    },
    "consistency": {"fd_ratio_1": 3.0, "fd_ratio_2": 3.0, "fd_ratio_4": 2.5, "class_share": 0.99, "memorisation": 0.97},
}
ESTIMATED_LEVELS: Final = (0.01, 2.5)  # what the estimator of the noise level learns to tell


@dataclass(frozen=True, kw_only=True)
class TrainedDenoiser:
    """One trained denoiser (B, C, H, W), on the CPU in fp32; `few` where it was trained for one to four steps."""

    seed: int
    denoiser: Denoiser
    history: list[dict[str, float]]
    few: bool = False


class ServedDenoiser(nn.Module):
    """What is exported: x (B, H, W, C), sigma (B,), label (B,) -> E[x0 | x] (B, H, W, C)."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        denoised: Tensor = self.denoiser(x.permute(0, 3, 1, 2), sigma, label)
        return denoised.permute(0, 2, 3, 1)


def noised(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """q(x | x0): x0 + sigma * noise, channels-last. x0, noise (B, C, H, W), sigma (B,)."""
    return (x0 + sigma[:, None, None, None] * noise).contiguous(memory_format=torch.channels_last)


def fresh(dataset: ImageDataset, *, widths: Sequence[int], blocks: Sequence[int], told: int) -> Denoiser:
    """A denoiser in units of the data set's pixels, untrained. Raises: DataError where the pictures do not fit it."""
    height, width = dataset.train_x.shape[1:3]
    if height % 4 or width % 4:
        raise DataError(f"{dataset.title}: {height} x {width} pixels, expected both sides to be multiples of 4")
    sample = pixels(dataset.train_x[:: max(1, len(dataset.train_x) // 10_000)])
    (high, low), (outside, inside) = widths, blocks
    network = UNet(
        channels=sample.shape[1],
        classes=dataset.classes,
        widths=(high, low),
        blocks=(outside, inside),
        conditioning=told,
    )
    return Denoiser(network, mean=float(sample.mean()), sigma_data=float(sample.std()))


def load_teacher(checkpoint: Path, dataset: ImageDataset) -> tuple[Denoiser, str]:
    """The better average of a run of the recipe `diffusion`, and 12 letters that stand for it.

    Raises: DataError where there is no such file, it is no such checkpoint, or one for other pictures.
    """
    if not checkpoint.is_file():
        raise DataError(f"{checkpoint}: no such file; expected {MADE_BY}")
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["recipe"]
        losses = saved["held_losses"]
        weights = saved["averages"][min(losses, key=losses.__getitem__)]
        first, down = weights["network.first.weight"], weights["network.down.weight"]
    except (OSError, EOFError, UnpicklingError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{checkpoint}: is no teacher, or one before the end of its first epoch; expected {MADE_BY}"
        ) from error
    blocks = [sum(name.startswith(f"network.{part}.") for name in weights) // 6 for part in ("before", "below")]
    denoiser = fresh(dataset, widths=(len(first), len(down)), blocks=blocks, told=len(weights["network.mix.weight"]))
    try:
        denoiser.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"{checkpoint}: made for other pictures than {dataset.title}") from error
    return denoiser.requires_grad_(False).eval(), hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]


def publish_denoiser(
    trained: TrainedDenoiser, dataset: ImageDataset, *, options: argparse.Namespace, precision: str
) -> Path:
    """Publish the denoiser; with an estimator of the noise level, and so for `denoise` too, unless it is for few steps.

    Returns: the published folder. Raises: PublishError.
    """
    shown = spread_rows(dataset.test_x.cpu(), dataset.test_y.numpy())
    generator = torch.Generator().manual_seed(0)
    sampling = FEW if trained.few else _with_noise_levels(trained.denoiser, dataset)
    reach = torch.rand(len(shown), generator=generator)
    sigma = sampling.sigma_min * (sampling.sigma_max / sampling.sigma_min) ** reach
    noise = torch.randn(shown.shape, generator=generator)
    x = shown.float() / 255 + sigma[:, None, None, None] * noise
    label = torch.randint(dataset.classes + 1, (len(shown),), generator=generator)
    exports = [
        Export(
            graph="denoiser",
            module=ServedDenoiser(trained.denoiser),
            inputs={"x": x, "sigma": sigma, "label": label},
            outputs=("denoised",),
        )
    ]
    if not trained.few:
        estimator = train_estimator(
            dataset.train_x.cpu(), low=ESTIMATED_LEVELS[0], high=ESTIMATED_LEVELS[1], seed=trained.seed
        )
        little = ESTIMATED_LEVELS[0] * (ESTIMATED_LEVELS[1] / ESTIMATED_LEVELS[0]) ** reach
        noisy = shown.float() / 255 + little[:, None, None, None] * noise
        exports.append(Export(graph="estimator", module=estimator, inputs={"x": noisy}, outputs=("sigma",)))
    goals: dict[str, float] = {}
    if options.data == "mnist":
        goals = GOALS_ON_MNIST["consistency" if trained.few else "diffusion"]
    return publish(
        FAMILY,
        dataset,
        Draft(
            task="generate",
            modality="image",
            title=f"{'Few-step diffusion' if trained.few else 'Diffusion'}, {dataset.title}",
            summary=page.summary(dataset.title, few=trained.few),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=total_seconds(trained.history),
            precision=precision,
            seeds=(trained.seed,),
            goals=goals,
            fields={"labels": dataset.labels, "picture": dataset.picture, "sampling": sampling},
        ),
        exports,
        options=options,
        measure=lambda folder, manifest: measured(folder, manifest, dataset, curves=True),
        keep=lambda folder, found: write_json(folder / SHOWN_FILE, {"history": trained.history, **found.shown}),
    )


def _with_noise_levels(denoiser: Denoiser, dataset: ImageDataset) -> Sampling:
    """`MANY`, with the noise levels of this net."""
    served = ServedDenoiser(denoiser)

    @torch.no_grad()
    def ask(x: generation.Array, sigma: generation.Levels, label: generation.Labels) -> generation.Array:
        at = torch.full((len(x),), float(sigma)) if isinstance(sigma, float) else torch.from_numpy(sigma)
        answer: generation.Array = served(torch.from_numpy(x), at, torch.from_numpy(label)).numpy()
        return answer

    labels = np.resize(np.arange(dataset.classes), LEVELS_ROWS)
    levels = generation.noise_levels(ask, labels, dataset.picture.shape, MANY)
    return MANY.model_copy(update={"ladder": tuple(levels)})


def _unit(name: str) -> str:
    return "dB" if "psnr" in name else "points" if name == "cas_gap" else ""


def measured(
    folder: Path,
    manifest: Manifest,
    dataset: ImageDataset,
    *,
    data: str | None = None,
    rows: int | None = None,
    curves: bool = False,
) -> Measured:
    """`Family.measure`, of so many pictures and test rows; with `curves` also what only the report shows."""
    found = score(folder, manifest, reference_classifiers(None, dataset), most=rows, curves=curves, quiet=False)
    return Measured(
        rows=max(found.rows.values()),
        of=f"pictures beside test rows of {dataset.title}",
        figures=found.figures,
        protocols=found.protocols,
        how="; from the ONNX graphs in fp32",
        rows_of=found.rows,
        units={name: _unit(name) for name in found.figures},
        claimed=data is None and rows is None,
        shown=found.shown,
    )


class DiffusionModels(PictureFamily):
    def measure(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        return measured(folder, manifest, dataset, data=data, rows=rows)

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, measured: Measured | None = None
    ) -> None:
        kept = read_json(folder / SHOWN_FILE)
        report = page.DiffusionReport(
            folder=folder,
            manifest=manifest,
            history=kept["history"],
            ratios=kept["ratios"],
            denoising=kept["denoising"],
            readers=reference_classifiers(None, dataset),
            latency=kept_latency(folder, "denoiser"),
        )
        write(report.page(), folder)


FAMILY: Final = DiffusionModels()
