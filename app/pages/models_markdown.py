"""The models of a folder as a Markdown document, from their manifests alone: `python -m app models --markdown`.

`docs/models.md` is this document for the shipped models; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, get_args

from app.core.manifest import Manifest, Measure, Task
from app.core.metric_names import HIGHER, LOWER, figure, goal_of, kind_of, title_of

FIRST_FIGURES: Final = 3  # of a model, beside those that have a goal
EXTRACTORS: Final = ("_pooled", "_strided", "_random")  # parts of a mean that is shown
INTRODUCTION: Final = """\
# Models

<!-- Written by `python -m app models --markdown`; change the manifests, not this file. -->

The models follow a first course on neural networks: from the perceptron over dense and convolutional networks,
autoencoders and GANs to diffusion, and the shapes of recurrent networks. A plain network like `mlp-mnist` is one to
one. Many to one are the models of spoken words, many to many is `speech`, and synced many to many, with an output for
every input, are those that label frames.

Every figure stands in the model's `manifest.json`, with the protocol that measured it. A goal was set before training.
A figure with ± is a mean over seeds or repetitions, with its standard deviation. The number of rows that a figure was
measured on stands beside it. Most models have more figures than are shown here: they are in the report
(`models/<name>/<version>/report/index.html`) and in the model card (`/v1/models/<name>`).

[benchmarks.md](benchmarks.md) explains the measures and compares the models with other methods. The terms of the data
are in [LICENSE](../LICENSE).
"""


def models_markdown(manifests: Sequence[Manifest], defaults: Mapping[str, str]) -> str:
    """One table for each task, the default model first.

    Args:
        manifests: of the models, in any order.
        defaults: model name by task, or by task and modality (`classify.table`), as in the settings.
    """
    parts = [INTRODUCTION]
    for task in get_args(Task):
        found = [manifest for manifest in manifests if manifest.task == task]
        if found:
            parts.append(f"\n## {task.capitalize()}\n\n" + _table(task, found, defaults))
    return "".join(parts)


def _table(task: Task, manifests: Sequence[Manifest], defaults: Mapping[str, str]) -> str:
    first = [name for key, name in defaults.items() if key.partition(".")[0] == task]

    def rank(manifest: Manifest) -> tuple[int, str]:
        return (first.index(manifest.name) if manifest.name in first else len(first), manifest.name)

    lines = ["| model | data set | figures, and their goals | licence of the data | made by |", "|---|---|---|---|---|"]
    for manifest in sorted(manifests, key=rank):
        answered = [key for key, name in defaults.items() if name == manifest.name]
        name = f"`{manifest.name}`" + (
            f"<br>default for {', '.join(f'`{key}`' for key in answered)}" if answered else ""
        )
        figures = "<br>".join(_figure(measure) for measure in _shown(manifest.quality))
        cells = (f"{name}<br>{manifest.title}", manifest.data.name, figures, manifest.data.licence)
        lines.append(f"| {' | '.join(map(_cell, cells))} | `.venv/bin/{manifest.made.command}` |")
    return "\n".join(lines) + "\n"


def _shown(quality: Sequence[Measure]) -> list[Measure]:
    """The first figures and all that have a goal, in the manifest's order."""
    own = [measure for measure in quality if not measure.name.endswith(EXTRACTORS)]
    return [measure for i, measure in enumerate(own) if i < FIRST_FIGURES or measure.goal is not None]


def _figure(measure: Measure) -> str:
    """`Accuracy, mean 99.70 ± 0.02 % (10,000 rows, 3 seeds): the goal, at least 99.75 %, is missed`."""
    value = figure(measure.value, measure.name, measure.unit)
    if measure.value and not float(value.split("\u202f")[0]):  # smaller than its decimals can show
        value = f"{measure.value:.1e}"
    if measure.spread is not None:
        number, gap, unit = value.partition("\u202f")
        value = f"{number} ± {figure(measure.spread, measure.name, measure.unit).partition(chr(0x202F))[0]}{gap}{unit}"
    rows = f"{measure.rows:,} row{'s' * (measure.rows != 1)}"
    seeds = f", {len(measure.seeds)} seeds" if len(measure.seeds) > 1 else ""
    return f"{title_of(measure.name)} {value} ({rows}{seeds}){_verdict(measure)}"


def _verdict(measure: Measure) -> str:
    kind = kind_of(measure.name)
    if measure.goal is None or kind not in HIGHER + LOWER:
        return ""
    reached = measure.value >= measure.goal if kind in HIGHER else measure.value <= measure.goal
    return f": the goal, {goal_of(measure)}, is {'reached' if reached else 'missed'}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
