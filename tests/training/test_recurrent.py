"""The GRU against torch's own with packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.networks.recurrent import GRU, NAMES

LENGTHS = torch.tensor([7, 3, 12, 1])


def rows(steps: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(4, steps, 5, generator=torch.Generator().manual_seed(seed))


def pair(*, bidirectional: bool) -> tuple[GRU, nn.GRU]:
    """One of each with the same weights."""
    torch.manual_seed(3)
    other = nn.GRU(5, 6, batch_first=True, bidirectional=bidirectional)
    gru = GRU(5, 6, bidirectional=bidirectional)
    with torch.no_grad():
        for layer, suffix in ((gru.forwards, ""), (gru.backwards, "_reverse")):
            for name in NAMES if layer is not None else ():
                layer.get_parameter(name).copy_(other.get_parameter(name + suffix))
    return gru, other


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_rows_of_different_length_give_what_packed_rows_give(bidirectional: bool, with_state: bool) -> None:
    gru, other = pair(bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    state = torch.linspace(-1, 1, 4 * directions * 6).reshape(4, -1) if with_state else None
    packed = nn.utils.rnn.pack_padded_sequence(rows(), LENGTHS, batch_first=True, enforce_sorted=False)
    by_direction = None if state is None else state.reshape(4, directions, 6).transpose(0, 1).contiguous()
    expected, last = other(packed, by_direction)
    y, end = gru(rows(), LENGTHS, state)
    torch.testing.assert_close(y, nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)[0])
    torch.testing.assert_close(end, last.transpose(0, 1).reshape(4, -1))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_lengths_all_steps_count(bidirectional: bool) -> None:
    gru, other = pair(bidirectional=bidirectional)
    expected, last = other(rows())
    y, end = gru(rows())
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(end, last.transpose(0, 1).reshape(4, -1))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_leaks_neither_into_answers_nor_into_gradients(bidirectional: bool) -> None:
    gru, _ = pair(bidirectional=bidirectional)
    found = []
    for filling in (0.0, 100.0):
        x = rows().where((torch.arange(12) < LENGTHS[:, None])[..., None], filling)
        y, end = gru(x, LENGTHS)
        (y.sum() + end.sum()).backward()
        found.append([y, end, *(p.grad.clone() for p in gru.parameters() if p.grad is not None)])
        gru.zero_grad()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_row_in_pieces_ends_as_the_whole_row() -> None:
    gru, _ = pair(bidirectional=False)
    whole, end = gru(rows())
    state, parts = torch.zeros(4, 6), []
    for piece in rows().split([5, 1, 6], dim=1):
        y, state = gru(piece, None, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, end)
