"""The section of a dense picture net's report about what was tried."""

from __future__ import annotations

from pathlib import Path

from training.metrics import onnx_model
from training.reporting.ablations import tried
from training.reporting.html import Section


def decided(folder: Path) -> list[Section]:
    """What was tried on the data set of the model in `folder`."""
    return [tried(Path(__file__).parent, onnx_model.load_manifest(folder).data.spec)]
