"""Training of a classifier of texts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.data.buckets import deal
from training.data.sentiment import LABELS
from training.families.sentiment.network import SentimentNet
from training.networks.encoder_decoder import PADDING, UNKNOWN
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

Ids = Sequence[NDArray[np.int64]]
TOKENS_PER_PASS: Final = 16_000


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """To be chosen on the held-out reviews."""

    vocabulary: int = described(8000, "subword units at most")
    max_tokens: int = described(320, "of a text that is read; of a longer one its beginning")
    width: int = described(160, "numbers of an embedding")
    hidden: int = described(128, "numbers of the LSTM, in each direction")
    dropout: float = described(0.5, "of embeddings and before the last layer")
    unknown: float = described(0.1, "share of tokens that are taken for unknown in training")
    smoothing: float = described(0.05, "of the labels in the loss")
    phrases: bool = described(True, "train on labelled phrases as well, where there are any")
    first_epochs: int = described(5, "times that pieces of IMDB's reviews are seen first")
    epochs: int = described(8, "times that every text is seen")
    batch_size: int = described(64, "texts per optimisation step")
    lr: float = described(1.5e-3, "learning rate (AdamW)")
    schedule: Schedule = described("cosine", "how the learning rate changes over the run, after its rise")
    rise_steps: int = described(100, "steps over which the learning rate rises")
    weight_decay: float = described(0.02, "of the weights, times the learning rate")
    ema_steps: float = described(200.0, "steps over which the weights are averaged for serving")


def tensors(ids: Ids) -> tuple[Tensor, Tensor]:
    """Padded rows (B, T) and their lengths (B,)."""
    tokens = np.full((len(ids), max(map(len, ids))), PADDING, np.int64)
    for row, one in zip(tokens, ids, strict=True):
        row[: len(one)] = one
    return torch.from_numpy(tokens), torch.tensor([len(one) for one in ids])


class Trainer(Resumable):
    """A `Recipe`. A batch's own rows are not used: texts of similar length are dealt together, anew each epoch.

    Args:
        ids, y: of the texts to train on, and their labels. held: the same of held-out texts.
        start: the weights to begin with, of a network of the same size.
    """

    def __init__(
        self,
        ids: Ids,
        y: NDArray[np.int64],
        held: tuple[Ids, NDArray[np.int64]],
        tokens: int,
        h: Hyperparameters,
        *,
        seed: int,
        accelerator: Accelerator,
        start: SentimentNet | None = None,
    ) -> None:
        self.ids, self.y, self.held, self.h, self.accelerator = ids, torch.from_numpy(y), held, h, accelerator
        lengths = np.array([len(one) for one in ids])
        self.dealt = lru_cache(maxsize=1)(lambda epoch: deal(lengths, h.batch_size, seed=seed, epoch=epoch))
        torch.manual_seed(seed)
        network = SentimentNet(tokens, len(LABELS), width=h.width, hidden=h.hidden, dropout=h.dropout)
        if start is not None:
            network.load_state_dict(start.state_dict())
        self.average = average_of(network, accelerator.device)
        self.optimiser = adamw(network.parameters(), lr=h.lr, weight_decay=h.weight_decay, betas=(0.9, 0.98))
        self.bare = network
        self.network = accelerator.prepare(network)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        h, device = self.h, self.accelerator.device
        for group in self.optimiser.param_groups:
            rise = risen(h.rise_steps, position=batch.position, progress=batch.progress)
            group["lr"] = h.lr * rise * rate_factor(h.schedule, batch.progress)
        # Dropout draws from the global generator; a resumed run has to draw the same.
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=batch.generator, device=device)))
        dealt = self.dealt(batch.epoch)
        chosen = dealt[batch.position % len(dealt)][batch.share]
        tokens, length = tensors([self.ids[i] for i in chosen])
        lost = (torch.rand(tokens.shape) < h.unknown) & (tokens != PADDING)
        y = self.y[chosen].to(device)
        self.network.train()
        self.optimiser.zero_grad()
        with self.accelerator.autocast():
            logits = self.network(tokens.where(~lost, UNKNOWN).to(device), length.to(device))
        loss = F.cross_entropy(logits.float(), y, label_smoothing=h.smoothing)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(h.ema_steps, position=batch.position))
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == y).float().mean()}

    def measure(self) -> dict[str, float]:
        """Loss and accuracy on the held-out texts, by the moving average."""
        ids, y = self.held
        logits, target = logits_of(self.average, ids), torch.from_numpy(y)
        return {
            "held_loss": float(F.cross_entropy(logits, target)),
            "held_accuracy": float((logits.argmax(1) == target).float().mean()),
        }

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}

    def served(self) -> SentimentNet:
        """The moving average, on the CPU."""
        return copy.deepcopy(self.average).cpu().eval()


@torch.no_grad()
def logits_of(network: SentimentNet, ids: Ids) -> Tensor:
    """Of each text, in their order, (N, labels); texts of similar length go together."""
    network.eval()
    device = network.head.weight.device
    out = torch.zeros(len(ids), network.head.out_features)
    for some in passes(ids):
        tokens, length = tensors([ids[i] for i in some])
        out[some] = network(tokens.to(device), length.to(device)).cpu()
    return out


def passes(ids: Ids) -> list[list[int]]:
    """Numbers of texts of similar length, so many at a time that all rows together have `TOKENS_PER_PASS` at most."""
    found: list[list[int]] = [[]]
    for i in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        if (len(found[-1]) + 1) * len(ids[i]) > TOKENS_PER_PASS:
            found.append([])
        found[-1].append(i)
    return [some for some in found if some]
