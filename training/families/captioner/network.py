"""Show, attend and tell (Xu et al. 2015): a convolutional net from scratch, attention over 7x7 cells, an LSTM decoder.

    picture -> [conv 3x3 with stride 2, norm, SiLU, residual blocks] x 4 -> 49 cells -> memory (49, D)
    token   -> embedding -> LSTM -> asks the memory -> LSTM over both -> the next token

The decoder is the translator's, `networks/encoder_decoder.py`: its memory has a place a cell in place of one a token.

In training a linear layer on each cell must say which words the picture's sentences have (Fang et al. 2015): a picture
has a word if some cell has it. It teaches the convolutions what the gradient through the decoder alone takes long for.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from training.networks.encoder_decoder import PADDING, Decoder, States, Step
from training.networks.pictures import pixels
from training.networks.residual import Residual

SIDE: Final = 112  # pixels of a picture's side
GRID: Final = 7  # cells along each side
CELLS: Final = GRID**2
STAGES: Final = 4  # each halves the side


class Sight(nn.Module):
    """Pixels in [0, 1] (B, 3, SIDE, SIDE) -> memory (B, CELLS, D), row by row.

    Args:
        widths: channels of each of the four stages. blocks: residual blocks of each.
        memory: D.
    """

    def __init__(self, *, widths: tuple[int, ...], blocks: tuple[int, ...], memory: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 3
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            kernel = 3 if i else 5
            stages += [
                nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.SiLU(),
                *(Residual(width) for _ in range(count)),
            ]
            channels = width
        self.stages = nn.Sequential(*stages)
        self.cells = nn.Linear(channels, memory)
        self.norm = nn.LayerNorm(memory)
        self.place = nn.Parameter(torch.zeros(1, CELLS, memory))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.cells(self.stages(x).flatten(2).transpose(1, 2)))
        return found + self.place


class Captioner(nn.Module):
    """Pixels and the tokens written so far -> logits of the next token, attention, logits of the picture's words.

    Args:
        tokens: V. words: how many tokens the linear layer on the cells tells.
        languages: that sentences are written in; the decoder's first states depend on it.
    """

    def __init__(
        self,
        tokens: int,
        *,
        words: int,
        languages: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        memory: int,
        width: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sight = Sight(widths=widths, blocks=blocks, memory=memory)
        self.decoder = Decoder(tokens, width=width, hidden=hidden, memory=memory, dropout=dropout)
        self.language = nn.Parameter(torch.zeros(languages, memory))
        self.words = nn.Linear(memory, words)
        nn.init.constant_(self.words.bias, -4.0)  # a word is in few pictures

    def forward(self, x: Tensor, before: Tensor, language: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (B, 3, SIDE, SIDE) of one picture for each `each` sentences that follow one another, or of one for
        all; `before` (N, T) and `language` (N,) of N sentences -> (N, T, V), (N, T, CELLS), (B, words)."""
        memory = self.sight(x)
        said = self.said(memory)
        memory = memory.repeat_interleave(len(before) // len(memory), dim=0)
        logits, weight, _ = self.decoder(before, memory, memory, whole(memory), self.start(memory, language))
        return logits, weight, said

    def said(self, memory: Tensor) -> Tensor:
        """Logits of whether a picture's sentences have each word, (B, words): the softest maximum over cells."""
        found: Tensor = self.words(memory).logsumexp(1) - math.log(CELLS)
        return found

    def start(self, memory: Tensor, language: Tensor) -> States:
        """The decoder's states before the first token."""
        return self.decoder.start(memory.mean(1) + self.language[language])


class Seeing(nn.Module):
    """What is exported as `encoder`: pictures (B, H, W, 3) uint8 -> memory (B, CELLS, D) and the first states."""

    def __init__(self, network: Captioner, language: int) -> None:
        super().__init__()
        self.network = network
        self.language = language

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        memory = self.network.sight(pixels(image))
        language = torch.zeros_like(memory[:, 0, 0], dtype=torch.int64) + self.language
        return memory, *self.network.start(memory, language)


class Saying(nn.Module):
    """What is exported as `step`: token (B,), memory and states -> as `encoder_decoder.Step`; all cells are real."""

    def __init__(self, network: Captioner, temperature: float = 1.0) -> None:
        super().__init__()
        self.step = Step(network.decoder, temperature)

    def forward(
        self, token: Tensor, memory: Tensor, hidden_1: Tensor, cell_1: Tensor, hidden_2: Tensor, cell_2: Tensor
    ) -> tuple[Tensor, ...]:
        length = torch.zeros_like(token) + CELLS
        found: tuple[Tensor, ...] = self.step(token, memory, length, hidden_1, cell_1, hidden_2, cell_2)
        return found


class Scoring(nn.Module):
    """What is exported as `scorer`: memory, states, and a sentence (B, T) with its start and end, filled up with zeros
    -> its log probability (B,). The search needs it not; ranking pictures by a sentence does."""

    def __init__(self, network: Captioner, temperature: float = 1.0) -> None:
        super().__init__()
        self.step = Step(network.decoder, temperature)

    def forward(
        self, memory: Tensor, hidden_1: Tensor, cell_1: Tensor, hidden_2: Tensor, cell_2: Tensor, tokens: Tensor
    ) -> Tensor:
        states = (hidden_1, cell_1, hidden_2, cell_2)
        decoder = self.step.decoder
        logits, _, _ = decoder(tokens, memory, memory, whole(memory), states)
        logs = (logits / self.step.temperature + self.step.get_buffer("never")).log_softmax(2)
        after = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], dim=1)
        each = logs.gather(2, after[:, :, None])[:, :, 0]
        found: Tensor = (each * (after != PADDING)).sum(1)
        return found


def whole(memory: Tensor) -> Tensor:
    """(B, CELLS): every cell is real."""
    return torch.ones_like(memory[:, :, 0], dtype=torch.bool)
