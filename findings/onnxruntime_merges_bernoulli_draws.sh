#!/usr/bin/env bash
# ONNX Runtime makes one random draw of two Bernoulli nodes that have the same input.
#
# One expects: two Bernoulli nodes draw twice, as two RandomUniformLike nodes do.
# Two masks of a net that samples (Monte Carlo dropout, binary noise, a latent per head) are independent.
# What happens: the optimiser takes Bernoulli for a function of its input and merges equal nodes; its list of random
# operators lacks this one. This is so at the default level and at "basic", where later nodes read the draws (outputs of
# the graph stay apart); with all optimisation off there are two. Another attribute "seed" at each node helps too.
# Versions: onnxruntime 1.31.1 and 1.32.0, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the packages onnxruntime and onnx; ONNX, operator Bernoulli; no issue of ONNX Runtime names it. Related:
# pull request 7176 of onnx/onnx, which would let operators say whether they are random.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6 protobuf==7.36.2 ml-dtypes==0.5.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

X = {"x": np.full(1_000, 0.5, np.float32)}
LEVEL = ort.GraphOptimizationLevel


def unequal(level, op, seeds=(None, None)):
    """How many of 1,000 values two nodes over the same input draw differently."""
    nodes = [
        helper.make_node(op, ["x"], [y], **({} if seed is None else {"seed": seed}))
        for y, seed in zip("ab", seeds, strict=True)
    ]
    nodes.append(helper.make_node("Sub", ["a", "b"], ["y"]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy")
    graph = helper.make_graph(nodes, "two_draws", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return int(np.count_nonzero(session.run(None, X)[0]))


print(f"onnxruntime {ort.__version__}; values of 1,000 that differ between two nodes with the same input:")
uniform = unequal(LEVEL.ORT_ENABLE_ALL, "RandomUniformLike")
off = unequal(LEVEL.ORT_DISABLE_ALL, "Bernoulli")
basic = unequal(LEVEL.ORT_ENABLE_BASIC, "Bernoulli")
default = unequal(LEVEL.ORT_ENABLE_ALL, "Bernoulli")
seeded = unequal(LEVEL.ORT_ENABLE_ALL, "Bernoulli", seeds=(1.0, 2.0))
print(f"RandomUniformLike {uniform}; Bernoulli with optimisation off {off}, basic {basic}, all (the default) {default}")
print(f"Bernoulli with the seeds 1 and 2, all: {seeded}")
assert uniform > 900 and min(off, seeded) > 400
assert basic == default == 0, "changed: two nodes draw twice"
print("as found: two Bernoulli nodes are one draw")
PYTHON
