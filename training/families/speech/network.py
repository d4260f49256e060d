"""Speech recognition by connectionist temporal classification: log-mel, strided convolutions, GRUs, words.

    samples -> log-mel, 10 ms -> [conv 3x3, stride 2] x 2, 40 ms -> GRU x layers -> log-probabilities of words and blank

One output every 40 ms. `Recognizer` hears the whole recording, in both directions. `Streamer` hears it piece by piece
and keeps what it needs of the past in its states: the last samples, and the hidden state of each layer.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from training.networks.recurrent import GRU
from training.networks.sound import BEFORE, STEP, LogMel, Subsampling, padded, steps

PIECE: Final = 8 * STEP  # samples of a streamed piece, 320 ms


class SpeechNet(nn.Module):
    """What both have: (B, T, 64) log-mel -> (B, T', words + 1) log-probabilities, the blank last."""

    def __init__(
        self, words: int, *, width: int, hidden: int, layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.mel = LogMel()
        self.subsampling = Subsampling(width, dropout=dropout / 2)
        self.bidirectional = bidirectional
        size = hidden * (2 if bidirectional else 1)
        self.layers = nn.ModuleList(
            GRU(width if i == 0 else size, hidden, bidirectional=bidirectional) for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.words = nn.Linear(size, words + 1)

    def of_mel(self, mel: Tensor, length: Tensor | None) -> Tensor:
        """length (B,): outputs of each row."""
        x = self.subsampling(mel)
        for layer in self.layers:
            x = self.dropout(layer(x, length)[0])
        out: Tensor = self.words(x).log_softmax(2)
        return out

    @property
    def before(self) -> int:
        """Samples of zeros before a recording: each output is in the middle of what the convolutions see, or at its
        end where nothing later may be seen."""
        return BEFORE // 2 if self.bidirectional else BEFORE


class Recognizer(nn.Module):
    """The graph of whole recordings: sound (B, N), length (B,) -> log_probabilities (B, T, words + 1), steps (B,)."""

    def __init__(self, network: SpeechNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, sound: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        own = steps(length)
        mel = self.network.mel(padded(sound, self.network.before))
        return self.network.of_mel(mel, own), own


class Streamer(nn.Module):
    """The graph of pieces: sound (B, PIECE), past (B, BEFORE), hidden (B, layers * H) -> log_probabilities
    (B, 8, words + 1), next_past, next_hidden."""

    def __init__(self, network: SpeechNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, sound: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        network = self.network
        heard = torch.cat([past, sound], dim=1)
        x = network.subsampling(network.mel(heard))
        states = []
        for layer, state in zip(network.layers, hidden.chunk(len(network.layers), dim=1), strict=True):
            x, last = layer(x, None, state)
            states.append(last)
        return network.words(x).log_softmax(2), heard[:, -BEFORE:], torch.cat(states, dim=1)
