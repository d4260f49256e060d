"""The bodies of the Open Inference Protocol v2: JSON, and raw little-endian tensors behind it.

Source: kserve/open-inference-protocol (REST) and Triton's extensions "binary tensor data" and "classification".
A body is `JSON || raw buffers`, in the order of the tensors that announce a `binary_data_size`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from app.codecs.json_numbers import numbers, wrong
from app.core.errors import invalid
from app.core.manifest import ROWS, DType, TensorSpec, numpy_dtype

DATATYPES: Final[dict[DType, str]] = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_OF_DTYPE: Final = {numpy_dtype(dtype): name for dtype, name in DATATYPES.items()}  # dtype.name is slow
MAX_ITEMS: Final = 1 << 28  # of one tensor, whatever shape is claimed


@dataclass(frozen=True, slots=True)
class TextTensor:
    """An input or output of texts, one a row: BYTES there, an array of `str` here."""

    name: str
    shape: tuple[str | int, ...] = (ROWS,)
    dtype: Literal["bytes"] = "bytes"


Tensor = TensorSpec | TextTensor


def datatype(spec: Tensor) -> str:
    """What the protocol calls its type."""
    return "BYTES" if isinstance(spec, TextTensor) else DATATYPES[spec.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOutput:
    """A requested output, and its form."""

    name: str
    binary: bool
    classes: int = 0  # the classification extension: the best k as "value:index:label"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    id: str | None
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[RequestedOutput, ...]
    parameters: dict[str, Any] = field(default_factory=dict)


def parse(body: bytes, header_length: int | None, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> InferRequest:
    """A request's tensors, checked against the graph that they are for.

    Args:
        body: JSON, followed by raw buffers from byte `header_length` on.
        header_length: bytes of JSON; None for all of it; 0 for one raw input and no JSON at all.

    Raises:
        Unprocessable: naming the tensor, what was expected and what came.
    """
    if header_length == 0:
        return _raw(body, inputs, outputs)
    if header_length is not None and not 0 <= header_length <= len(body):
        raise wrong("header.inference-header-content-length", f"0 to {len(body)}, the body's length", header_length)
    try:
        # JSON has no NaN, but Triton takes it, and its client and Python's json write it.
        head = pydantic_core.from_json(body[:header_length], allow_inf_nan=True)
    except ValueError as error:
        raise invalid("body", expected="a JSON object", detail=f"the request is not JSON: {error}") from None
    if not isinstance(head, dict):
        raise wrong("the request", "a JSON object", head)
    parameters = _parameters(head, "parameters")
    buffer = memoryview(body)[header_length:] if header_length is not None else memoryview(b"")
    # `bytes` takes true for 1; without the word there is none.
    words = frozenset(word for word in (b"true", b"false", b"null") if word in body)
    tensors, used = _inputs(head.get("inputs"), {spec.name: spec for spec in inputs}, buffer, words)
    if used != len(buffer):
        raise wrong(
            "the binary part of the body", f"{used} bytes, the sum of all binary_data_size", f"{len(buffer)} bytes"
        )
    identity = head.get("id")
    if identity is not None and not isinstance(identity, str):
        raise wrong("id", "a string", identity)
    return InferRequest(
        id=identity,
        inputs=tensors,
        outputs=_outputs(head.get("outputs"), [spec.name for spec in outputs], parameters),
        parameters=parameters,
    )


def _raw(body: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> InferRequest:
    if len(inputs) != 1:
        raise wrong("a request without JSON", "a model of one input", f"one of {len(inputs)}")
    spec = inputs[0]
    if isinstance(spec, TextTensor):
        raise wrong("a request without JSON", "a model of numbers", "one of texts")
    free = [axis for axis in spec.shape[1:] if not isinstance(axis, int)]
    if len(free) > 1:
        raise wrong("a request without JSON", "a model with at most one free axis", f"one of shape {spec.shape}")
    fixed = math.prod(axis for axis in spec.shape if isinstance(axis, int)) * numpy_dtype(spec.dtype).itemsize
    if not body or len(body) % fixed or (not free and len(body) != fixed):
        raise wrong(
            f"input '{spec.name}'", f"{fixed} raw bytes, one row of {spec.dtype} {spec.shape[1:]}", f"{len(body)}"
        )
    shape = (1, *(axis if isinstance(axis, int) else len(body) // fixed for axis in spec.shape[1:]))
    array = np.frombuffer(body, numpy_dtype(spec.dtype)).reshape(shape)
    return InferRequest(
        id=None, inputs={spec.name: array}, outputs=tuple(RequestedOutput(name=o.name, binary=True) for o in outputs)
    )


class RawForm:
    """The fast form of requests and responses, prepared once per graph: one row as its bytes alone, outputs as theirs.

    Args:
        inputs, outputs: the graph's, as the manifest has them.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        spec = inputs[0]
        self._shape = (1, *(axis for axis in spec.shape[1:] if isinstance(axis, int)))
        self._dtype = np.dtype(object) if isinstance(spec, TextTensor) else numpy_dtype(spec.dtype)
        sizes = [axis for tensor in (*inputs, *outputs) for axis in tensor.shape[1:]]
        texts = any(isinstance(tensor, TextTensor) for tensor in (*inputs, *outputs))
        fixed = len(inputs) == 1 and not texts and all(isinstance(axis, int) for axis in sizes)
        self._bytes = math.prod(self._shape) * self._dtype.itemsize if fixed else -1
        self._name = spec.name
        self._outputs = tuple(RequestedOutput(name=o.name, binary=True) for o in outputs)
        self._heads: dict[tuple[str, str], bytes] = {}

    def parse(self, body: bytes) -> InferRequest | None:
        """A request without JSON; None where `parse` must look at it."""
        if len(body) != self._bytes:
            return None
        array = np.ndarray(self._shape, self._dtype, body)
        return InferRequest(id=None, inputs={self._name: array}, outputs=self._outputs)

    def encode(
        self, name: str, version: str, tensors: Mapping[str, NDArray[Any]], request: InferRequest
    ) -> tuple[bytes, int] | None:
        """The answer to a request that `parse` has taken, with the bytes of its JSON; None to any other."""
        if request.outputs is not self._outputs:
            return None
        buffers = [tensors[want.name].tobytes() for want in self._outputs]
        head = self._heads.get((name, version))
        if head is None:  # of one row, so that it is the same each time
            whole, size = encode({"model_name": name, "model_version": version}, tensors, request.outputs, ())
            assert size is not None
            head = self._heads[name, version] = whole[:size]
        return b"".join((head, *buffers)), len(head)


def _parameters(holder: Mapping[str, Any], subject: str) -> dict[str, Any]:
    found = holder.get("parameters")
    if found is None:  # clients write null where they have none
        return {}
    if not isinstance(found, dict):
        raise wrong(subject, "an object", found)
    return found


def _inputs(
    given: object, specs: Mapping[str, Tensor], buffer: memoryview, words: frozenset[bytes]
) -> tuple[dict[str, NDArray[Any]], int]:
    if not isinstance(given, list) or not given:
        raise wrong("inputs", f"a list with {', '.join(specs)}", given)
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for i, entry in enumerate(given):
        if not isinstance(entry, dict):
            raise wrong(f"inputs[{i}]", "an object", entry)
        name = entry.get("name")
        if not isinstance(name, str) or name not in specs:
            raise wrong(f"inputs[{i}].name", f"one of {', '.join(specs)}", name)
        if name in found:
            raise wrong(f"inputs[{i}].name", "each input once", f"'{name}' again")
        subject = f"input '{name}'"
        shape = _shape(entry, specs[name], subject)
        size, spec = _parameters(entry, f"{subject}.parameters").get("binary_data_size"), specs[name]
        if size is None:
            data = entry.get("data")
            if isinstance(spec, TextTensor):
                found[name] = _texts(data, shape, subject)
            else:
                found[name] = numbers(data, numpy_dtype(spec.dtype), DATATYPES[spec.dtype], shape, subject, words)
            continue
        if "data" in entry:
            raise wrong(subject, "either data or binary_data_size", "both")
        if isinstance(spec, TextTensor):
            found[name] = _texts_behind(buffer[at:], size, shape, subject)
            at += size
            continue
        dtype = numpy_dtype(spec.dtype)
        want = math.prod(shape) * dtype.itemsize
        if size is True or not isinstance(size, int) or size != want:
            raise wrong(f"{subject}.parameters.binary_data_size", f"{want}, for {spec.dtype} {list(shape)}", size)
        if at + size > len(buffer):
            raise wrong(subject, f"{size} bytes behind the JSON", f"{len(buffer) - at} bytes")
        found[name] = np.frombuffer(buffer[at : at + size], dtype).reshape(shape)
        at += size
    if missing := [name for name in specs if name not in found]:
        raise wrong("inputs", f"all of {', '.join(specs)}", f"no {', '.join(missing)}")
    return found, at


def _shape(entry: Mapping[str, Any], spec: Tensor, subject: str) -> tuple[int, ...]:
    if entry.get("datatype") != datatype(spec):
        raise wrong(f"{subject}.datatype", datatype(spec), entry.get("datatype"))
    shape = entry.get("shape")
    expected = str([axis if isinstance(axis, int) else -1 for axis in spec.shape])
    if not isinstance(shape, list) or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise wrong(f"{subject}.shape", f"{expected}, -1 for any size", shape)
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(want, int) or want == got for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits or not 0 < math.prod(shape) <= MAX_ITEMS:
        raise wrong(f"{subject}.shape", f"{expected}, -1 for any size but 0", shape)
    return tuple(shape)


def _texts(data: object, shape: tuple[int, ...], subject: str) -> NDArray[Any]:
    """Texts in JSON."""
    if not isinstance(data, list) or len(data) != shape[0] or not all(type(text) is str for text in data):
        raise wrong(f"{subject}.data", f"a list of {shape[0]} texts", data)
    return np.array(data, object)


def _texts_behind(buffer: memoryview, size: object, shape: tuple[int, ...], subject: str) -> NDArray[Any]:
    """Texts as raw bytes: of each its length, four bytes little-endian, and its UTF-8."""
    if type(size) is not int or not 0 <= size <= len(buffer):
        raise wrong(f"{subject}.parameters.binary_data_size", f"0 to {len(buffer)}, the bytes behind the JSON", size)
    found: list[str] = []
    at = 0
    while at < size and len(found) < shape[0]:
        begin = at + 4
        at = begin + int.from_bytes(buffer[at:begin], "little")
        if begin > size or at > size:
            raise wrong(f"{subject}[{len(found)}]", f"a text within {size} bytes", f"one that ends at byte {at}")
        try:
            found.append(str(buffer[begin:at], "utf-8"))
        except UnicodeDecodeError as error:
            where, got = f"{subject}[{len(found)}]", f"byte 0x{error.object[error.start]:02x} at {error.start}"
            raise invalid(where, expected="a text in UTF-8", got=got, detail=f"{where} is not UTF-8: {got}") from None
    if at != size or len(found) != shape[0]:
        raise wrong(subject, f"{shape[0]} texts in {size} bytes", f"{len(found)} in {at} bytes")
    return np.array(found, object)


def _outputs(given: object, names: Sequence[str], parameters: Mapping[str, Any]) -> tuple[RequestedOutput, ...]:
    default = parameters.get("binary_data_output", False)
    if not isinstance(default, bool):
        raise wrong("parameters.binary_data_output", "true or false", default)
    if given is None or given == []:
        return tuple(RequestedOutput(name=name, binary=default) for name in names)
    if not isinstance(given, list):
        raise wrong("outputs", "a list", given)
    found = []
    for i, entry in enumerate(given):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in names:
            raise wrong(f"outputs[{i}].name", f"one of {', '.join(names)}", entry if name is None else name)
        own = _parameters(entry, f"outputs[{i}].parameters")
        binary, classes = own.get("binary_data", default), own.get("classification", 0)
        if not isinstance(binary, bool):
            raise wrong(f"outputs[{i}].parameters.binary_data", "true or false", binary)
        if type(classes) is not int or classes < 0:
            raise wrong(f"outputs[{i}].parameters.classification", "how many classes, 1 or more", classes)
        found.append(RequestedOutput(name=name, binary=binary, classes=classes))
    return tuple(found)


def encode(
    head: dict[str, Any], tensors: Mapping[str, NDArray[Any]], wanted: Sequence[RequestedOutput], labels: Sequence[str]
) -> tuple[bytes, int | None]:
    """A response's body, and how many bytes of it are JSON where raw buffers follow (else None)."""
    outputs: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for want in wanted:
        array = tensors[want.name]
        if want.classes and array.dtype == object:
            raise wrong(f"classification of '{want.name}'", "of numbers", "of texts")
        if want.classes:
            outputs.append(_classes(want, array, labels, buffers))
            continue
        if array.dtype == object:
            outputs.append(_as_bytes(want, array.tolist(), list(array.shape), buffers))
            continue
        entry: dict[str, Any] = {
            "name": want.name,
            "datatype": _OF_DTYPE[array.dtype],
            "shape": list(array.shape),
        }
        if want.binary:
            buffers.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            entry["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        outputs.append(entry)
    text = pydantic_core.to_json({**head, "outputs": outputs}, inf_nan_mode="null")  # JSON has no such numbers
    return (b"".join([text, *buffers]), len(text)) if buffers else (text, None)


def _classes(want: RequestedOutput, array: NDArray[Any], labels: Sequence[str], buffers: list[bytes]) -> dict[str, Any]:
    rows = array.reshape(len(array), -1)
    order = np.argsort(-rows, axis=1, kind="stable")[:, : want.classes]
    named = len(labels) == rows.shape[1]
    texts = [
        f"{rows[i, k]:f}:{k}" + (f":{labels[k]}" if named else "")
        for i, best in enumerate(order)
        for k in best.tolist()
    ]
    return _as_bytes(want, texts, list(order.shape), buffers)


def _as_bytes(want: RequestedOutput, texts: list[str], shape: list[int], buffers: list[bytes]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": want.name, "datatype": "BYTES", "shape": shape}
    if want.binary:
        data = b"".join(len(t).to_bytes(4, "little") + t for t in (text.encode() for text in texts))
        buffers.append(data)
        entry["parameters"] = {"binary_data_size": len(data)}
    else:
        entry["data"] = texts
    return entry
