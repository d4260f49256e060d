"""From trained graphs to a published folder: what is the same for every family.

The figures of quality are measured on the folder's own ONNX files, before it is put in place.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import torch

from app.core.manifest import DataSource, Made, Manifest, Measure, Modality, Task
from training import export
from training.export import Export


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a family says of its model; the rest of the manifest is worked out here.

    `fields` are the manifest's fields that only some families have: labels, picture, table, target, conformal, latent,
    anomaly, calibration. `train_s` and `parameters` are those of the model that is published.
    """

    task: Task
    modality: Modality
    title: str
    summary: str
    data: DataSource
    max_rows: int
    train_s: float
    parameters: int
    precision: str  # of training, as Accelerate calls it
    fields: dict[str, Any] = field(default_factory=dict)


def name_model(options: argparse.Namespace, default: str) -> None:
    """Fill in `options.name` where none was given, and refuse before training what could not be published after it.

    Raises: PublishError.
    """
    options.name = options.name or default
    export.check_can_publish(Path(options.models), options.name, options.model_version)


def publish(
    draft: Draft,
    exports: Sequence[Export],
    *,
    options: argparse.Namespace,
    measure: Callable[[Path, Manifest], tuple[Measure, ...]],
    report: Callable[[Path, Manifest], None],
) -> Path:
    """Write `<options.models>/<options.name>/<version>/` and return it.

    Args:
        exports: the graphs; the first one's golden rows are those that people are shown.
        measure: given the folder, whose graphs and manifest are there, and the manifest, which has no quality yet.
        report: given the folder and the whole manifest; writes into `folder / "report"`, which is there, at least
            `index.html`.

    Raises: PublishError.
    """
    models = Path(options.models)
    version = options.model_version or export.next_version(models, options.name)
    with export.staged(models, options.name, version) as folder:
        written = {one.graph: export.write_graph(folder, one) for one in exports}
        first, *others = exports
        manifest = Manifest(
            schema_version=1,
            name=options.name,
            version=version,
            task=draft.task,
            modality=draft.modality,
            title=draft.title,
            summary=draft.summary,
            graphs={name: one.graph for name, one in written.items()},
            max_rows=draft.max_rows,
            golden=export.write_golden(folder, "golden.npz", first.graph, written[first.graph]),
            golden_others=tuple(
                export.write_golden(folder, f"golden-{one.graph}.npz", one.graph, written[one.graph]) for one in others
            ),
            data=draft.data,
            made=Made(
                command=options.command,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                train_s=round(draft.train_s, 1),
                machine=f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
                + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
                precision=draft.precision,
                parameters=draft.parameters,
                parity_max_abs=max(one.parity_max_abs for one in written.values()),
                parity_rows=min(one.rows for one in exports),
                packages={name: package_version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")},
            ),
            report="report/index.html",
            **draft.fields,
        )
        export.write_manifest(folder, manifest)
        manifest = manifest.model_copy(update={"quality": measure(folder, manifest)})
        export.write_manifest(folder, manifest)
        (folder / "report").mkdir()
        report(folder, manifest)
    return Path(models, options.name, version)
