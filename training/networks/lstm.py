"""Long short-term memory (Hochreiter and Schmidhuber 1997): a reader in both directions, and a writer that goes on.

As in `recurrent.GRU`, the node is written down as such on export, in place of what `torch.onnx.export` makes of
`nn.LSTM`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.networks.recurrent import NAMES

State = tuple[Tensor, Tensor]
"""What is shown and what is kept: hidden and cell, each (B, H)."""


class LSTM(nn.Module):
    """One layer from the beginning to the end, which goes on from the state that it left.

    Args:
        inputs: I, numbers a step.
        hidden: H, numbers of the hidden state, and of the cell.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.forwards = _layer(inputs, hidden)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T, I) and the state before the first step -> (B, T, H) and the state after the last."""
        if not torch.onnx.is_in_onnx_export():
            y, (hidden, cell) = self.forwards(x, (state[0][None], state[1][None]))
            return y, (hidden[0], cell[0])
        length = torch.ones_like(x[:, 0, 0], dtype=torch.int64) * x.shape[1]
        y, hidden, cell = _node([self.forwards], x, length, (state[0][None], state[1][None]))
        return y, (hidden[0], cell[0])


class BiLSTM(nn.Module):
    """Two layers beside each other, one from the beginning to the end of each row, one from its end to its beginning.

    Args:
        inputs: I, numbers a step.
        hidden: H, numbers of the hidden state in each direction.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.forwards = _layer(inputs, hidden)
        self.backwards = _layer(inputs, hidden)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """(B, T, I) -> (B, T, 2 H), forwards first.

        Args:
            length: (B,) int64, 1 to T: the steps of each row. What is behind them changes nothing, and the outputs
                there are zeros. The exported node takes 0 as 1 and more than T as T: one row's wrong length must not
                fail the run of others.
        """
        steps, hidden = x.shape[1], self.hidden
        if torch.onnx.is_in_onnx_export():
            zeros = torch.zeros_like(x[:, 0, :1]).expand(-1, hidden)[None].expand(2, -1, -1)
            y, _, _ = _node([self.forwards, self.backwards], x, length.clamp(min=1, max=steps), (zeros, zeros))
            return y
        # Padded rows are run whole, which is faster than packed ones: see `recurrent.GRU`.
        at, ends = torch.arange(steps, device=x.device), length[:, None]
        y, _ = self.forwards(x)
        order = torch.where(at < ends, ends - 1 - at, at)[..., None]  # (B, T, 1), its own inverse
        z, _ = self.backwards(x.gather(1, order.expand(-1, -1, x.shape[2])))
        z = z.gather(1, order.expand(-1, -1, hidden))
        return torch.cat([y, z], dim=2).where((at < ends)[..., None], 0.0)


def _layer(inputs: int, hidden: int) -> nn.LSTM:
    layer = nn.LSTM(inputs, hidden, batch_first=True)
    with torch.no_grad():  # what was learnt is kept at first (Jozefowicz, Zaremba, Sutskever 2015)
        layer.get_parameter("bias_ih_l0")[hidden : 2 * hidden] += 1
    return layer


def _node(layers: Sequence[nn.LSTM], x: Tensor, length: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """The ONNX node: outputs (B, T, D * H); hidden and cell (D, B, H), as `state` is."""
    rows, steps, directions, hidden = x.shape[0], x.shape[1], len(layers), layers[0].hidden_size
    # torch has the gates in the order input, forget, new, output; ONNX input, output, forget, new.
    i, f, g, o = torch.arange(4 * hidden).chunk(4)
    order = torch.cat([i, o, f, g])
    parameters = [[layer.get_parameter(name)[order] for name in NAMES] for layer in layers]
    weights = torch.stack([w for w, _, _, _ in parameters])
    recurrent = torch.stack([r for _, r, _, _ in parameters])
    biases = torch.stack([torch.cat([b, c]) for _, _, b, c in parameters])
    y, last, cell = torch.onnx.ops.symbolic_multi_out(
        "LSTM",
        (x.transpose(0, 1), weights, recurrent, biases, length.to(torch.int32), *state),
        {"hidden_size": hidden, "direction": "forward" if directions == 1 else "bidirectional"},
        dtypes=(x.dtype, x.dtype, x.dtype),
        shapes=((steps, directions, rows, hidden), (directions, rows, hidden), (directions, rows, hidden)),
        version=18,
    )
    return y.permute(2, 0, 1, 3).reshape(rows, steps, directions * hidden), last, cell
