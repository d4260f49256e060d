#!/usr/bin/env bash
# ONNX Runtime returns zeros as the state of a row without steps, not the state that the row came with.
#
# One expects: a GRU or LSTM that reads no step leaves its state as it was: with sequence_lens 0, Y_h is initial_h and
# Y_c is initial_c. So streams can share a run while one of them has nothing new.
# What happens: such a row gives zeros for Y_h and Y_c, whatever came in, and so the next piece of that stream begins
# from nothing. A row of one step beside it is right. The specification does not say which (issue 1674 of onnx/onnx
# asked in 2018: TensorFlow keeps the state). Rows without steps must be left out of the run, or their state kept.
# Versions: onnxruntime 1.31.1 and 1.32.0, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the packages onnxruntime and onnx; pull request 749 of microsoft/onnxruntime, which lets a length be 0.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6 protobuf==7.36.2 ml-dtypes==0.5.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FEATURES, HIDDEN = 3, 2
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 2, FEATURES)).astype(np.float32)
state = np.full((1, 2, HIDDEN), 0.5, np.float32)

print(f"onnxruntime {ort.__version__}; two rows, both with the state {state[0, 0]}")
for op, gates, states in (("RNN", 1, ["h"]), ("GRU", 3, ["h"]), ("LSTM", 4, ["h", "c"])):
    shapes = {"W": (1, gates * HIDDEN, FEATURES), "R": (1, gates * HIDDEN, HIDDEN)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    last = [f"y_{name}" for name in states]
    node = helper.make_node(op, ["x", "W", "R", "", "lengths", *states], ["", *last], hidden_size=HIDDEN)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", FEATURES]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "N", HIDDEN]) for name in states),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "N", HIDDEN]) for name in last]
    graph = helper.make_graph([node], op, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x": x, **dict.fromkeys(states, state)}
    found = session.run(None, {**feed, "lengths": np.array([2, 0], np.int32)})
    whole = session.run(None, {**feed, "lengths": np.array([2, 2], np.int32)})
    for name, values, both in zip(last, found, whole, strict=True):
        print(f"{op} {name}: row of 2 steps {values[0, 0]}, row of 0 steps {values[0, 1]}")
        assert np.allclose(values[0, 0], both[0, 0], atol=1e-6)
        assert not values[0, 1].any(), "changed: the state of a row without steps is not zeros"
print("as found: a row without steps loses its state")
PYTHON
