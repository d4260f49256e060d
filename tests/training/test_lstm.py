"""The LSTMs against torch's own with packed sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.lstm import LSTM, BiLSTM
from training.networks.recurrent import NAMES

LENGTHS = torch.tensor([7, 3, 12, 1])


def rows(steps: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(4, steps, 5, generator=torch.Generator().manual_seed(seed))


def pair() -> tuple[BiLSTM, nn.LSTM]:
    """One of each with the same weights."""
    torch.manual_seed(3)
    other = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
    own = BiLSTM(5, 6)
    with torch.no_grad():
        for layer, suffix in ((own.forwards, ""), (own.backwards, "_reverse")):
            for name in NAMES:
                layer.get_parameter(name).copy_(other.get_parameter(name + suffix))
    return own, other


def test_rows_of_different_length_give_what_packed_rows_give() -> None:
    own, other = pair()
    packed = nn.utils.rnn.pack_padded_sequence(rows(), LENGTHS, batch_first=True, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(other(packed)[0], batch_first=True)[0]
    torch.testing.assert_close(own(rows(), LENGTHS), expected)


def test_padding_leaks_neither_into_answers_nor_into_gradients() -> None:
    own, _ = pair()
    found = []
    for filling in (0.0, 100.0):
        y = own(rows().where((torch.arange(12) < LENGTHS[:, None])[..., None], filling), LENGTHS)
        y.sum().backward()
        found.append([y, *(p.grad.clone() for p in own.parameters() if p.grad is not None)])
        own.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_row_in_pieces_ends_as_the_whole_row() -> None:
    torch.manual_seed(0)
    own = LSTM(5, 6)
    whole, (hidden, cell) = own(rows(), (torch.zeros(4, 6), torch.zeros(4, 6)))
    state, parts = (torch.zeros(4, 6), torch.zeros(4, 6)), []
    for piece in rows().split([5, 1, 6], dim=1):
        y, state = own(piece, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, (hidden, cell))
    torch.testing.assert_close(hidden, whole[:, -1])


def test_what_was_learnt_is_kept_at_first() -> None:
    torch.manual_seed(0)
    bias = LSTM(5, 6).forwards.get_parameter("bias_ih_l0").detach()
    assert float(bias[6:12].min()) > 0.5
    assert float(torch.cat([bias[:6], bias[12:]]).abs().max()) < 0.5
