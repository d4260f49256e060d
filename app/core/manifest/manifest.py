"""The contract between training and app: `manifest.json`, strict and frozen.

`training/export.py` writes it last, `app/engine/registry.py` believes nothing but it. A field that is
not declared here is refused, and so is a manifest of another schema version: what the server does not
understand it must not guess. `python -m app schema` prints the JSON Schema of this file.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from app.core.manifest.graph import ROWS, Golden, Graph, Spec, check_specs
from app.core.manifest.image import Domain, Picture, Plane, Translation
from app.core.manifest.latent import Anomaly, Latent
from app.core.manifest.part import Identifier, Label, Part, Text
from app.core.manifest.sampling import Sampling
from app.core.manifest.table import Conformal, Table, Target

SCHEMA_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"

Task = Literal["classify", "regress", "reconstruct", "generate", "denoise", "translate"]
Modality = Literal["image", "table", "text", "audio", "tensor"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]


class Measure(Part):
    """One measured figure of quality, with what is needed to doubt it."""

    name: Identifier
    value: float
    spread: float | None = None  # sample standard deviation over the seeds; None for one seed
    unit: Annotated[str, StringConstraints(max_length=20)] = ""
    protocol: Text
    rows: Annotated[int, Field(ge=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    goal: float | None = None


class DataSource(Part):
    """Where the training data came from, and under which licence."""

    name: Text
    spec: Annotated[str, StringConstraints(max_length=4000)] = ""  # what `python -m training ... --data` was given
    source: Text
    licence: Text
    rows_train: Annotated[int, Field(ge=1)]
    rows_held_out: Annotated[int, Field(ge=0)]
    rows_test: Annotated[int, Field(ge=0)]
    note: str = ""


class Calibration(Part):
    """Temperature scaling (Guo et al. 2017), baked into the graph."""

    method: Literal["temperature"]
    temperature: Annotated[float, Field(gt=0)]
    rows: Annotated[int, Field(ge=1)]


class Made(Part):
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


class Manifest(Part):
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
        """What it can be asked for: its own task first. A model that reconstructs also decodes latents, one that draws
        by taking noise away also takes it from a picture, where it can tell how much there is."""
        if self.task == "reconstruct":
            return ("reconstruct", "generate")
        if self.task == "generate" and "estimator" in self.graphs:
            return ("generate", "denoise")
        return (self.task,)

    @property
    def drawn_labels(self) -> tuple[Label, ...]:
        """Those that drawing is told; of a model that reconstructs they are its data's, no graph takes them."""
        return self.labels if self.task == "generate" else ()

    @property
    def goldens(self) -> tuple[Golden, ...]:
        """All of them, the first graph's first."""
        return (() if self.golden is None else (self.golden,)) + self.golden_others

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
        for golden in self.goldens:
            if golden.graph not in self.graphs:
                raise ValueError(f"golden.graph: '{golden.graph}' is none of the graphs {sorted(self.graphs)}")
        if self.task == "classify":
            self._check_classifier()
        elif self.task == "regress":
            self._check_regressor()
        elif self.task == "reconstruct":
            self._check_coder()
        elif self.task == "generate":
            self._check_generator()
        elif self.task == "denoise":
            self._check_plane_denoiser()
        elif self.task == "translate":
            self._check_translator()
        return self

    def _check_classifier(self) -> None:
        if len(self.labels) < 2:
            raise ValueError(f"labels: a classify model has two or more, here are {len(self.labels)}")
        graph = self._graph("classifier")
        check_specs("classifier.outputs", graph.outputs, [("probabilities", "float32", (ROWS, len(self.labels)))])
        self._check_input("classifier", graph)

    def _check_regressor(self) -> None:
        graph = self._graph("regressor")
        if self.target is None:
            raise ValueError("target: a regress model names what it foretells")
        outputs = [("value", "float32", (ROWS,)), ("scale", "float32", (ROWS,))]
        check_specs("regressor.outputs", graph.outputs, outputs[: 1 if self.conformal is None else 2])
        self._check_input("regressor", graph)

    def _check_coder(self) -> None:
        encoder, decoder = self._graph("encoder"), self._graph("decoder")
        if self.latent is None or self.picture is None:
            raise ValueError("latent, picture: a reconstruct model declares both")
        code = ("float32", (ROWS, self.latent.size))
        p = self.picture
        names = ("latent",) if self.latent.prior is None else ("mu", "logvar")
        check_specs("encoder.outputs", encoder.outputs, [(name, *code) for name in names])
        check_specs("decoder.inputs", decoder.inputs, [("latent", *code)])
        check_specs("decoder.outputs", decoder.outputs, [("image", "float32", (ROWS, *p.shape))])
        self._check_input("encoder", encoder)

    def _check_generator(self) -> None:
        if self.picture is None:
            raise ValueError("picture: a generate model declares what it draws")
        if (self.latent is None) == (self.sampling is None):
            raise ValueError("latent, sampling: a generate model declares one of them")
        shape = (ROWS, *self.picture.shape)
        label: list[Spec] = [("label", "int64", (ROWS,))] if self.labels else []
        if self.latent is not None:
            if self.latent.prior is None:
                raise ValueError("latent.prior: a generate model draws its latents from one")
            graph = self._graph("generator")
            inputs: list[Spec] = [("latent", "float32", (ROWS, self.latent.size))]
            check_specs("generator.inputs", graph.inputs, inputs + label)
            check_specs("generator.outputs", graph.outputs, [("image", "float32", shape)])
            return
        assert self.sampling is not None
        if self.sampling.guidance is not None and not self.labels:
            raise ValueError("sampling.guidance: guides towards a label, the model has no labels")
        self._check_denoiser(shape, label)

    def _check_plane_denoiser(self) -> None:
        if self.plane is None:
            raise ValueError("plane: a denoise model declares its tiles")
        self._graph("estimator")
        self._check_denoiser((ROWS, self.plane.tile, self.plane.tile, 1), [])

    def _check_denoiser(self, shape: tuple[str | int, ...], label: list[Spec]) -> None:
        """D(x, sigma), with a label where there are labels; and, where it is there, what tells sigma from x."""
        graph = self._graph("denoiser")
        x: Spec = ("x", "float32", shape)
        sigma: Spec = ("sigma", "float32", (ROWS,))
        check_specs("denoiser.inputs", graph.inputs, [x, sigma, *label])
        check_specs("denoiser.outputs", graph.outputs, [("denoised", "float32", shape)])
        if estimator := self.graphs.get("estimator"):
            check_specs("estimator.inputs", estimator.inputs, [x])
            check_specs("estimator.outputs", estimator.outputs, [sigma])

    def _check_translator(self) -> None:
        pictures = {domain.name: domain.picture for domain in self.domains}
        ways = [(way.source, way.target) for way in self.translations]
        if len(pictures) != 2:
            raise ValueError(f"domains: a translate model has two of different names, here are {sorted(pictures)}")
        if sorted(ways) != sorted([tuple(pictures), tuple(reversed(pictures))]):
            raise ValueError(f"translations: expected one each way between {' and '.join(pictures)}, got {ways}")
        for way in self.translations:
            graph = self._graph(way.graph)
            inputs: list[Spec] = [("image", "uint8", (ROWS, *pictures[way.source].shape))]
            check_specs(f"{way.graph}.inputs", graph.inputs, inputs)
            outputs: list[Spec] = [("translated", "float32", (ROWS, *pictures[way.target].shape))]
            check_specs(f"{way.graph}.outputs", graph.outputs, outputs)

    def _graph(self, key: str) -> Graph:
        graph = self.graphs.get(key)
        if graph is None:
            raise ValueError(f"graphs: a {self.task} model has a graph '{key}', here are {sorted(self.graphs)}")
        return graph

    def _check_input(self, key: str, graph: Graph) -> None:
        """A picture makes one uint8 input, a table one float32 input; of other models nothing is known."""
        if self.picture is not None:
            want: tuple[str, tuple[str | int, ...]] = ("uint8", (ROWS, *self.picture.shape))
        elif self.table is not None:
            want = ("float32", (ROWS, len(self.table.columns)))
        else:
            return
        spec = graph.inputs[0]
        if len(graph.inputs) != 1 or (spec.dtype, spec.shape) != want:
            raise ValueError(
                f"graphs.{key}.inputs: the {'picture' if self.picture else 'table'} makes one {want[0]} {want[1]}, "
                f"the graph takes {[(i.name, i.dtype, i.shape) for i in graph.inputs]}"
            )
