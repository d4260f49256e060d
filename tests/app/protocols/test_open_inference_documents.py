"""What a model is under /v2, the trace settings, and the form of every error there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient import http as client
from tritonclient.utils import InferenceServerException

from app.core.errors import (
    Busy,
    Forbidden,
    InferenceFailed,
    LecternError,
    LoadRefused,
    NotFound,
    TooLarge,
    TooLate,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from app.core.manifest import MANIFEST_FILE
from app.protocols.open_inference.errors import refusal
from tests import made_models as models_made
from tests.app.live import LiveServer, open_server

OFF = {"trace_level": ["OFF"], "trace_rate": "0", "trace_count": "0", "log_frequency": "0", "trace_file": ""}


@pytest.fixture
def triton(server: LiveServer) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


def test_the_extensions_that_are_told_are_those_that_are_there(triton: client.InferenceServerClient) -> None:
    metadata = triton.get_server_metadata()
    assert metadata["name"] == "lectern"
    assert set(metadata["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "model_repository(unload_dependents)",
        "schedule_policy",
        "statistics",
        "trace",
    }


def test_the_configuration_is_tritons_as_far_as_it_is_true(triton: client.InferenceServerClient) -> None:
    config = triton.get_model_config("digits", "2")
    assert config["name"] == "digits"
    assert (config["platform"], config["backend"]) == ("onnxruntime_onnx", "onnxruntime")
    assert config["default_model_filename"] == "classifier.onnx"
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [28, 28, 1]}]
    assert config["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [5]}]
    assert config["instance_group"] == [{"name": "digits", "kind": "KIND_CPU", "count": 1, "gpus": []}]
    batching = config["dynamic_batching"]
    assert (batching["priority_levels"], batching["default_priority_level"]) == (3, 2)
    assert batching["max_queue_delay_microseconds"] == 0
    assert batching["default_queue_policy"]["default_timeout_microseconds"] == 60_000_000
    assert triton.get_model_config("digits") == config
    assert triton.get_model_config("digits", "1")["output"][0]["dims"] == [2]
    with pytest.raises(InferenceServerException, match=r"\[404\].*there is 1, 2"):
        triton.get_model_config("digits", "3")


def test_a_batch_of_the_configured_size_is_one_that_a_request_may_have(server: LiveServer) -> None:
    # The server takes 20 rows a request; its models would run more at once.
    assert server.get("/v2/models/digits/config").json()["max_batch_size"] <= 20


def test_the_metadata_names_every_version(triton: client.InferenceServerClient) -> None:
    metadata = triton.get_model_metadata("digits", "1")
    assert metadata["versions"] == ["1", "2"]
    assert metadata["platform"] == "onnx_onnxv1"
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28, 1]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}]


def test_tritons_traces_are_off_and_stay_off(triton: client.InferenceServerClient) -> None:
    assert triton.get_trace_settings() == OFF
    assert triton.get_trace_settings("shades") == OFF
    assert triton.update_trace_settings(settings={"trace_level": ["OFF"], "trace_file": None}) == OFF
    assert triton.update_trace_settings("shades", settings={}) == OFF
    for name in (None, "shades"):
        with pytest.raises(InferenceServerException, match=r"\[400\].*trace_level.*OpenTelemetry"):
            triton.update_trace_settings(name, settings={"trace_level": ["TIMESTAMPS"]})
    with pytest.raises(InferenceServerException, match=r"\[400\].*trace_file is '/tmp/trace.json'"):
        triton.update_trace_settings(settings={"trace_file": "/tmp/trace.json"})
    with pytest.raises(InferenceServerException, match=r"\[400\].*unknown trace setting 'trace_level_'"):
        triton.update_trace_settings(settings={"trace_level_": ["OFF"]})
    with pytest.raises(InferenceServerException, match=r"\[404\].*nobody"):
        triton.get_trace_settings("nobody")


@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/repository/index"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'{"ready": "yes", "trace_rate": 5}', b"\xff", b"[" * 50_000])
def test_a_body_that_is_none_is_refused_in_a_sentence(server: LiveServer, path: str, body: bytes) -> None:
    reply = server.ask("POST", path, body)
    assert reply.status == 400
    assert list(reply.json()) == ["error"]
    assert len(reply.json()["error"]) > 20


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2", "GET, HEAD"),
        ("GET", "/v2/models/shades/infer", "POST"),
        ("DELETE", "/v2/models/shades", "GET, HEAD"),
        ("PUT", "/v2/trace/setting", "GET, HEAD, POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("OPTIONS", "/v2/models/shades/trace/setting", "GET, HEAD, POST"),
    ],
)
def test_another_method_is_told_in_this_protocols_form_which_there_are(
    server: LiveServer, method: str, path: str, allow: str
) -> None:
    reply = server.ask(method, path)
    assert reply.status == 405
    assert reply.header("allow") == allow
    assert allow in reply.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/models/", "/v2/models/shades/", "/v2/systemsharedmemory/status", "/v2//"]
)
def test_an_unknown_page_is_told_in_this_protocols_form(server: LiveServer, path: str) -> None:
    reply = server.get(path)
    assert reply.status == 404
    assert path in reply.json()["error"]


def test_a_page_that_only_begins_alike_is_none_of_this_protocols(server: LiveServer) -> None:
    assert server.get("/v20").problem(404)


def test_what_nobody_foresaw_is_told_in_this_protocols_form_too(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_server(models, only=("shades",)) as server:

        @server.app.get("/v2/broken")
        async def broken() -> None:
            raise ZeroDivisionError("a secret of the server")

        reply = server.get("/v2/broken")
    assert reply.status == 500
    assert "request id" in reply.json()["error"]
    assert b"secret" not in reply.body
    assert reply.header("x-request-id")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unprocessable("x is 1, expected 2"), 400),
        (TooLarge("too many bytes"), 400),
        (LoadRefused("digits/3: no manifest"), 400),
        (Unauthorized("no key"), 401),
        (Forbidden("switched off"), 403),
        (NotFound("no model"), 404),
        (Busy("full", retry_after_s=3.0), 503),
        (TooLate("late"), 503),
        (Unavailable("closing"), 503),
        (InferenceFailed("it raised"), 500),
    ],
)
def test_statuses_are_tritons(error: LecternError, status: int) -> None:
    reported = refusal(error)
    assert reported.status_code == status
    assert bytes(reported.body) == b'{"error":"%s"}' % error.detail.encode()
    assert reported.headers.get("retry-after") == ("3" if isinstance(error, Busy) else None)


def test_what_cannot_be_written_is_told_all_the_same() -> None:
    assert bytes(refusal(Unprocessable("id is \ud800")).body) == rb'{"error":"id is \\ud800"}'


@pytest.fixture(scope="module")
def two_graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One model of two graphs, each a classifier."""
    root = tmp_path_factory.mktemp("two")
    folder = models_made.make_classifier_folder(root, "pair")
    (graph,) = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["graphs"].values()
    models_made.change_manifest(folder, graphs={"classifier": graph, "second": graph})
    with open_server(root, model_control=True, poll_s=0) as opened:
        yield opened


def test_each_graph_of_a_model_is_a_model_of_its_own(two_graphs: LiveServer) -> None:
    stats = two_graphs.get("/v2/models/stats").json()["model_stats"]
    assert [entry["name"] for entry in stats] == ["pair.classifier", "pair.second"]
    for entry in stats:
        assert two_graphs.get(f"/v2/models/{entry['name']}").json()["name"] == entry["name"]
        assert two_graphs.get(f"/v2/models/{entry['name']}/config").json()["name"] == entry["name"]
    reply = two_graphs.get("/v2/models/pair")
    assert reply.status == 404
    assert "pair.classifier, pair.second" in reply.json()["error"]


def test_the_document_names_each_graph_of_a_model_and_its_folder_once(two_graphs: LiveServer) -> None:
    paths = two_graphs.get("/openapi.json").json()["paths"]
    name, *_ = paths["/v2/models/{name}/versions/{version}/infer"]["post"]["parameters"]
    assert name["schema"]["enum"] == ["pair.classifier", "pair.second"]
    assert name["example"] in name["schema"]["enum"]
    (folder,) = paths["/v2/repository/models/{name}/load"]["post"]["parameters"]
    assert folder["example"] == "pair"
    assert "enum" not in folder["schema"]
