"""Training of the two nets that take noise from photos: the restorer and the noise estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from training.data import photos
from training.optim.ema import average_of, constant_length, follow
from training.optim.muon import Muon
from training.optim.schedule import rate_factor
from training.options import described
from training.recipe import Batch, Parts, Resumable

CROPS: Final = 20  # of each photo in an epoch
WARM_UP: Final = 100  # steps
USUAL: Final = 55 / 255  # noise up to here nine times of ten
MOST: Final = 100 / 255  # and up to here in the tenth
LEAST: Final = 0.5 / 255  # of the estimator's examples
WATCHED: Final = 25 / 255  # the noise of the held-out photos
SLACK: Final = 5 / 255  # below which noise need not be estimated more exactly in proportion


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    widths: tuple[int, ...] = described((48, 64, 96), "channels at a half, a quarter, an eighth of the resolution")
    blocks: tuple[int, ...] = described((1, 2, 3), "residual blocks at each, on the way down and up")
    epochs: int = described(13, f"times that {CROPS} crops of every photo are seen")
    batch_size: int = described(16, "crops per optimisation step")
    crop: int = described(64, "side of a crop in pixels")
    lr: float = described(0.03, "learning rate of the filters (Muon)")
    lr_rest: float = described(1e-3, "learning rate of the first and last layer and the biases (Adam)")
    momentum: float = described(0.9, "of Muon")
    ema_steps: float = described(500.0, "steps over which the weights are averaged for serving")
    estimator_epochs: int = described(6, "epochs of the net that estimates the noise")
    estimator_lr: float = described(3e-3, "its learning rate (Adam)")


class Trainer(Resumable):
    """A `Recipe`: one of the two nets, its average, fresh noise on fresh crops at every step.

    The rows of a batch are numbers of photos.
    """

    def __init__(
        self, network: nn.Module, data: photos.Photos, h: Hyperparameters, *, accelerator: Accelerator
    ) -> None:
        device = accelerator.device
        self.h, self.accelerator = h, accelerator
        self.photos = data.train.to(device)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.average = average_of(network, device)
        self.bare, self.network = network, accelerator.prepare(network)
        clean = _whole_blocks(data.held).to(device)
        noise = torch.randn(clean.shape, generator=Generator().manual_seed(0)).to(device)
        self.held = clean, clean + WATCHED * noise
        self.rates = self._rates()
        self.optimisers = self._optimisers()

    def _rates(self) -> Sequence[float]:
        raise NotImplementedError

    def _optimisers(self) -> Sequence[torch.optim.Optimizer]:
        raise NotImplementedError

    def _loss(self, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError

    def step(self, batch: Batch) -> dict[str, Tensor]:
        factor = rate_factor("cosine", batch.progress) * min(1.0, (batch.position + 1) / WARM_UP)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        clean = crops(self.photos, batch.x, self.h.crop, batch.generator)
        sigma = noise_levels(len(clean), batch.generator)
        noisy = clean + sigma.view(-1, 1, 1, 1) * torch.randn(
            clean.shape, generator=batch.generator, device=clean.device
        )
        loss = self._loss(*(part[batch.share] for part in (clean, noisy, sigma)))
        self.accelerator.backward(loss)
        for optimiser in self.optimisers:
            optimiser.step()
        follow(self.average, self.bare, constant_length(self.h.ema_steps, position=batch.position))
        return {"loss": loss.detach()}

    def measure(self) -> dict[str, float]:
        raise NotImplementedError

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimisers": self.optimisers}


class RestorerTrainer(Trainer):
    """Mean absolute error; the filters within the net by Muon, which needs a third of Adam's steps here."""

    def _rates(self) -> Sequence[float]:
        return self.h.lr, self.h.lr_rest

    def _optimisers(self) -> Sequence[torch.optim.Optimizer]:
        outer = ("head", "tail")
        filters = [p for name, p in self.bare.named_parameters() if p.ndim == 4 and not name.startswith(outer)]
        chosen = {id(p) for p in filters}
        rest = [p for p in self.bare.parameters() if id(p) not in chosen]
        return (
            Muon(filters, lr=self.h.lr, momentum=self.h.momentum, hold_norm=False),
            torch.optim.Adam(rest, lr=self.h.lr_rest, betas=(0.9, 0.99)),
        )

    def _loss(self, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        with self.accelerator.autocast():
            denoised: Tensor = self.network(noisy, sigma)
        return (denoised.float() - clean).abs().mean()

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        clean, noisy = self.held
        sigma = torch.full((len(clean),), WATCHED, device=clean.device)
        with self.accelerator.autocast():
            denoised = self.average(noisy, sigma)
        error = (denoised.float().clamp(0, 1) - clean).square().mean((1, 2, 3))
        return {"held_psnr": float((-10 * torch.log10(error)).mean())}


class EstimatorTrainer(Trainer):
    """Relative error of sigma, with some slack where there is hardly any noise."""

    def _rates(self) -> Sequence[float]:
        return (self.h.estimator_lr,)

    def _optimisers(self) -> Sequence[torch.optim.Optimizer]:
        return (torch.optim.Adam(self.bare.parameters(), lr=self.h.estimator_lr, betas=(0.9, 0.99)),)

    def _loss(self, clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        estimated: Tensor = self.network(noisy)  # in fp32: it is small
        return ((estimated - sigma).abs() / (sigma + SLACK)).mean()

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        return {"held_error": float((self.average(self.held[1]) / WATCHED - 1).abs().mean())}


def crops(pictures: Tensor, numbers: Tensor, side: int, generator: Generator) -> Tensor:
    """A square of each of the pictures (N, H, W) uint8 with those numbers (B,), turned and mirrored in one of the eight
    ways: (B, 1, side, side) in [0, 1]."""
    height, width = pictures.shape[1:]
    device, rows = pictures.device, len(numbers)

    def drawn(end: int) -> list[int]:
        return torch.randint(end, (rows,), generator=generator, device=device).tolist()

    found = []
    for i, top, left, way in zip(
        numbers.tolist(), drawn(height - side + 1), drawn(width - side + 1), drawn(8), strict=True
    ):
        crop = torch.rot90(pictures[i, top : top + side, left : left + side], way % 4)
        found.append(crop.flip(0) if way >= 4 else crop)
    return torch.stack(found).unsqueeze(1).float() / 255


def noise_levels(rows: int, generator: Generator) -> Tensor:
    """sigma (rows,): uniform from LEAST up to USUAL, and in a tenth of the rows from there up to MOST."""
    device = generator.device
    where, share = torch.rand(2, rows, generator=generator, device=device)
    return torch.where(where < 0.9, LEAST + share * (USUAL - LEAST), USUAL + share * (MOST - USUAL))


def _whole_blocks(pictures: Tensor) -> Tensor:
    """(N, H, W) uint8 -> the middle (N, 1, H', W') in [0, 1] whose sides the nets can take."""
    height, width = (size // 16 * 16 for size in pictures.shape[1:])
    top, left = (pictures.shape[1] - height) // 2, (pictures.shape[2] - width) // 2
    return pictures[:, None, top : top + height, left : left + width].float() / 255
