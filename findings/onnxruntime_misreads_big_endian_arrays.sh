#!/usr/bin/env bash
# ONNX Runtime reads a big-endian NumPy array as if its bytes were little-endian, without an error.
#
# One expects: session.run() takes an array of dtype ">f4" by its values, as NumPy, onnx.reference and sklearn do, or
# refuses it, as onnx.numpy_helper.from_array() and tritonclient do. Such arrays are usual: np.load() of a .npy file
# from another machine, FITS, IDX (MNIST), AIFF, netCDF, np.frombuffer(..., ">i8").
# What happens: the type is looked up by its number, which is the same for both byte orders, and the bytes are copied.
# 1.0 becomes 4.6e-41 and the integer 1 becomes 72057594037927936. OrtValue.ortvalue_from_numpy() does the same.
# array.astype(array.dtype.newbyteorder("=")) before the call is right.
# Versions: onnxruntime 1.31.1 and 1.32.0, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the packages onnxruntime, onnx and numpy; for the same trap in Java, issue 26408 of microsoft/onnxruntime.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6 protobuf==7.36.2 ml-dtypes==0.5.4
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

assert sys.byteorder == "little", "this machine shows nothing"
print(f"onnxruntime {ort.__version__}, NumPy {np.__version__}")
for kind, values in ((TensorProto.FLOAT, np.array([1, 2], ">f4")), (TensorProto.INT64, np.array([1, 2], ">i8"))):
    x, y = (helper.make_tensor_value_info(name, kind, ["N"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (ran,) = session.run(None, {"x": values})
    (native,) = session.run(None, {"x": values.astype(values.dtype.newbyteorder("="))})
    (reference,) = ReferenceEvaluator(model).run(None, {"x": values})
    held = ort.OrtValue.ortvalue_from_numpy(values).numpy()
    print(f"{values.dtype.str} {values.tolist()}: session {ran.tolist()}, OrtValue {held.tolist()}, ", end="")
    print(f"native {native.tolist()}, onnx.reference {reference.tolist()}")
    assert np.array_equal(native, values) and np.array_equal(reference, values)
    swapped = values.view(values.dtype.newbyteorder("<"))  # the same bytes, read the other way
    assert np.array_equal(ran, swapped) and np.array_equal(held, swapped), "changed: the byte order is heeded"
    try:
        numpy_helper.from_array(values)
    except ValueError as error:
        print(f"  onnx.numpy_helper.from_array refuses it: {error}")
print("as found: the bytes are read in the wrong order, and nothing says so")
PYTHON
