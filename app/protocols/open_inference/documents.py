"""The JSON documents of the Open Inference Protocol and of Triton's extensions to it, as types.

Source: kserve/open-inference-protocol (REST); triton-inference-server/server, docs/protocol. Those of an inference are
for the OpenAPI document: its bodies are read and written by `app.codecs.open_inference`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
Count = Annotated[int, Field(ge=0)]
Parameters = dict[str, str | int | float | bool]
Elements = Annotated[list[Any], Field(description="row-major, flat or nested as the shape says")]


class OipError(BaseModel):
    """What went wrong, in a sentence."""

    error: str


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str] = Field(description="of the protocol, that are served here")


class ServerLive(BaseModel):
    live: bool


class ServerReady(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class TensorMetadata(BaseModel):
    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1 where any size is taken; the first axis is rows")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str] = Field(description="that are loaded")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(BaseModel):
    name: str
    data_type: str = Field(description="TYPE_ and the datatype")
    dims: list[int] = Field(description="of one row; -1 where any size is taken")


class InstanceGroup(BaseModel):
    name: str
    kind: Literal["KIND_CPU", "KIND_GPU"]
    count: Count = Field(description="sessions of one process")
    gpus: list[int]


class QueuePolicy(BaseModel):
    timeout_action: Literal["REJECT"]
    default_timeout_microseconds: Count
    allow_timeout_override: bool = Field(description="by the parameter `timeout`, to a shorter one")


class DynamicBatching(BaseModel):
    max_queue_delay_microseconds: Count = Field(description="0: an idle model waits for nobody")
    priority_levels: Count
    default_priority_level: Count
    default_queue_policy: QueuePolicy


class ModelConfig(BaseModel):
    """As Triton's ModelConfig, without the fields that would say nothing true here."""

    name: str
    platform: str
    backend: str
    version_policy: dict[str, dict[str, Any]]
    max_batch_size: Count = Field(description="rows of one run; a request may have more and then takes several")
    input: list[TensorConfig]
    output: list[TensorConfig]
    instance_group: list[InstanceGroup]
    default_model_filename: str
    dynamic_batching: DynamicBatching


class Duration(BaseModel):
    count: Count = Field(description="how often it was measured")
    ns: Count = Field(description="all of them together")


class InferenceStats(BaseModel):
    """Of requests."""

    success: Duration = Field(description="decoding, queue, runs and encoding of answered requests")
    fail: Duration
    queue: Duration
    compute_input: Duration = Field(description="decoding")
    compute_infer: Duration = Field(description="the runs that a request took part in")
    compute_output: Duration = Field(description="encoding")
    cache_hit: Duration = Field(description="there is no cache")
    cache_miss: Duration


class BatchStats(BaseModel):
    """Of runs of one size."""

    batch_size: Count
    compute_input: Duration = Field(description="measured by request, not by run")
    compute_infer: Duration
    compute_output: Duration = Field(description="measured by request, not by run")


class ModelStatistics(BaseModel):
    name: str
    version: str
    last_inference: Count = Field(description="milliseconds since 1970; 0 for never")
    inference_count: Count = Field(description="rows that were run")
    execution_count: Count = Field(description="runs")
    inference_stats: InferenceStats
    batch_stats: list[BatchStats]


class Statistics(BaseModel):
    """Since the server started."""

    model_stats: list[ModelStatistics]


class IndexRequest(BaseModel):
    model_config = ConfigDict(strict=True)

    ready: bool = Field(False, description="only those that answer")


class IndexEntry(BaseModel):
    """A model of the models folder, one of its versions; by its folder's name, however many graphs it has."""

    name: str
    version: str = Field(description="empty where the folder has none")
    state: Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]
    reason: str = Field(description="why what lies in the folder is not what is served; else empty")


class ControlRequest(BaseModel):
    model_config = ConfigDict(strict=True)

    parameters: Parameters = {}


class TraceSetting(BaseModel):
    """In Triton's words; what traces there are here leave by OpenTelemetry."""

    trace_level: list[str]
    trace_rate: str
    trace_count: str
    log_frequency: str
    trace_file: str


class RequestInput(BaseModel):
    name: str
    shape: list[Count] = Field(description="the first axis is rows")
    datatype: Datatype
    parameters: Parameters | None = Field(None, description="`binary_data_size`: its bytes stand behind the JSON")
    data: Elements | None = None


class RequestedOutput(BaseModel):
    name: str
    parameters: Parameters | None = Field(
        None, description="`binary_data`: answer behind the JSON; `classification`: the best k as value:index:label"
    )


class InferRequest(BaseModel):
    id: str | None = Field(None, description="given back with the answer")
    parameters: Parameters | None = Field(
        None,
        description="`priority` 1 (first) to 3 (last), 0 for the default; `timeout` in microseconds; "
        "`binary_data_output` for all outputs",
    )
    inputs: Annotated[list[RequestInput], Field(min_length=1)]
    outputs: list[RequestedOutput] | None = Field(None, description="all of them where none is named")


class ResponseOutput(BaseModel):
    name: str
    datatype: Datatype
    shape: list[Count]
    parameters: Parameters | None = None
    data: Elements | None = None


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]
