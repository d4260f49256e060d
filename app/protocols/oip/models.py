"""What a model is, in the words of the Open Inference Protocol.

A model's graph is one model there: `name` where it has one graph, else `name.graph`.
"""

from __future__ import annotations

from typing import Any, Final

from app.codecs import oip
from app.core.manifest import TensorSpec
from app.engine.registry import Model, Registry

PLATFORM: Final = "onnx_onnxv1"


def metadata(registry: Registry, name: str, model: Model, graph: str) -> dict[str, Any]:
    """Name, versions and tensors of one graph."""
    spec = model.manifest.graphs[graph]
    return {
        "name": name,
        "versions": [m.version for m in registry.models if m.name == model.name],
        "platform": PLATFORM,
        "inputs": [described(t) for t in spec.inputs],
        "outputs": [described(t) for t in spec.outputs],
    }


def described(spec: TensorSpec) -> dict[str, Any]:
    shape = [axis if isinstance(axis, int) else -1 for axis in spec.shape]
    return {"name": spec.name, "datatype": oip.DATATYPES[spec.dtype], "shape": shape}
