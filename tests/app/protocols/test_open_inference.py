"""The Open Inference Protocol, by the unmodified clients of Triton (sync and aio) and by hand."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import http as client
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from app.codecs import open_inference
from app.codecs.open_inference import RequestedOutput, encode
from app.core.errors import Unprocessable
from app.core.manifest import TensorSpec
from tests.app.live import LiveServer, Reply
from tests.made_models import brightness_probabilities, grey_of

MODEL = "shades"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def rows(server: LiveServer) -> NDArray[np.uint8]:
    shape = inputs(server)[0]["shape"][1:]
    return np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)


def inputs(server: LiveServer) -> list[dict[str, Any]]:
    return list(json.loads(server.get(f"/v2/models/{MODEL}").body)["inputs"])


@pytest.fixture
def triton(server: LiveServer) -> client.InferenceServerClient:
    return client.InferenceServerClient(f"127.0.0.1:{server.port}")


def requested(rows: NDArray[np.uint8], *, binary: bool) -> tuple[list[Any], list[Any]]:
    tensor = client.InferInput("image", list(rows.shape), "UINT8")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return [tensor], [client.InferRequestedOutput("probabilities", binary_data=binary)]


def expected(server: LiveServer, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    labels = json.loads(server.get(f"/v2/models/{MODEL}").body)["outputs"][0]["shape"][1]
    return brightness_probabilities(rows, labels)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("squeezed", [None, "gzip", "deflate"])
def test_tritons_client_gets_the_right_answer_in_every_form(
    server: LiveServer,
    triton: client.InferenceServerClient,
    rows: NDArray[np.uint8],
    binary: bool,
    squeezed: str | None,
) -> None:
    tensors, outputs = requested(rows, binary=binary)
    got = triton.infer(
        MODEL, tensors, outputs=outputs, request_id="seven",
        request_compression_algorithm=squeezed, response_compression_algorithm=squeezed,
    )  # fmt: skip
    assert np.allclose(got.as_numpy("probabilities"), expected(server, rows), atol=1e-4)
    assert got.get_response()["id"] == "seven"
    assert got.get_response()["model_name"] == MODEL


@pytest.mark.anyio
@pytest.mark.parametrize("binary", [True, False])
async def test_tritons_aio_client_gets_the_right_answer(
    server: LiveServer, rows: NDArray[np.uint8], binary: bool
) -> None:
    tensors, outputs = requested(rows, binary=binary)
    async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as triton:
        assert await triton.is_server_ready()
        got = await triton.infer(MODEL, tensors, outputs=outputs)
    assert np.allclose(got.as_numpy("probabilities"), expected(server, rows), atol=1e-4)


def test_triton_client_sees_what_is_there(triton: client.InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.is_model_ready(MODEL, "1")
    assert not triton.is_model_ready("nobody")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    metadata = triton.get_model_metadata(MODEL)
    assert metadata["inputs"][0]["datatype"] == "UINT8"
    assert metadata["inputs"][0]["shape"][0] == -1


def test_without_named_outputs_all_are_returned(
    server: LiveServer, triton: client.InferenceServerClient, rows: NDArray[np.uint8]
) -> None:
    got = triton.infer(MODEL, requested(rows, binary=True)[0])
    assert np.allclose(got.as_numpy("probabilities"), expected(server, rows), atol=1e-4)


def test_classification_gives_value_index_and_label(
    triton: client.InferenceServerClient, rows: NDArray[np.uint8]
) -> None:
    tensors, _ = requested(rows, binary=True)
    wanted = client.InferRequestedOutput("probabilities", class_count=2)
    got = triton.infer(MODEL, tensors, outputs=[wanted]).as_numpy("probabilities")
    plain = triton.infer(MODEL, tensors).as_numpy("probabilities")
    assert got.shape == (5, 2)
    for texts, row in zip(got, plain, strict=True):
        value, index, label = texts[0].decode().split(":")
        assert int(index) == row.argmax()
        assert float(value) == pytest.approx(row.max(), abs=1e-6)
        assert label


def test_an_error_reaches_tritons_client_as_a_sentence(triton: client.InferenceServerClient) -> None:
    wrong = client.InferInput("image", [1, 3], "UINT8").set_data_from_numpy(np.zeros((1, 3), np.uint8))
    with pytest.raises(InferenceServerException, match=r"\[400\].*input 'image'.shape is \[1, 3\], expected"):
        triton.infer(MODEL, [wrong])
    with pytest.raises(InferenceServerException, match=r"\[404\].*nobody"):
        triton.infer("nobody", [wrong])


def test_a_raw_row_without_json_is_taken(server: LiveServer, rows: NDArray[np.uint8]) -> None:
    reply = server.ask(
        "POST", f"/v2/models/{MODEL}/infer", rows[:1].tobytes(), {"inference-header-content-length": "0"}
    )
    assert reply.status == 200, reply.body
    at = int(reply.header("inference-header-content-length") or "0")
    got = np.frombuffer(reply.body[at:], np.float32)
    assert np.allclose(got, expected(server, rows[:1])[0], atol=1e-4)


def request(rows: NDArray[np.uint8], **changed: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return {"inputs": [{**tensor, **changed}]}


def send(server: LiveServer, body: object) -> Reply:
    return server.ask("POST", f"/v2/models/{MODEL}/infer", json.dumps(body).encode(), JSON)


def test_nested_and_flat_data_are_the_same(server: LiveServer, rows: NDArray[np.uint8]) -> None:
    flat, nested = send(server, request(rows)), send(server, request(rows, data=rows.tolist()))
    assert flat.status == nested.status == 200
    assert flat.body == nested.body


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"datatype": "FP32"}, "datatype is FP32, expected UINT8"),
        ({"name": "picture"}, "expected one of image"),
        ({"shape": [-1, 2]}, "shape"),
        ({"shape": "many"}, "shape"),
        ({"data": [1, 2, 3]}, "data is shape [3]"),
        ({"data": [[1], [2, 3]]}, "a ragged list"),
        ({"data": "AAAA"}, "expected a list of numbers"),
        ({"data": None}, "expected a list of numbers"),
        ({"parameters": {"binary_data_size": 3}}, "either data or binary_data_size"),
        ({"parameters": []}, "expected an object"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_named(
    server: LiveServer, rows: NDArray[np.uint8], changed: dict[str, Any], says: str
) -> None:
    reply = send(server, request(rows, **changed))
    assert reply.status == 400
    assert says in json.loads(reply.body)["error"]


@pytest.mark.parametrize("value", [256, -1, 0.5, "1", None, 10**30, [1]])
def test_values_that_the_type_cannot_hold_are_refused(
    server: LiveServer, rows: NDArray[np.uint8], value: object
) -> None:
    data: list[Any] = rows.ravel().tolist()
    data[7] = value
    reply = send(server, request(rows, data=data))
    assert reply.status == 400
    assert "input 'image'.data" in json.loads(reply.body)["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"inputs": []}', b'{"inputs": [1]}', b"\xff\xfe"]
)
def test_what_is_no_request_is_refused(server: LiveServer, body: bytes) -> None:
    reply = server.ask("POST", f"/v2/models/{MODEL}/infer", body, JSON)
    assert reply.status == 400
    assert set(json.loads(reply.body)) == {"error"}


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999", "x", ""])
def test_a_header_length_that_cannot_be_is_refused(server: LiveServer, rows: NDArray[np.uint8], length: str) -> None:
    body = json.dumps(request(rows)).encode()
    reply = server.ask("POST", f"/v2/models/{MODEL}/infer", body, JSON | {"inference-header-content-length": length})
    assert reply.status == 400
    assert "inference-header-content-length" in json.loads(reply.body)["error"]


@pytest.mark.parametrize("extra", [b"", b"1234"])
def test_binary_data_of_another_length_is_refused(server: LiveServer, rows: NDArray[np.uint8], extra: bytes) -> None:
    tensor = request(rows)["inputs"][0]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": rows.nbytes}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + (rows.tobytes() + extra if extra else rows.tobytes()[:-1])
    reply = server.ask("POST", f"/v2/models/{MODEL}/infer", body, {"inference-header-content-length": str(len(head))})
    assert reply.status == 400
    assert "bytes" in json.loads(reply.body)["error"]


def test_a_compressed_bomb_is_refused(server: LiveServer) -> None:
    bomb = gzip.compress(b"[" * (8 << 20))
    reply = server.ask("POST", f"/v2/models/{MODEL}/infer", bomb, JSON | {"content-encoding": "gzip"})
    assert reply.status == 400
    assert "unpacks to more than" in json.loads(reply.body)["error"]


def test_more_rows_than_the_limit_are_refused(server: LiveServer, rows: NDArray[np.uint8]) -> None:
    many = np.repeat(rows, 5, axis=0)
    reply = send(server, request(many))
    assert reply.status == 400
    assert "at most 20" in json.loads(reply.body)["error"]


@pytest.mark.parametrize(
    "path", ["/v2/nowhere", "/v2/models", f"/v2/models/{MODEL}/versions/9/ready", "/v2/models/../x"]
)
def test_what_is_not_there_is_404_in_this_protocols_form(server: LiveServer, path: str) -> None:
    reply = server.get(path)
    assert reply.status == 404
    assert "error" in json.loads(reply.body)


def test_a_timeout_too_short_answers_503(server: LiveServer, rows: NDArray[np.uint8]) -> None:
    reply = send(server, {**request(rows), "parameters": {"timeout": 1}})
    assert reply.status == 503
    assert "the deadline is" in json.loads(reply.body)["error"]


def test_known_levels_get_their_labels(server: LiveServer) -> None:
    shape = inputs(server)[0]["shape"][1:]
    labels = json.loads(server.get(f"/v1/models/{MODEL}").body)["labels"]
    levels = np.stack([np.full(shape, grey_of(k, len(labels)), np.uint8) for k in range(len(labels))])
    reply = send(
        server, {**request(levels), "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}]}
    )
    best = [text.split(":")[2] for text in json.loads(reply.body)["outputs"][0]["data"]]
    assert best == labels


def test_a_body_of_thousands_of_fields_is_refused_before_it_is_parsed(server: LiveServer) -> None:
    fields = b"{" + b",".join(b'"a%d":1' % i for i in range(2000)) + b"}"
    reply = server.ask("POST", "/v2/models/shades/infer", fields, {"Content-Type": "application/json"})
    assert 400 <= reply.status < 500
    assert "at most 1000" in reply.json()["error"]


def test_what_is_no_number_is_null_in_json() -> None:
    tensors = {"value": np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)}
    body, _ = encode({}, tensors, [RequestedOutput(name="value", binary=False)], ())
    assert json.loads(body, parse_constant=pytest.fail)["outputs"][0]["data"] == [1.5, None, None, None]


def test_null_is_nan_and_as_good_as_no_parameters() -> None:
    spec = TensorSpec(name="row", dtype="float32", shape=("rows", 2))
    entry: dict[str, Any] = {"name": "row", "datatype": "FP32", "shape": [2, 2], "parameters": None}
    for data in ([[1.5, None], [None, 4]], [1.5, None, None, 4]):
        body = json.dumps({"parameters": None, "id": None, "outputs": None, "inputs": [entry | {"data": data}]})
        found = open_inference.parse(body.encode(), None, [spec], [spec]).inputs["row"]
        np.testing.assert_array_equal(found, np.array([[1.5, np.nan], [np.nan, 4]], np.float32))
        body = body.replace("null", "NaN").replace('": NaN', '": null')  # as Triton's client writes it
        found = open_inference.parse(body.encode(), None, [spec], [spec]).inputs["row"]
        np.testing.assert_array_equal(found, np.array([[1.5, np.nan], [np.nan, 4]], np.float32))
        with pytest.raises(Unprocessable, match="values that FP32 can hold"):
            open_inference.parse(body.replace("NaN", "-Infinity", 1).encode(), None, [spec], [spec])
    whole = TensorSpec(name="row", dtype="int64", shape=("rows", 2))
    body = json.dumps({"inputs": [entry | {"datatype": "INT64", "data": [1, None, 3, 4]}]})
    with pytest.raises(Unprocessable, match="a list with"):
        open_inference.parse(body.encode(), None, [whole], [whole])
