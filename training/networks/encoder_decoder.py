"""Words in, words out (Sutskever et al. 2014, Bahdanau et al. 2015): an encoder, attention that is a switch, a decoder.

    tokens -> embedding -> BiLSTM -> memory (B, S, D), one place a token
    token  -> embedding -> LSTM -> asks the memory -> LSTM over both -> log-probabilities of the next token

The decoder asks between its two layers: the first says where to look, the second remembers what was seen there. So
nothing of one step's answer goes back into the net but the token, and training runs all steps of a layer at once. With
a net that feeds its answer back (Luong et al. 2015) each step has to wait for the one before.

Without attention the second layer sees the same at every step: what the encoder had at its two ends.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from training.networks.lstm import LSTM, BiLSTM

PADDING: Final = 0
UNKNOWN: Final = 1
START: Final = 2
END: Final = 3
"""Of every tokenizer that is trained here."""
NEVER: Final = (PADDING, UNKNOWN, START)
"""Tokens that are never written."""
BEST: Final = 16
"""Tokens that a step answers with: beams are at most half as wide."""
STATES: Final = ("hidden_1", "cell_1", "hidden_2", "cell_2")
"""Of the decoder, in the order in which graphs have them."""
FAR: Final = -1e4
"""In place of minus infinity, which gives NaN where nothing else is in a row."""

States = tuple[Tensor, Tensor, Tensor, Tensor]


class Encoder(nn.Module):
    """tokens (B, S), length (B,) -> memory (B, S, 2 H), zeros behind `length`."""

    def __init__(self, tokens: int, *, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, padding_idx=PADDING)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(BiLSTM(width if i == 0 else 2 * hidden, hidden) for i in range(layers))

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        x: Tensor = self.embedding(tokens)
        for i, layer in enumerate(self.layers):
            y = layer(self.dropout(x), length)
            x = x + y if i else y
        return x


class Decoder(nn.Module):
    """From tokens so far to logits of the next.

    Args:
        tokens: V. width: of an embedding; the last layer's weights are the embeddings (Press and Wolf 2017).
        hidden: H, of each of the two LSTMs. memory: D.
        attention: without it every step sees the memory's `end` alone.
    """

    def __init__(
        self,
        tokens: int,
        *,
        width: int,
        hidden: int,
        memory: int,
        dropout: float,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.attention = attention
        # As by Vaswani et al. 2017: sums of so many products make a net look at one place alone.
        self.scale = memory**-0.5
        self.embedding = nn.Embedding(tokens, width, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.first = LSTM(width, hidden)
        self.query = nn.Linear(hidden, memory, bias=False) if attention else None
        self.second = LSTM(hidden + memory, hidden)
        self.begin = nn.Linear(memory, len(STATES) * hidden)
        self.mix = nn.Linear(hidden + memory, width)
        self.bias = nn.Parameter(torch.zeros(tokens))
        self.dropout = nn.Dropout(dropout)

    def start(self, end: Tensor) -> States:
        """The states before the first token, each (B, H), of `ends` (B, D)."""
        one, two, three, four = self.begin(end).tanh().chunk(len(STATES), dim=1)
        return one, two, three, four

    def forward(
        self, tokens: Tensor, memory: Tensor, end: Tensor, real: Tensor, states: States
    ) -> tuple[Tensor, Tensor, States]:
        """tokens (B, T), memory (B, S, D) -> logits (B, T, V), attention (B, T, S), the states after the last token.

        Args:
            end: (B, D), what is seen without attention.
            real: (B, S), which places of the memory count.
        """
        # Embeddings are small as weights of the last layer; an LSTM learns sooner from numbers around one.
        x = self.dropout(self.embedding(tokens) * self.embedding.embedding_dim**0.5)
        asked, (hidden_1, cell_1) = self.first(x, (states[0], states[1]))
        asked = self.dropout(asked)
        if self.query is None:
            seen = end[:, None].expand(-1, asked.shape[1], -1)
            weight = torch.zeros_like(asked[:, :, :1]).expand(-1, -1, memory.shape[1])
        else:
            score = self.query(asked) @ memory.transpose(1, 2) * self.scale  # (B, T, S)
            weight = score.masked_fill(~real[:, None], FAR).softmax(2)
            seen = weight @ memory
        y, (hidden_2, cell_2) = self.second(torch.cat([asked, seen], dim=2), (states[2], states[3]))
        mixed = self.mix(torch.cat([self.dropout(y), self.dropout(seen)], dim=2)).tanh()
        logits = self.dropout(mixed) @ self.embedding.weight.T + self.bias
        return logits, weight, (hidden_1, cell_1, hidden_2, cell_2)


class Step(nn.Module):
    """What is exported: one step of the decoder, the best tokens and the temperature inside.

    token (B,), memory (B, S, D), length (B,), four states (B, H) -> best (B, K), log_probabilities (B, K), attention
    (B, S), zeros behind `length`, and the next four states.
    """

    def __init__(self, decoder: Decoder, temperature: float = 1.0) -> None:
        super().__init__()
        self.decoder = decoder
        self.temperature = temperature
        never = torch.zeros(decoder.bias.shape[0])
        never[list(NEVER)] = FAR
        self.register_buffer("never", never)

    def forward(
        self,
        token: Tensor,
        memory: Tensor,
        length: Tensor,
        hidden_1: Tensor,
        cell_1: Tensor,
        hidden_2: Tensor,
        cell_2: Tensor,
    ) -> tuple[Tensor, ...]:
        real = inside(memory, length)
        states = (hidden_1, cell_1, hidden_2, cell_2)
        logits, weight, after = self.decoder(token[:, None], memory, ends(memory, length), real, states)
        logs = (logits[:, 0] / self.temperature + self.get_buffer("never")).log_softmax(1)
        likeliest, best = logs.topk(BEST, dim=1)
        return best, likeliest, weight[:, 0] * real, *after


def inside(memory: Tensor, length: Tensor) -> Tensor:
    """(B, S): which places of the memory belong to a row of that length."""
    return torch.arange(memory.shape[1], device=memory.device) < length[:, None]


def ends(memory: Tensor, length: Tensor) -> Tensor:
    """What the encoder had at its ends, (B, D): forwards at a row's last token, backwards at its first."""
    half = memory.shape[2] // 2
    last = (length.clamp(min=1, max=memory.shape[1]) - 1)[:, None, None].expand(-1, 1, half)
    return torch.cat([memory[:, :, :half].gather(1, last)[:, 0], memory[:, 0, half:]], dim=1)
