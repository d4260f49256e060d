"""One label out of a text: embeddings, an LSTM in both directions, the largest and the mean of its states over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.encoder_decoder import FAR, PADDING, inside
from training.networks.lstm import BiLSTM


class SentimentNet(nn.Module):
    """tokens (B, T), length (B,) -> logits (B, labels): many to one. What is behind a row's length changes nothing."""

    def __init__(self, tokens: int, labels: int, *, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width, padding_idx=PADDING)
        self.lstm = BiLSTM(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * hidden, labels)

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        length = length.clamp(min=1)
        y = self.lstm(self.dropout(self.embedding(tokens)), length)  # (B, T, 2 H), zeros behind the length
        largest = y.masked_fill(~inside(y, length)[..., None], FAR).amax(1)
        mean = y.sum(1) / length[:, None]
        out: Tensor = self.head(self.dropout(torch.cat([largest, mean], dim=1)))
        return out


class Classifier(nn.Module):
    """What is exported: probabilities, temperature inside."""

    def __init__(self, network: SentimentNet, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        return torch.softmax(self.network(tokens, length) / self.temperature, dim=1)
