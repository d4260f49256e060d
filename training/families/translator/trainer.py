"""Training of a translator: sentences of similar length together, labels smoothed, weights averaged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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
from training.families.translator.corpus import Ids, Rows
from training.families.translator.network import Translator
from training.networks.encoder_decoder import END, PADDING, START
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

ROWS_PER_PASS: Final = 64


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """To be chosen on the held-out sentences."""

    vocabulary: int = described(4000, "subword units of each language, at most")
    width: int = described(256, "numbers of an embedding")
    reading: int = described(256, "numbers of the encoder's LSTM, in each direction")
    writing: int = described(384, "numbers of each of the decoder's two LSTMs")
    layers: int = described(1, "of the encoder")
    dropout: float = described(0.2, "of embeddings, between layers and before the last one")
    smoothing: float = described(0.1, "share of each token's target that is given to the others")
    everyday_times: int = described(2, "times that everyday sentences are among an epoch's, where there are any")
    epochs: int = described(14, "times that every sentence is seen")
    batch_size: int = described(64, "sentences per optimisation step")
    lr: float = described(2e-3, "learning rate (AdamW)")
    schedule: Schedule = described("cosine", "how the learning rate changes over the run, after its rise")
    rise_steps: int = described(300, "steps over which the learning rate rises")
    weight_decay: float = described(0.01, "of the weights, times the learning rate")
    clip: float = described(1.0, "greatest norm of the gradient")
    ema_steps: float = described(400.0, "steps over which the weights are averaged for serving")


def network_of(read: int, written: int, h: Hyperparameters, *, attention: bool) -> Translator:
    return Translator(
        read,
        written,
        width=h.width,
        reading=h.reading,
        writing=h.writing,
        layers=h.layers,
        dropout=h.dropout,
        attention=attention,
    )


@dataclass(frozen=True)
class Sentences:
    """Padded rows: `before` is the start and what is written, `after` what is written and the end; (B, T) both."""

    read: Tensor
    length: Tensor
    before: Tensor
    after: Tensor


def padded(ids: Ids) -> Tensor:
    """One row each, zeros behind: (B, T)."""
    out = np.full((len(ids), max(map(len, ids))), PADDING, np.int64)
    for row, one in zip(out, ids, strict=True):
        row[: len(one)] = one
    return torch.from_numpy(out)


def tensors(rows: Rows, chosen: Sequence[int] | NDArray[np.int64]) -> Sentences:
    read, written = [rows.read[i] for i in chosen], [rows.written[i] for i in chosen]
    return Sentences(
        read=padded(read),
        length=torch.tensor([len(one) for one in read]),
        before=padded([np.concatenate([[START], one]) for one in written]),
        after=padded([np.concatenate([one, [END]]) for one in written]),
    )


class Trainer(Resumable):
    """A `Recipe`. A batch's own rows are not used: sentences of similar length are dealt together, anew each epoch.

    Args:
        read, written: sizes of the vocabularies.
        held: by the name of the collection.
    """

    def __init__(
        self,
        rows: Rows,
        held: Mapping[str, Rows],
        read: int,
        written: int,
        h: Hyperparameters,
        *,
        attention: bool,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.rows, self.held, self.h, self.seed, self.accelerator = rows, held, h, seed, accelerator
        self.lengths = np.array([len(a) + len(b) for a, b in zip(rows.read, rows.written, strict=True)])
        self.dealt = lru_cache(maxsize=1)(lambda epoch: deal(self.lengths, h.batch_size, seed=seed, epoch=epoch))
        torch.manual_seed(seed)
        network = network_of(read, written, h, attention=attention)
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
        some = tensors(self.rows, dealt[batch.position % len(dealt)][batch.share])
        self.network.train()
        self.optimiser.zero_grad()
        with self.accelerator.autocast():
            logits, _ = self.network(some.read.to(device), some.length.to(device), some.before.to(device))
        after = some.after.to(device).flatten()
        loss = F.cross_entropy(logits.float().flatten(0, 1), after, ignore_index=PADDING, label_smoothing=h.smoothing)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), h.clip)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(h.ema_steps, position=batch.position))
        return {"loss": loss.detach()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Of each held-out collection the mean negative log-likelihood of a token, in nats, and the share of tokens
        that are the likeliest after those before them; by the moving average."""
        found = {}
        for name, rows in self.held.items():
            logits, after = logits_of(self.average, rows, self.accelerator.device)
            found[f"held_nll_{name}"] = float(F.cross_entropy(logits, after))
            found[f"held_accuracy_{name}"] = float((logits.argmax(1) == after).float().mean())
        return found

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}

    def served(self) -> Translator:
        """The moving average, on the CPU."""
        return copy.deepcopy(self.average).cpu().eval()


@torch.no_grad()
def logits_of(network: Translator, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of every token of some sentences, after those before it: logits (N, V) and the token itself (N,)."""
    network.eval()
    logits, tokens = [], []
    for begin in range(0, len(rows), ROWS_PER_PASS):
        some = tensors(rows, range(begin, min(begin + ROWS_PER_PASS, len(rows))))
        found, _ = network(some.read.to(device), some.length.to(device), some.before.to(device))
        real = some.after != PADDING
        logits.append(found.cpu()[real])
        tokens.append(some.after[real])
    return torch.cat(logits), torch.cat(tokens)
