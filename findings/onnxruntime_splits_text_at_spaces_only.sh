#!/usr/bin/env bash
# ONNX Runtime's StringSplit without a delimiter takes the space alone for white space, not tab, newline or others.
#
# One expects: without a delimiter the operator parts a text as str.split() of Python does: "consecutive whitespace
# characters are regarded as a single separator", says its definition, and onnx.reference does so.
# What happens: "two\twords" and "two\nwords" are one token, a text that ends with a newline ends with a token that
# has it, and a vocabulary inside the graph finds none of them: the model answers for unknown words, without an error.
# And an empty text with a delimiter has 0 parts; that of Python and of onnx.reference has 1, the empty text.
# Versions: onnxruntime 1.31.1 and 1.32.0, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the packages onnxruntime and onnx; ONNX, operator StringSplit, opset 20; pull request 18016 of
# microsoft/onnxruntime, which brought the operator.
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
from onnx.reference import ReferenceEvaluator


def parts(text, **attributes):
    """What ONNX Runtime and onnx.reference make of one text."""
    node = helper.make_node("StringSplit", ["text"], ["parts", "count"], **attributes)
    x = helper.make_tensor_value_info("text", TensorProto.STRING, ["N"])
    y = helper.make_tensor_value_info("parts", TensorProto.STRING, ["N", "M"])
    n = helper.make_tensor_value_info("count", TensorProto.INT64, ["N"])
    graph = helper.make_graph([node], "split", [x], [y, n])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"text": np.array([text], object)}
    both = session.run(None, feed), ReferenceEvaluator(model).run(None, feed)
    return [[str(part) for part in np.asarray(row)[0][: int(count[0])]] for row, count in both]


print(f"onnxruntime {ort.__version__}")
for text in ("two  words", "two\twords", "two\nwords", "words\r\n", "two\vwords"):
    runtime, reference = parts(text)
    print(f"{text!r}: onnxruntime {runtime}, onnx.reference {reference}, str.split {text.split()}")
    assert reference == text.split()
    spaces = [part for part in text.split(" ") if part]
    assert runtime == spaces, "changed: other white space parts words too"
runtime, reference = parts("", delimiter=",")
print(f"'' at commas: onnxruntime {runtime}, onnx.reference {reference}, str.split {''.split(',')}")
assert reference == [""] and runtime == [], "changed: the empty text has one part"
print("as found: only spaces part words")
PYTHON
