"""Many small dense nets trained at once: every fold and every setting of a cross-validation in the same products.

A mask says which rows each net is trained on, so all nets are given the same rows, and what a net predicts for the
other rows comes for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.dense import Dense, Layout

BETAS: Final = (0.9, 0.99)
CURVE_POINTS: Final = 60
LEAST_LOG_SPREAD: Final = -5.0  # of a standardised target: exp(-5) of its standard deviation


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of the grid: `widths` of the hidden layers, none for a linear model; `decay` is lambda in

    (sum of the rows' losses + lambda / 2 * sum of the squared weights) / rows, biases left out.
    """

    widths: tuple[int, ...] = ()
    decay: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is predicted: `classes` labels, or with 0 a number."""

    layout: Layout
    classes: int

    @property
    def outputs(self) -> int:
        """Two labels need one logit, a number one value."""
        return self.classes if self.classes > 2 else 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Adam (Kingma, Ba 2015), its rate falling from `lr` to nothing along a line over `steps` steps of `batch` rows."""

    steps: int = 150
    lr: float = 0.03
    batch: int = 2048

    @classmethod
    def for_rows(cls, rows: int) -> Schedule:
        """Full batches for small tables; of large ones every row is seen some twenty times."""
        batch = min(2048, rows) if rows <= 4096 else 1024
        return cls(batch=batch, steps=max(cls.steps, 20 * rows // batch))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Mean loss of the rows that the nets were trained on and of those that they did not, along the training."""

    step: list[int]
    train: list[float]
    held: list[float]  # empty where every row is trained on


class Nets(nn.Module):
    """E nets of one setting's shape on one table. Calling it gives, for rows (B, F) float32:

    - classification: log-probabilities (E, B, K);
    - regression: value and standard deviation (E, B, 2), in the target's unit. The spread is predicted by nets of its
      own, E of the same shape, whose gradient never reaches the values'.
    """

    centre: Tensor  # (E, 1) of the target, training rows only
    spread: Tensor

    def __init__(self, task: Task, setting: Setting, *, nets: int, generator: torch.Generator) -> None:
        super().__init__()
        self.task, self.setting, self.nets = task, setting, nets
        self.dense = Dense(
            task.layout,
            nets=nets if task.classes else 2 * nets,
            widths=setting.widths,
            outputs=task.outputs,
            generator=generator,
        )
        if not task.classes:
            self.register_buffer("centre", torch.zeros(nets, 1))
            self.register_buffer("spread", torch.ones(nets, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.answers(self.dense(x))

    def answers(self, out: Tensor) -> Tensor:
        """What the last layer's outputs (E, B, K or 1), or (2E, B, 1), stand for."""
        if self.task.classes > 2:
            return F.log_softmax(out, dim=-1)
        if self.task.classes == 2:
            return torch.cat([F.logsigmoid(-out), F.logsigmoid(out)], dim=-1)
        value, log_spread = out[: self.nets, :, 0], out[self.nets :, :, 0]
        scale = torch.exp(log_spread.clamp(min=LEAST_LOG_SPREAD))
        return torch.stack([self.centre + self.spread * value, self.spread * scale], dim=-1)

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        """(E, B) or (2E, B): cross-entropy; or half the squared error, and the spread's normal likelihood."""
        if self.task.classes == 2:
            return F.binary_cross_entropy_with_logits(out[..., 0], y.float().expand(len(out), -1), reduction="none")
        if self.task.classes:
            flat = F.cross_entropy(out.flatten(0, 1), y.repeat(len(out)), reduction="none")
            return flat.view(len(out), -1)
        error = (y - self.centre) / self.spread - out[: self.nets, :, 0]  # (E, B)
        log_spread = out[self.nets :, :, 0].clamp(min=LEAST_LOG_SPREAD)
        likelihood = error.detach().square() * torch.exp(-2 * log_spread) / 2 + log_spread
        return torch.cat([error.square() / 2, likelihood])

    def take(self, first: int, count: int) -> Nets:
        """The `count` nets from number `first` on, as nets of their own."""
        own = Nets(self.task, self.setting, nets=count, generator=torch.Generator())
        picked = torch.arange(first, first + count)
        both = picked if self.task.classes else torch.cat([picked, self.nets + picked])
        state = {
            name: value[both if name.startswith("dense.") else picked] if value.is_floating_point() else value
            for name, value in self.state_dict().items()
        }
        own.load_state_dict(state)
        return own.requires_grad_(False)

    @torch.no_grad()
    def see(self, x: Tensor, y: Tensor, learns: Tensor) -> None:
        """Take the statistics of the rows that each net learns from; `learns` is bool (E, N)."""
        weight = learns.float()
        if self.task.classes:
            self.dense.coding.standardise(x, weight)
            return
        self.dense.coding.standardise(x, torch.cat([weight, weight]))
        share = weight.double() / weight.double().sum(1, keepdim=True)
        centre = share @ y.double()
        variance = (share * (y.double() - centre[:, None]).square()).sum(1)
        self.centre.copy_(centre[:, None].float())
        self.spread.copy_(torch.where(variance > 0, variance.sqrt(), 1.0)[:, None].float())


def learn(
    x: Tensor,
    y: Tensor,
    learns: Tensor,
    settings: Sequence[Setting],
    task: Task,
    *,
    seed: int,
    schedule: Schedule | None = None,
) -> tuple[Nets, Curve]:
    """Learn one net per mask and setting, all settings of the same widths.

    Args:
        x, y: (N, F) float32 and (N,).
        learns: bool (S, N), the rows that each net learns from.
    Returns:
        settings x S nets, those of the first setting first, and their mean curve.
    """
    assert len({s.widths for s in settings}) == 1
    count, masks = len(settings) * len(learns), learns.repeat(len(settings), 1)
    generator = torch.Generator().manual_seed(seed)
    nets = Nets(task, settings[0], nets=count, generator=generator)
    nets.see(x, y, masks)
    schedule = schedule or Schedule.for_rows(len(y))
    decay = torch.tensor([s.decay for s in settings]).repeat_interleave(len(learns))
    if not task.classes:
        masks, decay = masks.repeat(2, 1), decay.repeat(2)
    rows = masks.sum(1)  # (E,) or (2E,)
    whole = schedule.batch >= len(y)
    with torch.no_grad():
        coded = nets.dense.coding(x).contiguous() if whole else None
    optimiser = torch.optim.Adam(nets.parameters(), lr=schedule.lr, betas=BETAS, fused=True)
    curve, every = Curve(step=[], train=[], held=[]), max(1, schedule.steps // CURVE_POINTS)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(schedule.steps):
        optimiser.param_groups[0]["lr"] = schedule.lr * (1 - step / schedule.steps)
        if coded is not None:
            out, target, mask = nets.dense.layers(coded), y, masks
        else:
            if len(order) < schedule.batch:
                order = torch.cat([order, torch.randperm(len(y), generator=generator)])
            picked, order = order[: schedule.batch], order[schedule.batch :]
            out, target, mask = nets.dense(x[picked]), y[picked], masks[:, picked]
        losses = nets.losses(out, target)
        seen = mask.sum(1).clamp(min=1)
        loss = ((losses * mask).sum(1) / seen + decay * nets.dense.squares() / (2 * rows)).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % every == 0 or step == schedule.steps - 1:
            _note(curve, step + 1, losses.detach()[:count], mask[:count])
    return nets.requires_grad_(False), curve


def _note(curve: Curve, step: int, losses: Tensor, mask: Tensor) -> None:
    curve.step.append(step)
    curve.train.append(float(losses[mask].mean()))
    if not bool(mask.all()):
        curve.held.append(float(losses[~mask].mean()))
