"""From trained graphs to a published folder: what is the same for every family.

The figures of quality are measured on the folder's own ONNX files, before it is put in place.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from app.core.manifest import DataSource, Made, Manifest, Measure, Modality, Task
from training import export
from training.export import Export
from training.family import Family, Measured

D = TypeVar("D")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a family says of its model; the rest of the manifest is worked out here.

    `fields` are the manifest's fields that only some families have: labels, picture, table, target, conformal, latent,
    anomaly, calibration. `files` lie beside the graphs, by name; fields hold their hashes. `train_s` and `seeds` are
    those of the model that is published; `goals` of its figures.
    """

    task: Task
    modality: Modality
    title: str
    summary: str
    data: DataSource
    max_rows: int
    train_s: float
    precision: str  # of training, as Accelerate calls it
    seeds: Sequence[int]
    parameters: int | None = None  # default: those of the graphs
    goals: Mapping[str, float] = field(default_factory=dict)
    more: Sequence[Measure] = ()  # besides what the family measures
    fields: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def total_seconds(history: Iterable[Mapping[str, float]]) -> float:
    """What the epochs took together."""
    return sum(row["seconds"] for row in history)


def name_model(options: argparse.Namespace, default: str) -> None:
    """Fill in `options.name` where none was given, and refuse before training what could not be published after it.

    Raises: PublishError.
    """
    options.name = options.name or default
    export.check_can_publish(Path(options.models), options.name, options.model_version)


def publish(
    family: Family[D],
    dataset: D,
    draft: Draft,
    exports: Sequence[Export],
    *,
    options: argparse.Namespace,
    measure: Callable[[Path, Manifest], Measured] | None = None,
    keep: Callable[[Path, Measured], None] = lambda folder, measured: None,
) -> Path:
    """Write `<options.models>/<options.name>/<version>/`, measure and show it as the family does, and return it.

    Args:
        exports: the graphs; the first one's golden rows are those that people are shown.
        measure: where publishing measures more than the family's `measure`: given the folder, whose graphs and
            manifest are there, and the manifest, which has no quality yet.
        keep: writes into `folder / "report"`, which is there, what the family's `write_report` reads.

    Raises: PublishError.
    """
    models = Path(options.models)
    version = options.model_version or export.next_version(models, options.name)
    with export.staged(models, options.name, version) as folder:
        written = {one.graph: export.write_graph(folder, one) for one in exports}
        for name, data in draft.files.items():
            (folder / name).write_bytes(data)
        first, *others = exports
        parameters = nn.ModuleList(one.module for one in exports).parameters()  # each once, in however many graphs
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
                precision="fp32" if draft.precision == "no" else draft.precision,
                parameters=draft.parameters or sum(p.numel() for p in parameters),
                parity_max_abs=max(one.parity_max_abs for one in written.values()),
                parity_rows=min(one.rows for one in exports),
                packages={name: package_version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")},
            ),
            report="report/index.html",
            **draft.fields,
        )
        export.write_manifest(folder, manifest)
        found = (
            measure(folder, manifest) if measure else family.measure(folder, manifest, dataset, data=None, rows=None)
        )
        quality = (*found.measures(seeds=draft.seeds, goals=draft.goals), *draft.more)
        manifest = manifest.model_copy(update={"quality": quality})
        export.write_manifest(folder, manifest)
        (folder / "report").mkdir()
        keep(folder, found)
        family.write_report(folder, manifest, dataset, found)
    return Path(models, options.name, version)


def write_json(file: Path, kept: object) -> None:
    file.write_text(json.dumps(kept), encoding="utf-8")


def read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
