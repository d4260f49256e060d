"""Training of a CycleGAN: two translators against two critics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.domains import Pair
from training.families.cyclegan.network import Critic, Translator, with_channels
from training.networks.pictures import pixels
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor
from training.options import described
from training.recipe import Batch, Parts, Resumable

MEASURED_ROWS: Final = 500
WATCH_EVERY: Final = 250  # steps
ROWS_PER_PASS: Final = 250
MAP_RATE: Final = 10.0  # times the learning rate, of gains and offsets by place
CRITICS_WIN: Final = 0.95  # share of right answers
WATCHED_NOISE: Final = 0.03  # deviation, pixels in [0, 1]: seen by nobody
HIDING: Final = 2.0  # times the cycle error, under that noise
Contest = Literal["lsgan", "relativistic"]


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Defaults chosen on the held-out digits."""

    width: int = described(16, "channels of the translators at half the picture's side")
    deep: int = described(64, "and at a quarter")
    blocks: int = described(2, "residual blocks at a quarter")
    critic: int = described(24, "channels of the critics' first layer")
    placed: bool = described(False, "give each place its own gains and offsets: for pictures of one scene")
    epochs: int = described(1, "times that every row is seen")
    batch_size: int = described(8, "rows of each domain per optimisation step")
    lr: float = described(1e-3, "learning rate of the translators (Adam)")
    critic_lr: float = described(5e-4, "learning rate of the critics")
    schedule: Schedule = described("cosine", "how the learning rates change over the run")
    contest: Contest = described("lsgan", "what translators and critics compete in")
    cycle: float = described(10.0, "weight of the cycle loss")
    identity: float = described(5.0, "weight of the identity loss")
    r1: float = described(0.0, "weight of the critics' gradient penalty on real pictures")
    # Without it a translation can hide in invisible detail what the way back needs (Chu et al. 2017).
    noise: float = described(0.03, "deviation of the noise on a translation before its way back, pixels in [0, 1]")
    ema_steps: float = described(500.0, "steps over which the weights are averaged for serving")


def for_pair(pair: Pair) -> Hyperparameters:
    """Where a domain shows one scene, each place has its own gains and offsets, and a picture of the other domain is no
    picture that could stay as it is."""
    return Hyperparameters(placed=True, identity=0.0) if pair.placed else Hyperparameters()


class Trainer(Resumable):
    """A `Recipe`: two translators with their moving averages, two critics, two optimisers."""

    def __init__(self, pair: Pair, h: Hyperparameters, *, seed: int, accelerator: Accelerator) -> None:
        self.h = h
        self.accelerator = accelerator
        self.held = tuple(pixels(x[:MEASURED_ROWS]) for x in pair.held)
        torch.manual_seed(seed)
        first, second = ((p.channels, p.height, p.width) for p in (d.picture for d in pair.domains))
        sizes = {"width": h.width, "deep": h.deep, "blocks": h.blocks}
        self.translators = nn.ModuleList(
            [Translator(a, b, placed=h.placed, **sizes) for a, b in ((first, second), (second, first))]
        )
        self.critics = nn.ModuleList([Critic(first[0], width=h.critic), Critic(second[0], width=h.critic)])
        for part in (self.translators, self.critics):
            part.to(accelerator.device)
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.average = average_of(self.translators, accelerator.device)
        self.recent: dict[str, Tensor] = {}  # moving averages of what a step shows
        self.watched: list[dict[str, float]] = []  # and of what is measured, every so many steps
        self.optimisers = [
            torch.optim.Adam(_groups(part, lr), betas=(0.5, 0.99), fused=True)
            for part, lr in ((self.translators, h.lr), (self.critics, h.critic_lr))
        ]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the translators, one of the critics."""
        h = self.h
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full_lr"] * rate_factor(h.schedule, batch.progress)
        real = [pixels(x) for x in (batch.x, batch.y)]
        noise = [torch.randn(x.shape, generator=batch.generator, device=x.device) * h.noise for x in real]
        real = [x[batch.share].contiguous(memory_format=torch.channels_last) for x in real]
        noise = [x[batch.share] for x in noise]
        figures, fake = self._translators(real, noise)
        figures |= self._critics(real, [x.detach() for x in fake])
        follow(self.average, self.translators, constant_length(h.ema_steps, position=batch.position))
        for name, value in figures.items():
            self.recent[name] = torch.lerp(self.recent.get(name, value), value, 0.02)
        if (batch.position + 1) % WATCH_EVERY == 0:
            self.watched.append({"step": batch.position + 1.0, **self.measure()})
            for name, value in self.recent.items():
                self.watched[-1][name] = float(value)
        return figures

    def _translators(self, real: list[Tensor], noise: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Both ways at once; index 0 is the first domain, `fake[0]` lies in it."""
        h = self.h
        there, back = self.translators
        self.critics.requires_grad_(False)
        self.optimisers[0].zero_grad()
        with self.accelerator.autocast():
            n = len(real[0])
            if h.identity:
                few = [x[: max(1, n // 4)] for x in real]  # rows of the other domain that stay as they are: costly
                inputs = [with_channels(few[1 - i], real[i].shape[1]) for i in (0, 1)]
                made = [net(torch.cat([real[i], inputs[i]])) for i, net in enumerate((there, back))]
                kept = sum((made[i][n:] - few[1 - i]).abs().mean() for i in (0, 1))
            else:
                made = [there(real[0]), back(real[1])]
                kept = real[0].new_zeros(())
            fake = [made[1][:n], made[0][:n]]
            # fake[1] + noise lies nearly in domain 1 and must come back to real[0].
            returned = [back(fake[1] + noise[1]), there(fake[0] + noise[0])]
            cycle = sum((returned[i] - real[i]).abs().mean() for i in (0, 1))
            won = real[0].new_zeros(())
            for critic, x, y in zip(self.critics, real, fake, strict=True):
                if h.contest == "lsgan":
                    won = won + ((critic(y) - 1) ** 2).mean()
                else:
                    with torch.no_grad():
                        before = critic(x)
                    won = won + F.softplus(before - critic(y)).mean()
        self.accelerator.backward(won + h.cycle * cycle + h.identity * kept)
        self.optimisers[0].step()
        return {"cycle": cycle.detach() / 2, "identity": kept.detach() / 2, "contest": won.detach() / 2}, fake

    def _critics(self, real: list[Tensor], fake: list[Tensor]) -> dict[str, Tensor]:
        h = self.h
        self.critics.requires_grad_(True)
        self.optimisers[1].zero_grad()
        loss, right = real[0].new_zeros(()), []
        for critic, x, y in zip(self.critics, real, fake, strict=True):
            with self.accelerator.autocast():
                on_real, on_fake = critic(torch.cat([x, y])).chunk(2)
            if h.contest == "lsgan":
                loss = loss + ((on_real - 1) ** 2).mean() + (on_fake**2).mean()
                middle = 0.5
                right.append(((on_real > middle).float().mean() + (on_fake < middle).float().mean()) / 2)
            else:
                loss = loss + F.softplus(on_fake - on_real).mean()
                right.append((on_real > on_fake).float().mean())
            if h.r1:
                x = x.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
                loss = loss + h.r1 / 2 * slope.square().sum((1, 2, 3)).mean()
        self.accelerator.backward(loss)
        self.optimisers[1].step()
        return {"critic": loss.detach() / 2, "critic_right": torch.stack(right).mean()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """On held-out digits: cycle errors after 8 bits and under noise, and PSNR to the truth, which is watched, never
        trained on."""
        found: dict[str, float] = {}
        there, back = self.average.eval()
        generator = torch.Generator().manual_seed(0)
        for i, (name, way, home) in enumerate((("there", there, back), ("back", back, there))):
            made = _in_portions(way, self.held[i])
            noise = torch.randn(made.shape, generator=generator).to(made.device) * WATCHED_NOISE
            for kind, x in (("cycle", (made * 255).round() / 255), ("noisy", made + noise)):
                found[f"held_{kind}_{name}"] = float((_in_portions(home, x) - self.held[i]).abs().mean())
            found[f"held_psnr_{name}"] = float(-10 * ((made - self.held[1 - i]) ** 2).mean().log10())
        right = self.recent.get("critic_right")
        for words in warnings(found, 0.5 if right is None else float(right)):
            self.accelerator.print(f"warning: {words}")
        return found

    def parts(self) -> dict[str, Parts]:
        return {
            "translators": self.translators,
            "average": self.average,
            "critics": self.critics,
            "optimisers": self.optimisers,
        }

    def state(self) -> dict[str, Any]:
        return super().state() | {"recent": self.recent, "watched": self.watched}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.recent, self.watched = dict(state["recent"]), list(state["watched"])


def _groups(part: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Parameters to learn, with the learning rate that they start from."""
    maps = [p for name, p in part.named_parameters() if name.endswith(("gain", "offset")) and p.requires_grad]
    others = [p for name, p in part.named_parameters() if not name.endswith(("gain", "offset"))]
    groups = [{"params": others, "full_lr": lr, "lr": lr}]
    # Each number of a map is seen at one place only, and has logits to go, not weights.
    return [*groups, {"params": maps, "full_lr": MAP_RATE * lr, "lr": MAP_RATE * lr}] if maps else groups


def warnings(measured: Mapping[str, float], critics_right: float) -> list[str]:
    """What is going wrong, from what `Trainer.measure` found and the critics' share of right answers; often nothing."""
    found = []
    if critics_right > CRITICS_WIN:
        found.append(
            f"the critics are right of {100 * critics_right:.0f} % of the pictures and teach little: lower --critic-lr "
            "or raise --r1"
        )
    for name in ("there", "back"):
        clean, noisy = measured[f"held_cycle_{name}"], measured[f"held_noisy_{name}"]
        if noisy > HIDING * clean + WATCHED_NOISE / 2:
            found.append(
                f"what comes back of the way {name} is {noisy:.3f} off under noise of {WATCHED_NOISE}, {clean:.3f} "
                "without: the translation hides the picture in detail that cannot be seen; raise --noise"
            )
    return found


def _in_portions(net: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([net(rows) for rows in torch.split(x, ROWS_PER_PASS)])
