"""The contract between training and app: `manifest.json`, strict and frozen.

`training/export.py` writes it last, `app/engine/registry.py` believes nothing but it. A field that is
not declared here is refused, and so is a manifest of another schema version: what the server does not
understand it must not guess. `python -m app schema` prints the JSON Schema of this file.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from app.core.manifest.graph import Golden, Graph
from app.core.manifest.image import Domain, Picture, Plane, Translation
from app.core.manifest.latent import Anomaly, Latent
from app.core.manifest.part import Identifier, Label, ManifestPart, Text
from app.core.manifest.sampling import Sampling
from app.core.manifest.sound import Sound, Transcription
from app.core.manifest.table import Conformal, Table, Target
from app.core.manifest.tasks import TASKS, Task
from app.core.manifest.text import Languages, TextFile, Writing
from app.core.manifest.text import Text as ReadText
from app.core.manifest.video import FrameLabels, Video

SCHEMA_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"

Modality = Literal["image", "table", "text", "audio", "video", "tensor"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]


class Measure(ManifestPart):
    """One measured figure of quality, with what is needed to doubt it."""

    name: Identifier
    value: float
    spread: float | None = None  # sample standard deviation over the seeds; None for one seed
    unit: Annotated[str, StringConstraints(max_length=20)] = ""
    protocol: Text
    rows: Annotated[int, Field(ge=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    goal: float | None = None


class DataSource(ManifestPart):
    """Where the training data came from, and under which licence."""

    name: Text
    spec: Annotated[str, StringConstraints(max_length=4000)] = ""  # what `python -m training ... --data` was given
    source: Text
    licence: Text
    rows_train: Annotated[int, Field(ge=1)]
    rows_held_out: Annotated[int, Field(ge=0)]
    rows_test: Annotated[int, Field(ge=0)]
    note: str = ""


class Calibration(ManifestPart):
    """Temperature scaling (Guo et al. 2017), baked into the graph."""

    method: Literal["temperature"]
    temperature: Annotated[float, Field(gt=0)]
    rows: Annotated[int, Field(ge=1)]


class Made(ManifestPart):
    """How the model came to be; the command makes it again."""

    command: Text
    at: Text  # ISO 8601, UTC
    train_s: Annotated[float, Field(ge=0)]
    machine: Text
    precision: Text
    parameters: Annotated[int, Field(ge=0)]
    parity_max_abs: Annotated[float, Field(ge=0)]  # torch against ONNX Runtime, probabilities
    parity_rows: Annotated[int, Field(ge=1)]
    packages: dict[str, str]

    @property
    def recipe(self) -> str:
        """The recipe that the command names: `python -m training RECIPE ...`; empty where it is another command."""
        words = shlex.split(self.command)
        return words[3] if words[:3] == ["python", "-m", "training"] and len(words) > 3 else ""


class Manifest(ManifestPart):
    """`models/<name>/<version>/manifest.json`."""

    schema_version: Literal[1]
    name: Name
    version: Version
    task: Task
    modality: Modality
    title: Text
    summary: Text
    graphs: Annotated[dict[Identifier, Graph], Field(min_length=1)]
    labels: tuple[Label, ...] = ()
    picture: Picture | None = None
    table: Table | None = None
    target: Target | None = None
    conformal: Conformal | None = None
    latent: Latent | None = None
    anomaly: Anomaly | None = None
    sampling: Sampling | None = None
    plane: Plane | None = None
    domains: Annotated[tuple[Domain, ...], Field(max_length=2)] = ()
    translations: tuple[Translation, ...] = ()
    sound: Sound | None = None
    transcription: Transcription | None = None
    video: Video | None = None
    frame_labels: FrameLabels | None = None
    text: ReadText | None = None
    writing: Writing | None = None
    languages: Languages | None = None
    max_rows: Annotated[int, Field(ge=1, le=4096)]  # rows in one run of a graph
    calibration: Calibration | None = None
    golden: Golden | None = None
    golden_others: tuple[Golden, ...] = ()  # of the other graphs, where there are several
    quality: tuple[Measure, ...] = ()
    data: DataSource
    made: Made
    report: Literal["report/index.html"] | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks that it does, its own first."""
        return (self.task, *TASKS[self.task].further_tasks(self))

    @property
    def drawn_labels(self) -> tuple[Label, ...]:
        """The labels that its generator takes. Those of a model that reconstructs are its data's alone."""
        return self.labels if self.task == "generate" else ()

    @property
    def goldens(self) -> tuple[Golden, ...]:
        """All of them, the first graph's first."""
        return (() if self.golden is None else (self.golden,)) + self.golden_others

    @property
    def text_files(self) -> tuple[TextFile, ...]:
        """Tokenizers and lists of words, each once."""
        read = () if self.text is None else (self.text.tokenizer, self.text.words)
        files = (*read, *(() if self.writing is None else (self.writing.tokenizer,)))
        return tuple(dict.fromkeys(file for file in files if file is not None))

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: two are the same")
        declared = [self.picture is not None, self.plane is not None, bool(self.domains)]
        if sum(declared) != (self.modality == "image"):
            raise ValueError(
                "picture: image models declare how a picture becomes their input (one of picture, plane, domains), "
                "and only they"
            )
        if (self.modality == "table") != (self.table is not None):
            raise ValueError("table: table models declare their columns, and only they")
        if (self.modality == "audio") != (self.sound is not None):
            raise ValueError("sound: audio models declare how sound becomes their input, and only they")
        if (self.modality == "video") != (self.video is not None):
            raise ValueError("video: video models declare how frames become their input, and only they")
        if (self.modality == "text") != (self.text is not None):
            raise ValueError("text: text models declare how text becomes their input, and only they")
        if self.text is not None and self.text.sentences and self.languages is None:
            raise ValueError("text.sentences: models that translate read one at a time, others the whole text")
        if (self.writing is not None) != ("step" in self.graphs):
            raise ValueError("writing: models with a graph 'step' declare how they write, and only they")
        for golden in self.goldens:
            if golden.graph not in self.graphs:
                raise ValueError(f"golden.graph: '{golden.graph}' is none of the graphs {sorted(self.graphs)}")
        TASKS[self.task].check(self)
        return self
