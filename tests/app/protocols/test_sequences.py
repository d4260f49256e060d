"""A model with variable axes over HTTP: what is said of it, and rows of different length, alone and together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import http as client

from app.__main__ import main
from app.engine.registry import Registry
from app.pages.examples import inference
from tests.app import recurrent
from tests.app.live import LiveServer, open_server
from tests.in_loop import in_loop

URL = "/v2/models/steps/infer"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sequences")
    recurrent.make_classifier(root, least=4)
    return root


@pytest.fixture(scope="module")
def sequences(folder: Path) -> Iterator[LiveServer]:
    with open_server(folder, max_body_bytes=1 << 20, grace_s=2) as opened:
        yield opened


def body(rows: dict[str, NDArray[Any]]) -> bytes:
    types = {"x": "FP32", "length": "INT64"}
    tensors = [
        {"name": name, "datatype": types[name], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in rows.items()
    ]
    return json.dumps({"inputs": tensors}).encode()


def answered(server: LiveServer, rows: dict[str, NDArray[Any]]) -> NDArray[Any]:
    reply = server.ask("POST", URL, body(rows), JSON)
    assert reply.status == 200, reply.body
    (output,) = json.loads(reply.body)["outputs"]
    return np.array(output["data"]).reshape(output["shape"])


def test_variable_axes_are_minus_one_in_the_metadata(sequences: LiveServer) -> None:
    found = json.loads(sequences.get("/v2/models/steps").body)
    assert found["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, -1, 3]},
        {"name": "length", "datatype": "INT64", "shape": [-1]},
    ]


def test_rows_in_json_get_the_answers_of_each_alone(sequences: LiveServer) -> None:
    rows = recurrent.rows_of(5, 17, 9)
    np.testing.assert_allclose(answered(sequences, rows), recurrent.probabilities(rows), atol=1e-5)


def test_rows_in_binary_get_the_answers_of_each_alone(sequences: LiveServer) -> None:
    rows = recurrent.rows_of(6, 11)
    triton = client.InferenceServerClient(f"127.0.0.1:{sequences.port}")
    tensors = [client.InferInput("x", [2, 11, 3], "FP32"), client.InferInput("length", [2], "INT64")]
    for tensor, array in zip(tensors, rows.values(), strict=True):
        tensor.set_data_from_numpy(array)
    got = triton.infer("steps", tensors).as_numpy("probabilities")
    np.testing.assert_allclose(got, recurrent.probabilities(rows), atol=1e-5)


def test_requests_of_many_lengths_at_once_get_the_answers_of_each_alone(sequences: LiveServer) -> None:
    requests = [recurrent.rows_of(4 + i % 13, seed=i) for i in range(60)]
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda rows: answered(sequences, rows), requests))
    for rows, got in zip(requests, answers, strict=True):
        np.testing.assert_allclose(got, recurrent.probabilities(rows), atol=1e-5)


@pytest.mark.parametrize("shape", [[1, 4], [1, 4, 2], [1, 0, 3], [1, -1, 3]])
def test_another_shape_is_refused_with_what_is_taken(sequences: LiveServer, shape: list[int]) -> None:
    tensors = [
        {"name": "x", "datatype": "FP32", "shape": shape, "data": [0.0] * 12},
        {"name": "length", "datatype": "INT64", "shape": [1], "data": [4]},
    ]
    reply = sequences.ask("POST", URL, json.dumps({"inputs": tensors}).encode(), JSON)
    assert reply.status == 400
    assert "[-1, -1, 3], -1 for any size" in json.loads(reply.body)["error"]


@pytest.mark.parametrize("length", [0, -1, 7, 2**62, -(2**63)])
def test_a_row_is_no_longer_than_it_came_and_no_shorter_than_one_step(sequences: LiveServer, length: int) -> None:
    rows = recurrent.rows_of(6, 5) | {"length": np.array([6, length])}
    reply = sequences.ask("POST", URL, body(rows), JSON)
    assert reply.status == 400
    assert json.loads(reply.body)["error"] == f"input 'length'[1] is {length}, expected a whole number from 1 to 6"


def test_its_examples_in_the_openapi_document_answer_200(sequences: LiveServer) -> None:
    document = json.loads(sequences.get("/openapi.json").body)
    content = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    assert examples
    for example in examples.values():
        reply = sequences.ask("POST", URL, json.dumps(example["value"]).encode(), JSON)
        assert reply.status == 200, reply.body


@in_loop
async def test_without_golden_rows_it_has_no_examples_that_its_graph_might_refuse(tmp_path: Path) -> None:
    recurrent.make_classifier(tmp_path, golden=False)
    async with Registry(tmp_path, device="cpu") as registry:
        shown = inference(registry.catalog.models)
    assert shown is not None
    assert (shown.name, shown.requests) == ("steps", {})


@pytest.mark.parametrize("page", ["/", "/docs", "/v1/models", "/v1/models/steps", "/v2/models/steps/stats"])
def test_its_pages_are_there(sequences: LiveServer, page: str) -> None:
    assert sequences.get(page).status == 200


def test_verify_takes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--models", str(folder), "--device", "cpu"]) == 0
    assert "steps" in capsys.readouterr().out
