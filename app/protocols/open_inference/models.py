"""What a model is, in the words of the Open Inference Protocol.

A model's graph is one model there: `name` where it has one graph, else `name.graph`.
"""

from __future__ import annotations

from typing import Final

from app.codecs import open_inference
from app.core.manifest import TensorSpec
from app.engine.queue import LAST, NORMAL
from app.engine.registry import Model, Registry
from app.protocols.open_inference.documents import (
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    ModelMetadata,
    QueuePolicy,
    TensorConfig,
    TensorMetadata,
)
from app.web.request.limits import Limits

PLATFORM: Final = "onnx_onnxv1"
TRITON_PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"


def graph_names(model: Model) -> dict[str, str]:
    """The names that its graphs have under /v2, and which graph each is."""
    graphs = model.manifest.graphs
    return {model.name if len(graphs) == 1 else f"{model.name}.{graph}": graph for graph in graphs}


def metadata(registry: Registry, name: str, model: Model, graph: str) -> ModelMetadata:
    """Name, versions and tensors of one graph."""
    spec = model.manifest.graphs[graph]
    return ModelMetadata(
        name=name,
        versions=[m.version for m in registry.catalog.models if m.name == model.name],
        platform=PLATFORM,
        inputs=[_metadata(t) for t in spec.inputs],
        outputs=[_metadata(t) for t in spec.outputs],
    )


def config(name: str, model: Model, graph: str, limits: Limits) -> ModelConfig:
    """One graph as Triton's model configuration describes it."""
    spec = model.manifest.graphs[graph]
    kind, _, number = model.device.partition(":")
    return ModelConfig(
        name=name,
        platform=TRITON_PLATFORM,
        backend=BACKEND,
        version_policy={"all": {}},
        # A request of that many rows is always taken, and is one run.
        max_batch_size=min(model.manifest.max_rows, limits.max_rows),
        input=[_config(t) for t in spec.inputs],
        output=[_config(t) for t in spec.outputs],
        instance_group=[
            InstanceGroup(
                name=name,
                kind="KIND_GPU" if kind == "cuda" else "KIND_CPU",
                count=1,
                gpus=[int(number or 0)] if kind == "cuda" else [],
            )
        ],
        default_model_filename=spec.file,
        dynamic_batching=DynamicBatching(
            max_queue_delay_microseconds=0,
            priority_levels=LAST,
            default_priority_level=NORMAL,
            default_queue_policy=QueuePolicy(
                timeout_action="REJECT",
                default_timeout_microseconds=round(limits.request_timeout_s * 1e6),
                allow_timeout_override=True,
            ),
        ),
    )


def _shape(spec: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in spec.shape]


def _metadata(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata.model_validate(
        {"name": spec.name, "datatype": open_inference.DATATYPES[spec.dtype], "shape": _shape(spec)}
    )


def _config(spec: TensorSpec) -> TensorConfig:
    return TensorConfig(name=spec.name, data_type=f"TYPE_{open_inference.DATATYPES[spec.dtype]}", dims=_shape(spec)[1:])
