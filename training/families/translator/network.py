"""A translator: an encoder in both directions, and a decoder that asks it at every word; without attention its twin."""

from __future__ import annotations

from torch import Tensor, nn

from training.networks.encoder_decoder import Decoder, Encoder, ends, inside


class Translator(nn.Module):
    """tokens (B, S), length (B,), tokens written so far (B, T) -> logits of the next (B, T, V), attention (B, T, S)."""

    def __init__(
        self,
        read: int,
        written: int,
        *,
        width: int,
        reading: int,
        writing: int,
        layers: int,
        dropout: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(read, width=width, hidden=reading, layers=layers, dropout=dropout)
        self.decoder = Decoder(
            written, width=width, hidden=writing, memory=2 * reading, dropout=dropout, attention=attention
        )

    def forward(self, tokens: Tensor, length: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.encoder(tokens, length)
        end = ends(memory, length)
        logits, weight, _ = self.decoder(before, memory, end, inside(memory, length), self.decoder.start(end))
        return logits, weight


class Reading(nn.Module):
    """What is exported as `encoder`: tokens (B, S), length (B,) -> memory (B, S, D) and the decoder's first states."""

    def __init__(self, network: Translator) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        memory = self.network.encoder(tokens, length)
        return memory, *self.network.decoder.start(ends(memory, length))
