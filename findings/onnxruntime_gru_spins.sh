#!/usr/bin/env bash
# ONNX Runtime's GRU spins between its threads, whatever session.intra_op.allow_spinning says; its LSTM does not.
#
# One expects: with session.intra_op.allow_spinning = 0 a thread that waits costs nothing, so that a run with two
# intra-op threads takes about the processor time of a run with one, even where both have one core to share.
# What happens: so it is for MatMul and for LSTM. A run of a GRU node over eight steps of 256 numbers takes 0.2 to 0.4 ms
# of processor time with one thread, and 7 to 15 ms with two: its threads meet after each step and spin until the other
# is there. Sessions with GRU nodes want one intra-op thread wherever cores are shared or limited.
# Versions: onnxruntime 1.31.1, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64; the process is bound to one core.
# Source: the package onnxruntime; pull request 11841 of microsoft/onnxruntime, which made the option, speaks of the
# parallel sections of the recurrent kernels.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'EOF'
import os
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
SIZE, STEPS, RUNS = 256, 8, 60
rng = np.random.default_rng(0)


def weights(name, *shape):
    return numpy_helper.from_array((rng.standard_normal(shape) * 0.05).astype(np.float32), name)


def graph(operator):
    if operator == "MatMul":  # of about as many multiplications
        made = [weights(f"w{i}", SIZE, 3 * SIZE) for i in range(2)]
        nodes = [helper.make_node("MatMul", ["x", one.name], [f"y{i}"]) for i, one in enumerate(made)]
        nodes.append(helper.make_node("Add", ["y0", "y1"], ["y"]))
    else:
        gates = {"GRU": 3, "LSTM": 4}[operator] * SIZE
        made = [weights("w", 1, gates, SIZE), weights("r", 1, gates, SIZE)]
        nodes = [helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=SIZE)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, 1, SIZE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], made), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    return model.SerializeToString()


def processor_ms(data, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    x = np.ones((STEPS, 1, SIZE), np.float32)
    for _ in range(5):
        session.run(None, {"x": x})
    begun = time.process_time()
    for _ in range(RUNS):
        session.run(None, {"x": x})
    return 1000 * (time.process_time() - begun) / RUNS


print("onnxruntime", ort.__version__, "onnx", onnx.__version__)
for operator in ("MatMul", "LSTM", "GRU"):
    data = graph(operator)
    one, two = (min(processor_ms(data, threads) for _ in range(3)) for threads in (1, 2))
    print(f"{operator}: {one:.2f} ms of processor time a run with one thread, {two:.2f} with two")
    assert (two > 4 * one) == (operator == "GRU"), "the behaviour has changed"
EOF
