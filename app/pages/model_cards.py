"""GET /v1/models: what is loaded and what was refused; each model's card; the report that lies beside it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from app.core.errors import NotFound, invalid
from app.core.manifest import (
    Calibration,
    DataSource,
    Domain,
    FrameLabels,
    Languages,
    Made,
    Manifest,
    Measure,
    Picture,
    Plane,
    Sound,
    Task,
    TensorSpec,
    Text,
    Transcription,
    Video,
    Writing,
)
from app.core.manifest.latent import Anomaly, Latent
from app.core.manifest.sampling import Sampling
from app.core.manifest.table import Table, Target
from app.engine.registry import Model
from app.pages.kept import ADDRESS, Kept
from app.protocols.open_inference.models import names
from app.web.context import Context
from app.web.request.media_types import JSON
from app.web.request.options import from_query

REPORT_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
MAX_REPORT_BYTES: Final = 32 << 20
LINK: Final = re.compile(rb'href="\.\./\.\./\.\./([A-Za-z0-9._-]+)/([0-9]+)/report/index\.html"')
Version = Annotated[str | None, Query(description="its version; the default version where none is given")]


class Summary(BaseModel):
    """One loaded model in a list."""

    name: str
    version: str
    task: Task
    title: str
    summary: str
    device: str
    default: bool = Field(description="answers requests for one of its tasks that name no model")
    default_for: list[str] = Field(description="which requests: a task, or one kind of input to it (`classify.table`)")
    default_version_since: str | None = Field(
        description="since when requests that name it and no version go to it; null where they go to another version"
    )
    card: str = Field(description="where its card is")


class RefusedFolder(BaseModel):
    """A folder that disagrees with its manifest and is not served."""

    folder: str
    reason: str


class ModelList(BaseModel):
    device: str = Field(description="where models run")
    models: list[Summary]
    refused: list[RefusedFolder]


class GraphCard(BaseModel):
    """One graph, its inputs and outputs, and its counters since it was loaded."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counters: dict[str, int]
    nodes: dict[str, int] = Field(
        description="number of its operators, by the execution provider of ONNX Runtime that runs them"
    )
    weight_bytes: int = Field(description="size of its file, nearly all of it weights")


class Intervals(BaseModel):
    """Conformal prediction, in short."""

    method: str
    rows: int = Field(description="calibration rows, on which the net was not trained")
    most_coverage: float = Field(description="the greatest coverage that this number of rows can guarantee")


class ErrorsCard(BaseModel):
    """Errors of held-out rows, pixels in [0, 1]."""

    rows: int
    median: float
    usual_up_to: float = Field(description="95 % of the held-out rows have at most this")


class Direction(BaseModel):
    """One direction between two domains."""

    source: str
    target: str
    cycle: ErrorsCard = Field(
        description="mean absolute errors after both translations; cycle p-values are computed from them"
    )


class ModelCard(BaseModel):
    """All that is known of one model; each measure of quality comes with the protocol that measured it."""

    name: str
    version: str
    versions: list[str] = Field(description="every version that is loaded")
    default_version: str | None = Field(description="the version that answers where none is given")
    default_version_since: str | None = Field(description="since when it does")
    task: Task
    tasks: tuple[Task, ...] = Field(description="every task that it answers")
    modality: str
    title: str
    summary: str
    labels: tuple[str, ...]
    picture: Picture | None = Field(description="how a picture becomes the model's input")
    table: Table | None = Field(description="the columns of a row, with units and the range that training saw")
    target: Target | None = Field(description="what is predicted, with its unit")
    intervals: Intervals | None = Field(
        description="how prediction intervals are made; null where the model gives none"
    )
    latent: Latent | None = Field(description="the code between encoder and decoder, or the input of a generator")
    errors: ErrorsCard | None = Field(
        description="held-out mean squared errors of reconstruction; anomaly p-values are computed from them"
    )
    sampling: Sampling | None = Field(description="noise levels, samplers with their steps, guidance")
    plane: Plane | None = Field(description="the tiles that a picture of any size is cut into, pixels")
    domains: tuple[Domain, ...] = Field(description="the kinds of picture between which it translates")
    directions: tuple[Direction, ...] = Field(description="both directions between them")
    sound: Sound | None = Field(description="how sound becomes the model's input: its rate, and its longest row")
    transcription: Transcription | None = Field(
        description="how its outputs become words: the time of one, how words are calibrated, and the twin that streams"
    )
    video: Video | None = Field(description="how a clip becomes the model's input: its rate, and what a frame is")
    frame_labels: FrameLabels | None = Field(description="the sentence's grammar, and the twin that streams")
    text: Text | None = Field(description="how text becomes the model's input: the most characters and tokens of one")
    writing: Writing | None = Field(description="how it writes text: the most tokens, and how it is searched")
    languages: Languages | None = Field(description="from which language it translates texts, and to which")
    graphs: dict[str, GraphCard]
    quality: tuple[Measure, ...]
    calibration: Calibration | None
    data: DataSource
    made: Made
    max_rows: int = Field(description="most rows in one run")
    device: str
    loaded_at: str
    load_s: float
    memory_bytes: int = Field(
        description="growth of the process while it was loaded, a full batch included; 0: unknown"
    )
    report: str | None = Field(description="where its report is")


def only(*known: str) -> Any:
    """A dependency that refuses query parameters other than these, and any that is given twice."""
    types: dict[str, type[str | int]] = dict.fromkeys(known, str)

    def check(request: Request) -> None:
        from_query(request.scope["query_string"], types)

    return Depends(check)


def card(model: Model, context: Context, prefix: str = "") -> ModelCard:
    """The model's card. `prefix`: the path of this server on its host, for addresses."""
    manifest = model.manifest
    counters = model.counters
    versions = [m.version for m in context.registry.catalog.models if m.name == model.name]
    default = context.registry.catalog.default_version(model.name)
    return ModelCard(
        **{
            name: getattr(manifest, name)
            for name in (
                *("name", "version", "task", "tasks", "modality", "title", "summary", "labels", "picture", "table"),
                *("target", "latent", "sampling", "plane", "domains", "sound", "transcription", "video"),
                *("frame_labels", "text", "writing", "languages", "quality", "calibration", "data", "made"),
            )
        },
        max_rows=manifest.max_rows,
        intervals=_intervals(manifest),
        errors=None if manifest.anomaly is None else _errors(manifest.anomaly),
        directions=tuple(
            Direction(source=t.source, target=t.target, cycle=_errors(t.cycle)) for t in manifest.translations
        ),
        versions=sorted(versions, key=int),
        default_version=default.model.version if default else None,
        default_version_since=default.since if default else None,
        graphs={
            name: GraphCard(
                inputs=graph.inputs,
                outputs=graph.outputs,
                counters=_counts(counters[name]),
                nodes=model.nodes[name],
                weight_bytes=model.weight_bytes[name],
            )
            for name, graph in manifest.graphs.items()
        },
        device=model.device,
        loaded_at=model.loaded_at,
        load_s=round(model.load_s, 3),
        memory_bytes=model.memory_bytes,
        report=f"{prefix}/v1/models/{model.name}/report?version={model.version}" if manifest.report else None,
    )


def _intervals(manifest: Manifest) -> Intervals | None:
    found = manifest.conformal
    if found is None:
        return None
    return Intervals(method=found.method, rows=len(found.scores), most_coverage=round(found.most, 4))


def _errors(anomaly: Anomaly) -> ErrorsCard:
    errors = anomaly.errors
    n = len(errors)
    return ErrorsCard(rows=n, median=errors[n // 2], usual_up_to=errors[min(n - 1, round(0.95 * n))])


def _counts(counters: Any) -> dict[str, int]:
    names = ("requests", "rows", "runs", "failed_runs", "rejected", "cancelled", "late", "queued_rows")
    return {name: int(getattr(counters, name)) for name in names}


def summary(model: Model, context: Context, prefix: str = "") -> Summary:
    manifest = model.manifest
    default = context.registry.catalog.default_version(model.name)
    defaults = default_for(model, context)
    return Summary(
        name=model.name,
        version=model.version,
        task=manifest.task,
        title=manifest.title,
        summary=manifest.summary,
        device=model.device,
        default=bool(defaults),
        default_for=defaults,
        default_version_since=default.since if default and default.model is model else None,
        card=f"{prefix}/v1/models/{model.name}?version={model.version}",
    )


def report_of(model: Model) -> bytes | None:
    """The report beside the model; None where there is none, or where a link or its size says it is something else."""
    if model.manifest.report is None:
        return None
    try:
        folder = model.folder.resolve(strict=True)
        path = folder / model.manifest.report
        if path.resolve(strict=True) != path or not path.is_file() or path.stat().st_size > MAX_REPORT_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def default_for(model: Model, context: Context) -> list[str]:
    """The requests that it answers where they name no model, as the catalog has them."""
    tasks = model.manifest.tasks
    return [
        key for task in tasks for key, found in context.registry.catalog.default_models(task).items() if found is model
    ]


def router(context: Context) -> APIRouter:
    """The endpoints, bound to what they describe."""
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    registry = context.registry

    def all_models() -> str:
        return ModelList(
            device=registry.device,
            models=[summary(model, context, ADDRESS) for model in registry.catalog.models],
            refused=[RefusedFolder(folder=r.folder, reason=r.reason) for r in registry.catalog.refused],
        ).model_dump_json()

    listed = Kept(registry.catalog, all_models, JSON)

    @routes.get(
        "",
        operation_id="list_models",
        summary="What is loaded, what was refused",
        response_model=ModelList,
        dependencies=[only()],
    )
    async def list_models(request: Request) -> Response:
        return await listed.respond(request, request.scope["root_path"])

    @routes.get("/{name}", operation_id="get_model", summary="A model's card", dependencies=[only("version")])
    async def get_model(request: Request, name: str, version: Version = None) -> ModelCard:
        return card(registry.catalog.get(name, version), context, request.scope["root_path"])

    @routes.post("/{name}:{verb}", include_in_schema=False)
    async def version_1(name: str, verb: str) -> Response:
        """What KServe's client asks where its user names no protocol; it shows `error` of an answer alone."""
        try:
            model = registry.catalog.get(name, None)
        except NotFound as error:
            return JSONResponse({"error": error.detail}, error.status)
        instead = f"POST /v2/models/{names(model)[0]}/infer, or POST /v1/{model.manifest.task}?model={model.name}"
        detail = (
            f"':{verb[:100]}' is of protocol v1 of KServe and TensorFlow Serving, which is not answered here: send "
            f'{instead}; KServe\'s client takes RESTConfig(protocol="v2")'
        )
        return JSONResponse({"error": detail}, NotFound.status)

    @routes.get(
        "/{name}/report",
        operation_id="get_report",
        summary="A model's report, for people",
        dependencies=[only("version")],
        response_class=HTMLResponse,
    )
    def get_report(name: str, version: Version = None) -> Response:
        model = registry.catalog.get(name, version)
        report = report_of(model)
        if report is None:
            raise invalid("report", detail=f"model '{model.name}/{model.version}' has no report", error=NotFound)
        # Among files a report links another's file, here another's address.
        report = LINK.sub(rb'href="../\1/report?version=\2"', report)
        return HTMLResponse(report, headers={"Content-Security-Policy": REPORT_POLICY})

    return routes
