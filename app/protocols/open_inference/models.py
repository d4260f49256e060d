"""What a model is, in the words of the Open Inference Protocol.

A model's graph is one model there: `name` where it has one graph, else `name.graph`.
"""

from __future__ import annotations

from typing import Final

from app.codecs import open_inference
from app.core.manifest import Graph
from app.engine.queue import LAST, NORMAL
from app.engine.registry import Model, Registry
from app.protocols.open_inference import texts
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


def names(model: Model) -> list[str]:
    """All its names under /v2."""
    return [*graph_names(model), *([f"{model.name}.{texts.GRAPH}"] if texts.has_texts(model.manifest) else [])]


def tensors_of(model: Model, graph: str) -> Graph | texts.TextTensors:
    """The tensors of one of its graphs, or of `name.text`."""
    return model.manifest.graphs.get(graph) or texts.tensors_of(model)


def metadata(registry: Registry, name: str, model: Model, graph: str) -> ModelMetadata:
    """Name, versions and tensors of one graph."""
    spec = tensors_of(model, graph)
    return ModelMetadata(
        name=name,
        versions=[m.version for m in registry.catalog.models if m.name == model.name],
        platform=PLATFORM,
        inputs=[_metadata(t) for t in spec.inputs],
        outputs=[_metadata(t) for t in spec.outputs],
    )


def config(name: str, model: Model, graph: str, limits: Limits) -> ModelConfig:
    """One graph as Triton's model configuration describes it."""
    spec = tensors_of(model, graph)
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


def _shape(spec: open_inference.Tensor) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in spec.shape]


def _metadata(spec: open_inference.Tensor) -> TensorMetadata:
    return TensorMetadata.model_validate(
        {"name": spec.name, "datatype": open_inference.datatype(spec), "shape": _shape(spec)}
    )


def _config(spec: open_inference.Tensor) -> TensorConfig:
    kind = open_inference.datatype(spec).replace("BYTES", "STRING")
    return TensorConfig(name=spec.name, data_type=f"TYPE_{kind}", dims=_shape(spec)[1:])
