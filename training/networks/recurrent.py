"""Gated recurrent units (Cho et al. 2014) over rows of different length, in torch and as one ONNX node.

`torch.onnx.export` unrolls or freezes time where it translates `nn.GRU` itself, in silence from the second export of a
process on. So on export the node is written down as such.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

NAMES: Final = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class GRU(nn.Module):
    """One layer; with `bidirectional`, a second one from the end to the beginning of each row, beside the first.

    Args:
        inputs: I, numbers a step.
        hidden: H, numbers of the state.
    """

    def __init__(self, inputs: int, hidden: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.hidden = hidden
        self.directions = 2 if bidirectional else 1
        self.forwards = nn.GRU(inputs, hidden, batch_first=True)
        self.backwards = nn.GRU(inputs, hidden, batch_first=True) if bidirectional else None

    def forward(self, x: Tensor, length: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, I) -> (B, T, D * H) and the state after the last step, (B, D * H).

        Args:
            length: (B,) int64, 1 to T: the steps of each row; all where None. What is behind them changes nothing, and
                the outputs there are zeros. The exported node takes 0 as 1 and more than T as T: one row's wrong length
                must not fail the run of others.
            state: (B, D * H) before the first step; zeros where None.
        """
        if torch.onnx.is_in_onnx_export():
            return self._node(x, length, state)
        states = (
            [None] * self.directions if state is None else [part[None] for part in state.chunk(self.directions, dim=1)]
        )
        y, last = self.forwards(x, states[0])
        if length is None:
            if self.backwards is None:
                return y, last[0]
            z, first = self.backwards(x.flip(1), states[1])
            return torch.cat([y, z.flip(1)], dim=2), torch.cat([last[0], first[0]], dim=1)
        # Padded rows are run whole: 1.1 to 5 times as fast, forwards and back, as packed ones (2 cores, 32 rows of
        # up to 150 steps, 192 units). So what is behind a row's end is cut off here, and turned round apart from it.
        steps, ends = torch.arange(x.shape[1], device=x.device), length[:, None]
        real = (steps < ends)[..., None]  # (B, T, 1)
        end = y.gather(1, (ends - 1)[..., None].expand(-1, 1, self.hidden))[:, 0]
        if self.backwards is None:
            return y.where(real, 0.0), end
        order = torch.where(steps < ends, ends - 1 - steps, steps)[..., None]  # (B, T, 1), its own inverse
        z, _ = self.backwards(x.gather(1, order.expand(-1, -1, x.shape[2])), states[1])
        z = z.gather(1, order.expand(-1, -1, self.hidden))
        return torch.cat([y, z], dim=2).where(real, 0.0), torch.cat([end, z[:, 0]], dim=1)

    def _node(self, x: Tensor, length: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        rows, steps, hidden, directions = x.shape[0], x.shape[1], self.hidden, self.directions
        layers = [self.forwards] if self.backwards is None else [self.forwards, self.backwards]
        # torch has the gates in the order reset, update, new; ONNX update, reset, new.
        order = torch.cat(
            [torch.arange(hidden, 2 * hidden), torch.arange(hidden), torch.arange(2 * hidden, 3 * hidden)]
        )
        parameters = [[layer.get_parameter(name)[order] for name in NAMES] for layer in layers]
        weights = torch.stack([w for w, _, _, _ in parameters])
        recurrent = torch.stack([r for _, r, _, _ in parameters])
        biases = torch.stack([torch.cat([b, c]) for _, _, b, c in parameters])
        if length is None:
            length = torch.ones_like(x[:, 0, 0], dtype=torch.int64) * steps
        length = length.clamp(min=1, max=steps)
        if state is None:
            state = torch.zeros_like(x[:, 0, :1]).expand(-1, directions * hidden)
        first = state.reshape(rows, directions, hidden).transpose(0, 1)
        y, last = torch.onnx.ops.symbolic_multi_out(
            "GRU",
            (x.transpose(0, 1), weights, recurrent, biases, length.to(torch.int32), first),
            {
                "hidden_size": hidden,
                "linear_before_reset": 1,
                "direction": "forward" if self.backwards is None else "bidirectional",
            },
            dtypes=(x.dtype, x.dtype),
            shapes=((steps, directions, rows, hidden), (directions, rows, hidden)),
            version=18,
        )
        y = y.permute(2, 0, 1, 3).reshape(rows, steps, directions * hidden)
        return y, last.transpose(0, 1).reshape(rows, directions * hidden)
