"""One word out of a recording: log-mel, strided convolutions, a GRU in both directions, a weighted mean over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.recurrent import GRU
from training.networks.sound import BEFORE, LogMel, Subsampling, padded, steps


class SpokenNet(nn.Module):
    """sound (B, N), length (B,) -> logits (B, labels): many to one.

    The recurrent net reads every 40 ms; which of its states count is learnt (attention with one query, Bahdanau et al.
    2015). Steps behind a row's end count nothing.
    """

    def __init__(self, labels: int, *, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.mel = LogMel()
        self.subsampling = Subsampling(width, dropout=dropout / 2)
        self.gru = GRU(width, hidden, bidirectional=True)
        self.query = nn.Linear(2 * hidden, 1)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden, labels))

    def forward(self, sound: Tensor, length: Tensor) -> Tensor:
        return self.of_mel(self.mel(padded(sound, BEFORE // 2)), steps(length))

    def of_mel(self, mel: Tensor, own: Tensor) -> Tensor:
        """mel (B, T, 64); own (B,): steps of each row -> logits (B, labels)."""
        y, _ = self.gru(self.subsampling(mel), own)  # (B, T', 2H)
        at = torch.arange(y.shape[1], device=y.device)
        weight = self.query(y)[..., 0].masked_fill(at >= own[:, None], -1e4).softmax(1)
        out: Tensor = self.head((weight[..., None] * y).sum(1))
        return out


class Classifier(nn.Module):
    """What is exported: probabilities, temperature inside."""

    def __init__(self, network: SpokenNet, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, sound: Tensor, length: Tensor) -> Tensor:
        return torch.softmax(self.network(sound, length) / self.temperature, dim=1)
