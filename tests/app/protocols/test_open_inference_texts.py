"""Models of text under /v2: BYTES tensors in JSON and raw, by the unmodified tritonclient and by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient import http as client
from tritonclient.utils import InferenceServerException

from tests.app.live import LiveServer
from tests.app.tasks.test_caption import MIXED, scene
from tests.app.tasks.test_classify_text import good


@pytest.fixture
def triton(writers: LiveServer) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(f"127.0.0.1:{writers.port}") as opened:
        yield opened


def texts(*values: str, binary: bool = True) -> list[Any]:
    tensor = client.InferInput("text", [len(values)], "BYTES")
    # Bytes, as Triton's own examples send them: an array of `str` is sent as the same UTF-8.
    return [tensor.set_data_from_numpy(np.array([text.encode() for text in values], np.object_), binary_data=binary)]


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_text_is_labelled(triton: client.InferenceServerClient, given: bool, wanted: bool) -> None:
    outputs = [client.InferRequestedOutput(name, binary_data=wanted) for name in ("label", "probabilities")]
    answer = triton.infer("teller.text", texts("a good film", "bad, café", binary=given), outputs=outputs)
    assert [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("label")] == ["good", "bad"]
    np.testing.assert_allclose(answer.as_numpy("probabilities")[:, 1], [good("a good film"), good("bad")], atol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_texts_are_translated(triton: client.InferenceServerClient, binary: bool) -> None:
    outputs = [client.InferRequestedOutput("text", binary_data=binary)]
    answer = triton.infer("turner.text", texts("the dog", "the man sees the dog"), outputs=outputs).as_numpy("text")
    assert [one.decode() if isinstance(one, bytes) else one for one in answer] == ["o cão", "o homem vê o cão"]


def test_pictures_are_described(triton: client.InferenceServerClient) -> None:
    tensor = client.InferInput("image", [1, 4, 4, 1], "UINT8")
    tensor.set_data_from_numpy(scene(*MIXED)[None, ..., None])
    assert triton.infer("namer.text", [tensor]).as_numpy("text").tolist() == [b"black white dark light"]


def test_a_model_of_text_is_there_beside_its_graphs(triton: client.InferenceServerClient) -> None:
    assert triton.is_model_ready("turner.text", "1")
    metadata = triton.get_model_metadata("turner.text")
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [one["datatype"] for one in metadata["outputs"]] == ["BYTES", "FP32"]
    assert triton.get_model_config("turner.text")["input"][0]["data_type"] == "TYPE_STRING"
    assert triton.get_model_metadata("turner.step")["inputs"][0]["datatype"] == "INT64"
    (figures,) = triton.get_inference_statistics("turner.text", "1")["model_stats"]
    assert figures["name"] == "turner.text"


def infer(server: LiveServer, model: str, tensor: dict[str, Any], behind: bytes = b"") -> Any:
    head = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", **tensor}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if behind else {}
    return server.ask("POST", f"/v2/models/{model}/infer", head + behind, headers)


def sized(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize(
    ("tensor", "behind", "words"),
    [
        ({"shape": [2], "data": ["the"]}, b"", "a list of 2 texts"),
        ({"shape": [1], "data": [1]}, b"", "a list of 1 texts"),
        ({"shape": [1, 1], "data": ["the"]}, b"", "[-1]"),
        ({"shape": [1], "data": [""]}, b"", "input 'text'[0]: has no text"),
        ({"shape": [1], "data": ["the " * 17]}, b"", "has 17 tokens, the limit is 16"),
        ({"shape": [1], "data": ["a\u0000"]}, b"", "a control character"),
        ({"shape": [1], "parameters": {"binary_data_size": 7}}, sized(b"the") + b"x", "sum of all binary_data_size"),
        ({"shape": [1], "parameters": {"binary_data_size": 99}}, sized(b"the"), "binary_data_size"),
        ({"shape": [1], "parameters": {"binary_data_size": 7}}, b"\xff\xff\xff\xffabc", "a text within 7 bytes"),
        ({"shape": [1], "parameters": {"binary_data_size": 3}}, b"\x01\x00\x00", "a text within 3 bytes"),
        ({"shape": [2], "parameters": {"binary_data_size": 7}}, sized(b"the"), "2 texts in 7 bytes"),
        ({"shape": [1], "parameters": {"binary_data_size": 5}}, sized(b"\xff"), "is not UTF-8: byte 0xff at 0"),
        ({"shape": [21], "data": ["the"] * 21}, b"", "has 21 rows, at most 20"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(writers: LiveServer, tensor: dict[str, Any], behind: bytes, words: str) -> None:
    reply = infer(writers, "turner.text", tensor, behind)
    assert reply.status in (400, 413), reply.body
    assert words in reply.json()["error"]


def test_a_model_of_no_text_has_no_such_name(triton: client.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[404\].*'shades.text' is none of them"):
        triton.infer("shades.text", texts("the"))


def test_the_raw_ids_are_still_taken(triton: client.InferenceServerClient) -> None:
    tokens, length = client.InferInput("tokens", [1, 1], "INT64"), client.InferInput("length", [1], "INT64")
    tokens.set_data_from_numpy(np.array([[4]]))
    length.set_data_from_numpy(np.array([1]))
    found = triton.infer("teller", [tokens, length]).as_numpy("probabilities")
    np.testing.assert_allclose(found[0, 1], good("good"), atol=1e-6)


def post(writers: LiveServer, name: str, body: dict[str, Any]) -> tuple[int, str]:
    reply = writers.ask("POST", f"/v2/models/{name}/infer", json.dumps(body).encode())
    return reply.status, reply.json().get("error", "")


@pytest.mark.parametrize(
    ("name", "tensor", "most"), [("teller", "tokens", 9), ("turner.encoder", "tokens", 9), ("turner.step", "token", 9)]
)
@pytest.mark.parametrize("token", [-1, 10, 99, 2**62])
def test_ids_that_the_tokenizer_has_not_are_refused_by_place(
    writers: LiveServer, name: str, tensor: str, most: int, token: int
) -> None:
    described = writers.get(f"/v2/models/{name}").json()["inputs"]
    inputs = [
        {
            "name": one["name"],
            "datatype": one["datatype"],
            "shape": [1, *(1 if axis == -1 else axis for axis in one["shape"][1:])],
            "data": [1] * int(np.prod([1 if axis == -1 else axis for axis in one["shape"][1:]], dtype=int)),
        }
        for one in described
    ]
    assert post(writers, name, {"inputs": inputs}) == (200, "")
    for one in inputs:
        if one["name"] == tensor:
            one["data"] = [token]
    status, error = post(writers, name, {"inputs": inputs})
    assert status == 400
    place = "[0, 0]" if tensor == "tokens" else "[0]"
    assert error == f"input '{tensor}'{place} is {token}, expected a whole number from 0 to {most}"


@pytest.mark.parametrize(("name", "output"), [("teller.text", "label"), ("turner.text", "text")])
def test_texts_are_not_ordered_by_value(writers: LiveServer, name: str, output: str) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}
    asked = {"name": output, "parameters": {"classification": 1}}
    status, error = post(writers, name, {"inputs": [text], "outputs": [asked]})
    assert (status, error) == (400, f"classification of '{output}' is of texts, expected of numbers")
