"""Reference classifiers, whose features compare generated pictures with real ones: trained on real ones,
never shipped, never used in a training.

Two nets of different architecture, so that what pleases one of them by chance does not please both, and a third of
random weights, which no labels have trained to overlook anything. Their features are what `generated.py` compares.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.data import augment
from training.data.base import ImageDataset, cache_folder, shuffled

log = logging.getLogger(__name__)

READERS: Final = ("pooled", "strided")
UNTAUGHT: Final = "random"
EXTRACTORS: Final = (*READERS, UNTAUGHT)
_ROWS: Final = 500  # rows per forward pass


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """How one of them is trained; another value anywhere makes another one."""

    network: str
    seed: int
    epochs: int = 4
    batch_size: int = 128
    lr: float = 3e-3
    handwriting: float = 0.7
    precision: str = "bf16"


SETTINGS: Final = (
    ReferenceSettings(network="pooled", seed=101),
    ReferenceSettings(network="strided", seed=102),
    ReferenceSettings(network=UNTAUGHT, seed=103, epochs=0),
)


class ReferenceClassifier(nn.Module):
    """Pictures (B, C, H, W) in [0, 1] to features (B, F), and these to logits (B, K)."""

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


def pooled(shape: tuple[int, int, int], classes: int) -> ReferenceClassifier:
    """3x3 convolutions with batch norm and maxima between them; 96 features behind a hidden layer, rectified."""
    h, w, c = shape
    body = nn.Sequential(
        nn.Conv2d(c, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(48, 96, 3, padding=1, bias=False),
        nn.BatchNorm2d(96),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96 * (h // 4) * (w // 4), 96),
        nn.ReLU(),
    )
    return ReferenceClassifier(body, 96, classes)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(4, channels),
            nn.Conv2d(channels, channels, 5, padding=2, groups=4),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


def strided(shape: tuple[int, int, int], classes: int) -> ReferenceClassifier:
    """Strides in place of maxima, 5x5 residual blocks in groups with group norm; 64 features, not rectified."""
    h, w = (((n - 1) // 2 + 1) // 2 for n in shape[:2])
    body = nn.Sequential(
        nn.Conv2d(shape[2], 32, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        _Residual(64),
        _Residual(64),
        nn.GroupNorm(4, 64),
        nn.GELU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(64 * ((h - 1) // 2 + 1) * ((w - 1) // 2 + 1), 64),
    )
    return ReferenceClassifier(body, 64, classes)


def untaught(shape: tuple[int, int, int], classes: int) -> ReferenceClassifier:
    """Rectified 5x5 convolutions, then a projection to 64 features, all of it drawn at random."""
    h, w, c = (*(((n + 1) // 2 + 1) // 2 for n in shape[:2]), shape[2])
    body = nn.Sequential(
        nn.Conv2d(c, 24, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(24, 48, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48 * h * w, 64),
    )
    for layer in body:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return ReferenceClassifier(body, 64, classes)


NETWORKS: Final[dict[str, Callable[[tuple[int, int, int], int], ReferenceClassifier]]] = {
    "pooled": pooled,
    "strided": strided,
    UNTAUGHT: untaught,
}


class ReferenceClassifiers:
    """The three extractors and the real pictures that others are held against.

    Pictures are (N, H, W) or (N, H, W, C), uint8 from 0 to 255 or floats from 0 to 1, as arrays or tensors. Floats are
    rounded to 256 levels, so that a saved picture and the array that it was made of are read alike.
    """

    def __init__(self, networks: dict[str, ReferenceClassifier], data: ImageDataset, folder: Path) -> None:
        self.networks = networks
        self.data = data
        self.folder = folder
        self._known: dict[tuple[str, int], dict[str, NDArray[np.float32]]] = {}

    @torch.no_grad()
    def features(self, pictures: NDArray[np.generic] | Tensor) -> dict[str, NDArray[np.float32]]:
        """By extractor, (N, F)."""
        x = as_bytes(pictures, self.data)
        return {
            name: np.concatenate([net.body(_planes(rows)).numpy() for rows in torch.split(x, _ROWS)])
            for name, net in self.networks.items()
        }

    def real(self, part: Literal["train", "held", "test"], rows: int) -> dict[str, NDArray[np.float32]]:
        """Features of `rows` real pictures, always the same ones: by extractor, (rows, F). Computed once."""
        if (part, rows) not in self._known:
            x = {"train": self.data.train_x, "held": self.data.held_x, "test": self.data.test_x}[part]
            self._known[part, rows] = self.features(x[torch.from_numpy(shuffled(len(x), seed=0)[:rows])])
        return self._known[part, rows]

    @torch.no_grad()
    def probabilities(self, pictures: NDArray[np.generic] | Tensor) -> NDArray[np.float32]:
        """Which label each picture shows, the mean of the two classifiers: (N, K)."""
        x = as_bytes(pictures, self.data)
        readers = [self.networks[name] for name in READERS]
        parts = [sum(net(_planes(rows)).softmax(1) for net in readers) / len(readers) for rows in torch.split(x, _ROWS)]
        return np.concatenate([np.asarray(part, np.float32) for part in parts])

    def labels(self, pictures: NDArray[np.generic] | Tensor) -> NDArray[np.int64]:
        """The most probable label of each picture, its index: (N,)."""
        return np.asarray(self.probabilities(pictures).argmax(axis=1), np.int64)


def reference_classifiers(
    cache: Path | None, data: ImageDataset, *, settings: tuple[ReferenceSettings, ...] = SETTINGS
) -> ReferenceClassifiers:
    """The reference classifiers for a data set, from `cache` or trained now (a few minutes) and put there.

    Args:
        cache: a folder; None for `judges` in the cache folder of the data sets. Files are named by the hash of a
            classifier's settings and its training rows, so that a stale one is never met.
    """
    folder = cache if cache is not None else cache_folder() / "judges"
    shape = (data.train_x.shape[1], data.train_x.shape[2], data.train_x.shape[3])
    networks = {}
    for s in settings:
        if s.epochs:
            networks[s.network] = trained(folder, s, data.train_x, data.train_y, title=data.title)
        else:
            networks[s.network] = untrained(s, shape, data.classes)
    return ReferenceClassifiers(networks, data, folder)


def untrained(s: ReferenceSettings, shape: tuple[int, int, int], classes: int) -> ReferenceClassifier:
    """The untrained network of a seed, for pictures of `shape` (H, W, C)."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(s.seed)
        network = NETWORKS[s.network](shape, classes).eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    return network


def trained(folder: Path | None, s: ReferenceSettings, x: Tensor, y: Tensor, *, title: str) -> ReferenceClassifier:
    """The network that these settings make of pictures x (N, H, W, C) uint8 and labels y (N,): from `folder`, or
    trained now and put there; None keeps it nowhere."""
    network = untrained(s, (x.shape[1], x.shape[2], x.shape[3]), int(y.max()) + 1)
    path = folder / f"{s.network}-{_digest(s, network, x, y)}.pt" if folder is not None else None
    if path is not None and path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    log.warning("training the reference classifier '%s' on %s: a minute or two", s.network, title)
    network.requires_grad_(True)
    train_classifier(network, x, y, s)
    network.requires_grad_(False)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        torch.save(network.state_dict(), temporary)
        temporary.replace(path)
    return network


def as_bytes(pictures: NDArray[np.generic] | Tensor, data: ImageDataset) -> Tensor:
    """(N, H, W, C) uint8 of what a caller gave.

    Raises:
        ValueError: another shape than the data's, or floats that are not numbers.
    """
    x = torch.as_tensor(pictures)
    shape = tuple(data.test_x.shape[1:])
    if x.ndim == 3:
        x = x.unsqueeze(-1)
    if x.ndim != 4 or tuple(x.shape[1:]) != shape:
        raise ValueError(f"pictures: expected rows of {shape}, got {tuple(torch.as_tensor(pictures).shape)}")
    if x.dtype == torch.uint8:
        return x
    if not bool(torch.isfinite(x).all()):
        raise ValueError("pictures: expected numbers from 0 to 1, got some that are not finite")
    return (x.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def accuracy(network: ReferenceClassifier, x: Tensor, y: Tensor) -> float:
    """The share of pictures (N, H, W, C) uint8 that are read as their labels (N,)."""
    read = torch.cat([network(_planes(rows)).argmax(1) for rows in torch.split(x, _ROWS)])
    return float((read == y).float().mean())


def train_classifier(network: ReferenceClassifier, x: Tensor, y: Tensor, s: ReferenceSettings) -> None:
    """Adam with one rise and fall of the rate, on pictures (N, H, W, C) uint8 slightly bent and moved; in place."""
    network.train()
    draws = torch.Generator().manual_seed(s.seed)
    batch = min(s.batch_size, len(x))
    steps = s.epochs * (len(x) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=s.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, s.lr, total_steps=max(2, steps), pct_start=0.2)
    for _ in range(s.epochs):
        order = torch.randperm(len(x), generator=draws)
        for rows in torch.split(order, batch)[: len(x) // batch]:
            seen = _planes(x[rows])
            if s.handwriting:
                seen = augment.handwrite(seen, draws, strength=s.handwriting)
            with torch.autocast("cpu", torch.bfloat16, enabled=s.precision == "bf16"):
                logits = network(seen.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), y[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    network.eval()


def _planes(x: Tensor) -> Tensor:
    # One layout always, and of the weights too: another one rounds otherwise.
    return (x.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)


def _digest(s: ReferenceSettings, network: ReferenceClassifier, x: Tensor, y: Tensor) -> str:
    made_of = hashlib.sha256(json.dumps(asdict(s), sort_keys=True).encode())
    # `Judge` was the class's name when the first of these files were kept.
    made_of.update(str(network).replace("ReferenceClassifier(", "Judge(", 1).encode())
    made_of.update(x.contiguous().numpy().tobytes())
    made_of.update(y.contiguous().numpy().tobytes())
    return made_of.hexdigest()[:12]
