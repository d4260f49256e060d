"""What the tests of a model's life share: real folders put in place of one another, and a gate before every load."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engine import registry as module
from app.engine.model import Model
from app.engine.registry import Registry
from tests.in_loop import turns
from tests.made_models import brightness_probabilities, make_classifier_folder

__all__ = ["IMAGE", "Gate", "labels_of", "publish", "spoil_one_bit", "states", "turns"]

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), dtype=np.uint8)


def publish(root: Path, labels: int, name: str = "tiny", version: str = "1") -> Path:
    """A model that tells `labels` greys apart, put in place of what was there, as one rename."""
    made = make_classifier_folder(root / ".made", name, version, [f"grey {k}" for k in range(labels)])
    folder = root / name / version
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(exist_ok=True)
    made.rename(folder)
    return folder


async def labels_of(model: Model) -> int:
    """How many it tells apart, by its own answer, which must be the right one."""
    answer = (await model.run("classifier", {"image": IMAGE})).tensors["probabilities"]
    labels = answer.shape[1]
    np.testing.assert_allclose(answer, brightness_probabilities(IMAGE, labels), atol=1e-5)
    return int(labels)


def states(registry: Registry) -> dict[str, str]:
    return {f"{known.name}/{known.version}": known.state for known in registry.catalog.index()}


class Gate:
    """Stands before every load: `reached` tells that one has begun, which goes on once `opened` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.inside = self.most_inside = 0
        self._load = module.load_model
        monkeypatch.setattr(module, "load_model", self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.reached.set()
        assert self.opened.wait(20)
        try:
            return self._load(*args, **options)
        finally:
            self.inside -= 1


def spoil_one_bit(folder: Path) -> None:
    path = folder / "classifier.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
