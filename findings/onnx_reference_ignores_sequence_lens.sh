#!/usr/bin/env bash
# onnx.reference ignores the lengths of LSTM, GRU and RNN: padding changes the answer of the evaluator that is the norm.
#
# One expects: ReferenceEvaluator, the executable form of the ONNX specification and the usual judge of an export, takes
# `sequence_lens` as every runtime does, or says that it does not know it.
# What happens: the input is named in the signature and never used. A short row runs on through its padding, so that
# its Y_h is that of the padding; an export which forgets the lengths is called right, one which has them wrong.
# Versions: onnx 1.23.2, onnxruntime 1.31.1, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the packages onnx and onnxruntime; ONNX, operators LSTM, GRU and RNN. Pull request 7935 of onnx/onnx taught
# the evaluator the attribute "direction"; no issue names the lengths.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6 protobuf==7.36.2 ml-dtypes==0.5.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

STEPS, FEATURES, HIDDEN = 5, 3, 2
rng = np.random.default_rng(0)
x = rng.normal(size=(STEPS, 2, FEATURES)).astype(np.float32)  # two rows, of 5 and of 2 steps
lengths = np.array([STEPS, 2], np.int32)

print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}")
for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    shapes = {"W": (1, gates * HIDDEN, FEATURES), "R": (1, gates * HIDDEN, HIDDEN)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    node = helper.make_node(op, ["x", "W", "R", "", "lengths"], ["y", "y_h"], hidden_size=HIDDEN)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", FEATURES]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "y_h")]
    graph = helper.make_graph([node], op, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    reference = ReferenceEvaluator(model)
    alone = {"x": x[:2, 1:], "lengths": lengths[1:]}  # the short row without padding
    truth = session.run(None, alone)[1][0, 0]
    assert np.allclose(truth, reference.run(None, alone)[1][0, 0], atol=1e-5)
    feed = {"x": x, "lengths": lengths}
    runtime = session.run(None, feed)[1][0, 1]
    judged = np.asarray(reference.run(None, feed)[1])[0, 1]
    unaware = np.asarray(reference.run(None, {**feed, "lengths": np.full(2, STEPS, np.int32)})[1])[0, 1]
    print(f"{op}: Y_h of the short row {truth}, padded: onnxruntime {runtime}, onnx.reference {judged}")
    assert np.allclose(runtime, truth, atol=1e-5)
    assert np.array_equal(judged, unaware) and not np.allclose(judged, truth, atol=0.01), "changed: lengths are heeded"
print("as found: the reference runs on through the padding")
PYTHON
