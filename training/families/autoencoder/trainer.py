"""Training of an autoencoder: its network, and the codebook and basis that its encoder searches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from training.data import augment
from training.data.base import ImageDataset
from training.families.autoencoder import publish as autoencoding
from training.families.autoencoder.network import ConvEncoder, FourierDecoder
from training.families.autoencoder.publish import flat
from training.families.autoencoder.search import Basis, Codebook, SearchingEncoder, descend
from training.networks.pictures import pixels
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor
from training.options import described
from training.recipe import Batch, Parts, Resumable

FLOOR: Final = 1e-7  # of the curvature, per pixel, in training's steps
SIZES: Final = "autoencoder-sizes"
RANK: Final = 64  # principal directions in which pictures are compared with a codebook
BASIS_ROWS: Final = 10_000
WATCHED_ROWS: Final = 1000  # held-out rows measured after every epoch
AIMED: Final = 0.5  # share of the run in which the encoder aims at latents
SPREAD: Final = 0.4  # standard deviation of the first latents


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    latent: int = described(2, "numbers that a picture is coded as")
    epochs: int = described(20, "times that every row is seen")
    batch_size: int = described(500, "rows per optimisation step")
    lr: float = described(4e-3, "learning rate (AdamW)")
    schedule: Schedule = described("one-cycle", "how the learning rate changes over the run")
    weight_decay: float = described(0.01, "of all weights")
    hidden: tuple[int, ...] = described((512, 512), "widths of the decoder's dense layers")
    channels: int = described(16, "channels of the decoder's coarse map")
    frequencies: int = described(64, "directions in which the decoder sees the latent as waves")
    fold: float = described(3.0, "how finely the decoder may fold the latent space: half turns per unit, times latent")
    codebook: int = described(2048, "latents that each picture is compared with")
    renew: int = described(20, "steps after which the codebook is decoded anew")
    jitter: float = described(0.05, "noise on the codebook's latents, falling to none")
    noise: float = described(0.02, "on the latents that the decoder learns from, so that neighbours are alike")
    handwriting: float = described(0.0, "augmentation: how far handwriting is bent and turned, 1 is ordinary")
    damping: float = described(0.1, "of the Gauss-Newton step on each row's latent")
    ema_steps: float = described(200.0, "steps over which the weights are averaged for serving")


class Autoencoder(Resumable):
    """A `Recipe`: each training row keeps its own latent, found anew at every visit, and the decoder learns from it.

    At a visit the row's latent jumps to the nearest entry of the codebook where that is nearer than its own decoding
    was, and takes one Gauss-Newton step; then the decoder takes a step of AdamW on the squared error. So it is trained
    on the best codes, not on those of an encoder that lags. The encoder aims at the latents found, and for the later
    part of the run at the least squared error itself, through the averaged decoder.
    """

    def __init__(self, dataset: ImageDataset, h: Hyperparameters, *, seed: int, accelerator: Accelerator) -> None:
        self.h = h
        self.accelerator = accelerator
        torch.manual_seed(seed)
        device = accelerator.device
        x = dataset.train_x
        height, width, channels = x.shape[1:]
        shape = (channels, height, width)
        decoder = FourierDecoder(
            latent=h.latent,
            picture=shape,
            frequencies=h.frequencies,
            fold=h.fold / h.latent,
            hidden=h.hidden,
            channels=h.channels * channels,
        )
        encoder = ConvEncoder(picture=shape, outputs=h.latent)
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.bound = 1.0 if h.latent <= 2 else 1.5
        some = flat(x[torch.randperm(len(x))[:BASIS_ROWS]])
        self.basis = Basis.of(some, max(RANK, h.latent))
        projected = torch.cat([self.basis.project(flat(x[i : i + 1000])) for i in range(0, len(x), 1000)])
        first = projected[:, : h.latent]
        self.latents = (first / first.std(0) * SPREAD).clamp(-self.bound, self.bound).to(device)  # (N, Z)
        self.errors = torch.full((len(x),), torch.inf, device=device)  # (N,) of each row's latent, when last visited
        self.basis = Basis(mean=self.basis.mean.to(device), directions=self.basis.directions.to(device))
        self.held = pixels(dataset.held_x[:WATCHED_ROWS]).to(device)
        self.average_encoder = average_of(encoder, device)
        self.average_decoder = average_of(decoder, device)
        self.bare_encoder, self.bare_decoder = encoder, decoder
        self.optimiser = torch.optim.AdamW(
            [*encoder.parameters(), *decoder.parameters()], lr=h.lr, betas=(0.9, 0.99), weight_decay=h.weight_decay
        )
        self.encoder, self.decoder = accelerator.prepare(encoder), accelerator.prepare(decoder)
        self.book: Codebook | None = None

    def step(self, batch: Batch) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.h.lr * rate_factor(self.h.schedule, batch.progress)
        if self.book is None or batch.position % self.h.renew == 0:
            self.book = self._codebook(self.bare_decoder, batch.generator, jitter=self.h.jitter * (1 - batch.progress))
        x, rows = self._augmented(batch)[batch.share], batch.index[batch.share]
        z, errors = self._better_latents(x.flatten(1), rows)
        self.optimiser.zero_grad()
        with self.accelerator.autocast():
            decoded, proposed = self.decoder(self._shaken(z, batch)), self.encoder(x).float()
            if batch.progress < AIMED:
                miss = F.smooth_l1_loss(proposed, z, beta=0.1)
            else:
                miss = F.mse_loss(self.average_decoder(proposed.clamp(-self.bound, self.bound)).float(), x)
        loss = F.mse_loss(decoded.float(), x)
        self.accelerator.backward(loss + miss)
        self.optimiser.step()
        weight = constant_length(self.h.ema_steps, position=batch.position)
        follow(self.average_encoder, self.bare_encoder, weight)
        follow(self.average_decoder, self.bare_decoder, weight)
        everyone = self.accelerator.gather((z, errors))
        self.latents[batch.index], self.errors[batch.index] = everyone
        return {"mse": loss.detach(), "miss": miss.detach()}

    def _augmented(self, batch: Batch) -> Tensor:
        x = pixels(batch.x)
        return augment.handwrite(x, batch.generator, strength=self.h.handwriting) if self.h.handwriting else x

    def _shaken(self, z: Tensor, batch: Batch) -> Tensor:
        every = torch.randn(len(batch.x), z.shape[1], generator=batch.generator, device=z.device)
        return z + self.h.noise * every[batch.share]

    @torch.no_grad()
    def _better_latents(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P) and row numbers -> latents (B, Z), and the errors (B,) before their last step."""
        assert self.book is not None
        entry, distance = self.book.nearest(self.basis.project(x), 1)
        square = (x - self.basis.mean).square().sum(1)
        nearer = (distance[:, 0] + square) / x.shape[1] < self.errors[rows]
        z = torch.where(nearer.unsqueeze(1), entry[:, 0], self.latents[rows])
        with self.accelerator.autocast():
            return descend(self.bare_decoder, z, x, damping=self.h.damping, floor=FLOOR, bound=self.bound)

    @torch.no_grad()
    def _codebook(self, decoder: FourierDecoder, generator: torch.Generator, *, jitter: float) -> Codebook:
        """For one or two dimensions a shifted grid over the whole sheet; for more, latents of random rows."""
        size, device = self.h.latent, self.accelerator.device
        if size <= 2:
            side = round(self.h.codebook ** (1 / size))
            steps = (torch.arange(side, device=device) + torch.rand(1, generator=generator, device=device)) / side
            z = torch.cartesian_prod(*[steps * 2 - 1] * size).view(-1, size)
        else:
            chosen = torch.randint(len(self.latents), (self.h.codebook,), generator=generator, device=device)
            z = self.latents[chosen]
            z = z + torch.randn(z.shape, generator=generator, device=device) * jitter
        with self.accelerator.autocast():
            decoded = torch.cat([decoder(part).flatten(1) for part in torch.split(z, 500)])
        return Codebook.of(z, decoded, self.basis)

    def served(self, *, nearest: int = autoencoding.NEAREST, steps: int = autoencoding.STEPS) -> SearchingEncoder:
        """The encoder with its search, of the averaged weights."""
        generator = torch.Generator(self.accelerator.device).manual_seed(0)
        return SearchingEncoder(
            self.average_encoder,
            self.average_decoder,
            codebook=self._codebook(self.average_decoder, generator, jitter=0.0),
            basis=self.basis,
            bound=self.bound,
            nearest=nearest,
            steps=steps,
        ).eval()

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        decoder = self.average_decoder
        found: dict[str, float] = {}
        for name, nearest, steps in (("held_mse", 1, 2), ("held_proposal_mse", 0, 0)):
            served = self.served(nearest=nearest, steps=steps)
            with self.accelerator.autocast():
                squares = [
                    (decoder(served(part)).float() - part).square().mean() for part in torch.split(self.held, 250)
                ]
            found[name] = float(torch.stack(squares).mean())
        return found | {"lr": float(self.optimiser.param_groups[0]["lr"])}

    @property
    def _networks(self) -> tuple[nn.Module, ...]:
        return self.bare_encoder, self.bare_decoder, self.average_encoder, self.average_decoder

    def parts(self) -> dict[str, Parts]:
        return {"networks": self._networks, "optimiser": self.optimiser}

    def state(self) -> dict[str, Any]:
        book = None if self.book is None else asdict(self.book)
        return super().state() | {"latents": self.latents, "errors": self.errors, "book": book}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.latents, self.errors = state["latents"], state["errors"]
        self.book = None if state["book"] is None else Codebook(**state["book"])


def defaults_for(dataset: ImageDataset, latent: int) -> Hyperparameters:
    """For a small folder smaller batches and more epochs, so that there are some 4,000 steps."""
    h, rows = Hyperparameters(latent=latent), len(dataset.train_x)
    if rows >= 20_000:
        return h
    batch_size = min(h.batch_size, max(16, rows // 16))
    return replace(h, batch_size=batch_size, epochs=max(h.epochs, min(1000, 4000 * batch_size // rows)))


def short(dataset: ImageDataset, latent: int, epochs: int) -> Hyperparameters:
    """What is trained only to compare latent sizes."""
    return replace(defaults_for(dataset, latent), epochs=epochs)
