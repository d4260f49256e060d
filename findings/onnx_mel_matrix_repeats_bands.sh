#!/usr/bin/env bash
# ONNX's MelWeightMatrix rounds the edges of its bands down to DFT bins: of 80 usual bands, five repeat their neighbour.
#
# One expects: the triangles of HTK, Kaldi, TensorFlow and torchaudio, weighted at the centre of each bin by its
# frequency; the operator names the same formula, mel(f) = 2595 log10(1 + f / 700), and triangles with a peak of 1.
# What happens: left edge, centre and right edge are rounded down to whole bins first. For 80 bands over 400 points at
# 16 kHz, the usual front end of speech nets, five columns equal the next one, and of a flat spectrum the lowest band
# is 6.6 dB above that of the triangles. A net trained with torchaudio's features gets others without an error. ONNX
# Runtime and onnx.reference agree in it. A matrix computed outside and stored in the graph is what the net knows.
# Versions: onnxruntime 1.31.1 and 1.32.0, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the packages onnxruntime and onnx; ONNX, operator MelWeightMatrix, opset 17; issue 738 of
# nod-ai/AMD-SHARK-ModelDev takes the operator for torchaudio.functional.melscale_fbanks.
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
from onnx.reference import ReferenceEvaluator

BANDS, POINTS, RATE = 80, 400, 16_000


def triangles():
    """(bins, bands): how high each band's triangle is at each bin's frequency."""
    hertz = np.arange(POINTS // 2 + 1) * RATE / POINTS
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2) / 2595) - 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    up = (hertz[:, None] - left) / (centre - left)
    down = (right - hertz[:, None]) / (right - centre)
    return np.maximum(0, np.minimum(up, down))


values = {"bands": np.int64(BANDS), "points": np.int64(POINTS), "rate": np.int64(RATE)}
values |= {"low": np.float32(0), "high": np.float32(RATE / 2)}
constants = [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]
node = helper.make_node("MelWeightMatrix", list(values), ["matrix"])
output = helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [POINTS // 2 + 1, BANDS])
graph = helper.make_graph([node], "mel", [], [output], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
(found,), expected = session.run(None, {}), triangles()
(reference,) = ReferenceEvaluator(model).run(None, {})


def repeats(matrix):
    return [band for band in range(BANDS - 1) if np.array_equal(matrix[:, band], matrix[:, band + 1])]


apart = 10 * np.log10(found.sum(axis=0) / expected.sum(axis=0))  # of a flat spectrum
print(f"onnxruntime {ort.__version__}: {BANDS} bands, DFT of {POINTS} points at {RATE} Hz")
print(f"bands equal to the next: {repeats(found)}; of HTK's triangles: {repeats(expected)}")
print(f"flat spectrum, first six bands, dB above the triangles: {apart[:6].round(1).tolist()}")
assert np.allclose(found, reference, atol=1e-6)
assert not repeats(expected) and expected.any(axis=0).all()
assert len(repeats(found)) == 5 and apart[0] > 6, "changed: the bands are others"
print("as found: bands repeat")
PYTHON
