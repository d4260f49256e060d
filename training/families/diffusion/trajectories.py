"""What a diffusion model's ordinary differential equation makes of noise, kept at every level: for its students."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from app.core.sampling import samplers as sampling
from app.core.sampling import schedules
from training.data.base import ImageDataset
from training.families.diffusion.network import Denoiser
from training.metrics.generated import class_share, quick_fd
from training.metrics.reference_classifiers import ReferenceClassifiers

TOP: Final = 20.0  # of the levels, pixels in [0, 1]
BOTTOM: Final = 0.02
LOWEST_KEPT: Final = 0.25  # below it the end is as good as reached
AT_TOP: Final = 0.5  # share of rows that begin with noise alone, where one evaluation must do it all
AT_ONCE: Final = 256
WATCHED: Final = 2500
MIDDLE: Final = 0.8  # the second level where pictures are drawn in two evaluations, to watch


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """L points of each of N trajectories, rows by label.

    Attributes:
        x: (L, N, C, H, W) float16. sigmas: (L,), falling. end: (N, C, H, W) float16.
        first, rows: (K + 1,), where each label's rows begin and how many there are; the last is no label.
    """

    x: Tensor
    sigmas: Tensor
    end: Tensor
    first: Tensor
    rows: Tensor

    def like(self, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Points drawn at random, one for each label (B,): x (B, C, H, W), sigma (B,), end (B, C, H, W)."""
        u = torch.rand(3, len(label), generator=generator, device=label.device)
        row = self.first[label] + (u[0] * self.rows[label]).long()
        level = torch.where(u[1] < AT_TOP, 0, (u[2] * len(self.sigmas)).long())
        return self.x[level, row].float(), self.sigmas[level], self.end[row].float()

    def levels(self, n: int, generator: torch.Generator) -> Tensor:
        """Levels for other pictures, even in their logarithm: (n,)."""
        low, high = math.log(float(self.sigmas[-1])), math.log(float(self.sigmas[0]))
        u = torch.rand(n, generator=generator, device=self.sigmas.device)
        return (low + u * (high - low)).exp()


@torch.no_grad()
def trajectories(
    teacher: Denoiser,
    dataset: ImageDataset,
    *,
    rows: int,
    steps: int,
    unlabelled: float,
    seed: int,
    kept: Path,
    digest: str,
    accelerator: Accelerator,
) -> Trajectories:
    """From `kept`, or drawn now and put there: by DPM-Solver++(2M), labels as frequent as in the training rows."""
    path = kept / f"trajectories-{digest}-{rows}-{steps}-seed{seed}.pt"
    if path.exists():
        return Trajectories(**torch.load(path, map_location=accelerator.device, weights_only=True))
    generator = torch.Generator().manual_seed(seed)
    classes = dataset.classes
    label = dataset.train_y[torch.randint(len(dataset.train_y), (rows,), generator=generator)]
    label = torch.where(torch.rand(rows, generator=generator) < unlabelled, classes, label)
    label[: classes + 1] = torch.arange(classes + 1)[:rows]  # every label has a row
    label = label.sort().values
    levels = schedules.karras(steps, start=TOP, end=BOTTOM)
    keep = [i for i, sigma in enumerate(levels) if sigma >= LOWEST_KEPT]
    height, width, channels = dataset.train_x.shape[1:]
    mean = _means(dataset)
    x = torch.empty(len(keep), rows, channels, height, width, dtype=torch.float16)
    end = torch.empty(rows, channels, height, width, dtype=torch.float16)
    for i in tqdm(range(0, rows, AT_ONCE), desc="trajectories of the teacher", unit="part"):
        noise = torch.randn(len(end[i : i + AT_ONCE]), channels, height, width, generator=generator)
        # Where the noise would lie on a picture, the teacher's begins; the student's, where there is none yet.
        start = mean[label[i : i + AT_ONCE]] + levels[0] * noise
        points, last = _walk(teacher, start, label[i : i + AT_ONCE], levels, accelerator)
        x[:, i : i + AT_ONCE] = torch.stack([levels[0] * noise, *(points[k] for k in keep[1:])]).half()
        end[i : i + AT_ONCE] = last.half()
    count = torch.bincount(label, minlength=classes + 1)
    made = {
        "x": x,
        "sigmas": torch.tensor([levels[i] for i in keep]),
        "end": end,
        "first": count.cumsum(0) - count,
        "rows": count,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(made, temporary)
    temporary.replace(path)
    return Trajectories(**{name: value.to(accelerator.device) for name, value in made.items()})


def _means(dataset: ImageDataset) -> Tensor:
    """The mean training picture of each label, and of all: (K + 1, C, H, W) in [0, 1]."""
    x, y = dataset.train_x, dataset.train_y
    pictures = [x[y == k].float().mean(0) for k in range(dataset.classes)] + [x.float().mean(0)]
    return torch.stack(pictures).nan_to_num().permute(0, 3, 1, 2) / 255


def _walk(
    teacher: Denoiser, start: Tensor, label: Tensor, levels: list[float], accelerator: Accelerator
) -> tuple[list[Tensor], Tensor]:
    """The points at which the sampler asks, and its end clipped as a picture is: (B, C, H, W) each."""
    device = accelerator.device
    label = label.to(device)
    walk = sampling.multistep(start.to(device).contiguous(memory_format=torch.channels_last), levels)
    points: list[Tensor] = []
    try:
        x, sigma = next(walk)
        while True:
            points.append(x.cpu())
            with accelerator.autocast():
                denoised = teacher(x, torch.full((len(x),), sigma, device=device), label)
            x, sigma = walk.send(denoised)
    except StopIteration as done:
        last: Tensor = done.value
        return points, last.clamp(0, 1).cpu()


@torch.no_grad()
def watched(
    student: Denoiser, classifiers: ReferenceClassifiers, labels: Tensor, accelerator: Accelerator
) -> Mapping[str, float]:
    """What one and two evaluations draw, beside held-out rows: FD ratios, and how many show what was asked for."""
    device = accelerator.device
    label = labels[:WATCHED].to(device)
    shape = (len(label), *classifiers.data.train_x.shape[1:])
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(shape, generator=generator).permute(0, 3, 1, 2).to(device) for _ in range(2)]

    def seen(x: Tensor, sigma: float) -> Tensor:
        parts = []
        for rows, y in zip(torch.split(x, AT_ONCE), torch.split(label, AT_ONCE), strict=True):
            with accelerator.autocast():
                parts.append(student(rows, torch.full((len(rows),), sigma, device=device), y))
        return torch.cat(parts)

    once = seen(TOP * noise[0], TOP)
    twice = seen(once + MIDDLE * noise[1], MIDDLE)
    found = {}
    for name, made in (("1", once), ("2", twice)):
        pictures = made.permute(0, 2, 3, 1).cpu()
        found[f"held_fd_ratio_{name}"] = quick_fd(pictures, classifiers).mean_fd_ratio
        found[f"held_class_share_{name}"] = class_share(pictures, labels[:WATCHED], classifiers)
    return found
