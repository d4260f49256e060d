"""Training of captioners: all sentences of a picture at once, labels smoothed, weights averaged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from training.families.captioner.corpus import Corpus, Held, lot_of
from training.families.captioner.network import SIDE, Captioner
from training.networks.encoder_decoder import PADDING, START, UNKNOWN
from training.networks.pictures import pixels
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

PICTURES_PER_PASS: Final = 50

Judge = Callable[[Captioner], dict[str, float]]
"""Further figures of a network after an epoch, by the search that the server does."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Of both commands; these are the photographs'."""

    vocabulary: int = described(2500, "subword units, at most")
    widths: tuple[int, ...] = described((32, 64, 128, 256), "channels of the four convolutional stages")
    blocks: tuple[int, ...] = described((0, 0, 1, 1), "residual blocks of each stage")
    memory: int = described(256, "numbers of each of the 49 cells")
    width: int = described(192, "numbers of a token's embedding")
    hidden: int = described(256, "numbers of each of the decoder's two LSTMs")
    dropout: float = described(0.4, "of embeddings, between layers and before the last one")
    smoothing: float = described(0.1, "share of each token's target that is given to the others")
    words: float = described(0.03, "weight of the loss of the words that cells are asked for")
    each: int = described(3, "sentences of a photograph at a step; scenes have one in each language")
    rows: int = described(6000, "pictures of an epoch where they are made; photographs are all there are")
    unnamed: float = described(0.0, "share of the scenes with colours, or with shapes, that have no name")
    forget: float = described(0.0, "share of the tokens written so far that the decoder is not shown")
    strength: float = described(0.6, "how differently from the data set pictures are shown, 0 to 1")
    epochs: int = described(18, "times that every picture is seen")
    batch_size: int = described(32, "pictures per optimisation step")
    lr: float = described(2e-3, "learning rate (AdamW)")
    schedule: Schedule = described("cosine", "how the learning rate changes over the run, after its rise")
    rise_steps: int = described(200, "steps over which the learning rate rises")
    weight_decay: float = described(0.05, "of the weights, times the learning rate")
    clip: float = described(1.0, "greatest norm of the gradient")
    ema_steps: float = described(200.0, "steps over which the weights are averaged for serving")


SCENES: Final = Hyperparameters(
    vocabulary=400,
    widths=(24, 48, 96, 192),
    blocks=(0, 0, 1, 1),
    memory=192,
    width=96,
    hidden=192,
    dropout=0.1,
    smoothing=0.0,
    words=0.3,
    rows=16000,
    unnamed=0.6,
    forget=0.2,
    strength=0.5,
    epochs=20,
    batch_size=64,
    lr=2e-3,
    weight_decay=0.01,
)


def network_of(corpus: Corpus, h: Hyperparameters) -> Captioner:
    return Captioner(
        corpus.tokenizer.get_vocab_size(),
        words=len(corpus.words),
        languages=corpus.languages,
        widths=h.widths,
        blocks=h.blocks,
        memory=h.memory,
        width=h.width,
        hidden=h.hidden,
        dropout=h.dropout,
    )


class Trainer(Resumable):
    """A `Recipe`. A batch's rows are numbers of pictures, or say how many are made.

    Args:
        blank: where it is not None, the grey level of the one picture that the net sees in place of all others.
    """

    def __init__(
        self,
        corpus: Corpus,
        h: Hyperparameters,
        *,
        seed: int,
        accelerator: Accelerator,
        blank: int | None = None,
        judge: Judge = lambda _: {},
    ) -> None:
        self.corpus, self.h, self.accelerator, self.judge = corpus, h, accelerator, judge
        self.blank = None if blank is None else blank_pictures(blank, 1)
        torch.manual_seed(seed)
        network = network_of(corpus, h)
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
        lot = self.corpus.lot(batch)
        x = lot.x if self.blank is None else pixels(self.blank)
        lost = (torch.rand(lot.before.shape) < h.forget) & (lot.before != PADDING) & (lot.before != START)
        before = lot.before.where(~lost, UNKNOWN)
        self.network.train()
        self.optimiser.zero_grad()
        with self.accelerator.autocast():
            logits, _, said = self.network(x.to(device), before.to(device), lot.language.to(device))
        after = lot.after.to(device).flatten()
        loss = F.cross_entropy(logits.float().flatten(0, 1), after, ignore_index=PADDING, label_smoothing=h.smoothing)
        target, told = lot.said.to(device), lot.told.to(device)
        wrong = F.binary_cross_entropy_with_logits(said.float().expand_as(target), target, reduction="none")
        words = (wrong * told).sum(1).mean()
        self.accelerator.backward(loss + h.words * words)
        self.accelerator.clip_grad_norm_(self.network.parameters(), h.clip)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(h.ema_steps, position=batch.position))
        return {"loss": loss.detach(), "words": words.detach()}

    def measure(self) -> dict[str, float]:
        """Of held-out pictures the mean negative log-likelihood of a token, in nats, the share of tokens that are the
        likeliest after those before them, and the judge's figures; by the moving average."""
        found = {}
        for name, held in self.corpus.held.items():
            logits, after = logits_of(self.average, held, self.accelerator.device, blank=self.blank)
            found[f"{name}_nll"] = float(F.cross_entropy(logits, after))
            found[f"{name}_accuracy"] = float((logits.argmax(1) == after).float().mean())
        return found | self.judge(self.served())

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}

    def served(self) -> Captioner:
        """The moving average, on the CPU."""
        return copy.deepcopy(self.average).cpu().eval()


def blank_pictures(level: int, count: int) -> Tensor:
    """(count, SIDE, SIDE, 3) uint8, all of one grey."""
    return torch.full((count, SIDE, SIDE, 3), level, dtype=torch.uint8)


@torch.no_grad()
def logits_of(
    network: Captioner, held: Held, device: torch.device, *, blank: Tensor | None = None, each: int = 1
) -> tuple[Tensor, Tensor]:
    """Of every token of some sentences, after those before it: logits (N, V) and the token itself (N,).

    Args:
        blank: seen in place of every picture.
        each: sentences of a picture at most, or one in each language where there are several.
    """
    network.eval()
    each = max(each, len(held.language))
    logits, tokens = [], []
    for begin in range(0, len(held.pictures), PICTURES_PER_PASS):
        part = slice(begin, begin + PICTURES_PER_PASS)
        x = pixels(held.pictures[part] if blank is None else blank)
        sentences = [own[:each] for own in held.sentences[part]]
        lot = lot_of(x, sentences, held.language.repeat(each // len(held.language)), torch.zeros(0))
        found, _, _ = network(lot.x.to(device), lot.before.to(device), lot.language.to(device))
        real = lot.after != PADDING
        logits.append(found.cpu()[real])
        tokens.append(lot.after[real])
    return torch.cat(logits), torch.cat(tokens)
