"""Training of a variational autoencoder by its evidence lower bound."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from app.core.manifest import DigitPicture
from training.data.base import ImageDataset
from training.families.vae import likelihood
from training.families.vae.network import GaussianEncoder, PictureDecoder
from training.networks.pictures import pixels
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

HELD_ROWS_PER_PASS = 500


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Defaults for digits, chosen on MNIST's held-out rows."""

    latent: int = described(32, "numbers in the code")
    width: int = described(32, "channels of the residual blocks")
    blocks: int = described(1, "residual blocks, in the encoder and in the decoder")
    hidden: int = described(512, "units of the layer next to the code")
    epochs: int = described(60, "times that every row is seen")
    batch_size: int = described(200, "rows per optimisation step")
    lr: float = described(3e-3, "learning rate (AdamW)")
    schedule: Schedule = described("cosine", "how the learning rates change over the run, after their rise")
    rise_steps: int = described(200, "steps over which the learning rates rise; a tenth of the run at most")
    weight_decay: float = described(0.03, "of the weights, times the learning rate")
    # Latents that carry nothing yet are otherwise switched off before they can learn to (Sonderby et al. 2016).
    kl_warm_up: float = described(0.05, "share of the run over which the weight of the KL term rises to 1")
    samples: int = described(1, "posterior samples per row; above 1 the bound is the importance-weighted one")
    samples_from: float = described(0.0, "share of the run from which `samples` counts; before it one is drawn")
    ema_steps: float = described(500.0, "steps over which the weights are averaged for serving")
    binarise: bool = described(True, "make pixels 0 or 1 once for all, with their grey level as probability")


def for_dataset(dataset: ImageDataset) -> Hyperparameters:
    """Photos keep their greys: they are no probability of ink."""
    h = Hyperparameters()
    return h if isinstance(dataset.picture, DigitPicture) else replace(h, binarise=False)


class VAE(nn.Module):
    """Encoder and decoder with the reparameterised sample between them."""

    def __init__(self, shape: tuple[int, int, int], h: Hyperparameters) -> None:
        super().__init__()
        sizes = {"latent": h.latent, "width": h.width, "blocks": h.blocks, "hidden": h.hidden}
        self.encoder = GaussianEncoder(shape, **sizes)
        self.decoder = PictureDecoder(shape, **sizes)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (B, C, H, W) in [0, 1], noise (K, B, Z) -> mu, logvar (B, Z), z (K, B, Z), logits (K, B, C, H, W)."""
        mu, logvar = self.encoder(x)
        z = reparameterise(mu, logvar, noise)
        logits = self.decoder(z.flatten(0, 1)).view(*z.shape[:2], *x.shape[1:])
        return mu, logvar, z, logits


def reparameterise(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z = mu + sigma * noise (Kingma and Welling 2014, section 2.4): (B, Z), (B, Z), (K, B, Z) -> (K, B, Z)."""
    return mu + (logvar / 2).exp() * noise


class Trainer(Resumable):
    """A `Recipe`: the network, its moving average and its optimiser."""

    def __init__(
        self, dataset: ImageDataset, h: Hyperparameters, *, seed: int, accelerator: Accelerator, compiled: bool = False
    ) -> None:
        self.h = h
        self.accelerator = accelerator
        self.held_x = dataset.held_x
        torch.manual_seed(seed)
        height, width, channels = dataset.train_x.shape[1:]
        network = VAE((channels, height, width), h)
        network.decoder.start_at(float(pixels(dataset.train_x[:5000]).mean().clamp(0.01, 0.99)))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.average = average_of(network, accelerator.device)
        # The average of the epoch with the highest held-out ELBO so far: what is served.
        self.best, self.best_loss = copy.deepcopy(self.average), math.inf
        self.optimiser = adamw(network.parameters(), lr=h.lr, weight_decay=h.weight_decay, betas=(0.9, 0.99))
        self.bare = network
        self.network = accelerator.prepare(torch.compile(network) if compiled else network)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        h = self.h
        self._set_rates(batch)
        x = pixels(batch.x).contiguous(memory_format=torch.channels_last)
        samples = h.samples if batch.progress >= h.samples_from else 1
        noise = torch.randn(samples, len(x), h.latent, generator=batch.generator, device=x.device)
        x, noise = x[batch.share], noise[:, batch.share]
        self.network.train()
        self.optimiser.zero_grad()
        with self.accelerator.autocast():
            mu, logvar, z, logits = self.network(x, noise)
        mu, logvar, z, logits = mu.float(), logvar.float(), z.float(), logits.float()
        fit_ = likelihood.bernoulli_log_likelihood(logits, x)
        kl = likelihood.kl_divergence(mu, logvar).sum(1).mean()
        if samples == 1:
            beta = min(1.0, batch.progress / h.kl_warm_up) if h.kl_warm_up else 1.0
            loss = beta * kl - fit_.mean()
        else:
            loss = -likelihood.importance_bound(likelihood.log_weights(fit_, z, noise, logvar)).mean()
        self.accelerator.backward(loss)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(h.ema_steps, position=batch.position))
        reconstruction = -fit_.detach().mean()
        return {"loss": reconstruction + kl.detach(), "reconstruction": reconstruction, "kl": kl.detach()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The negative ELBO's two terms on the held-out rows, one sample each, always the same noise."""
        network = self.average.eval()
        generator = torch.Generator().manual_seed(0)
        reconstruction = kl = 0.0
        for rows in torch.split(self.held_x, HELD_ROWS_PER_PASS):
            x = pixels(rows.to(self.accelerator.device))
            noise = torch.randn(1, len(x), self.h.latent, generator=generator).to(x.device)
            with self.accelerator.autocast():
                mu, logvar, _, logits = network(x, noise)
            reconstruction -= float(likelihood.bernoulli_log_likelihood(logits.float(), x).sum())
            kl += float(likelihood.kl_divergence(mu.float(), logvar.float()).sum())
        n = len(self.held_x)
        held_loss = (reconstruction + kl) / n
        if held_loss < self.best_loss:
            self.best_loss = held_loss
            self.best.load_state_dict(network.state_dict())
        return {
            "held_loss": held_loss,
            "held_reconstruction": reconstruction / n,
            "held_kl": kl / n,
            "lr": float(self.optimiser.param_groups[0]["lr"]),
        }

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "best": self.best, "optimiser": self.optimiser}

    def state(self) -> dict[str, Any]:
        return super().state() | {"best_loss": self.best_loss}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.best_loss = state["best_loss"]

    def _set_rates(self, batch: Batch) -> None:
        rise = risen(self.h.rise_steps, position=batch.position, progress=batch.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = self.h.lr * rise * rate_factor(self.h.schedule, batch.progress)
