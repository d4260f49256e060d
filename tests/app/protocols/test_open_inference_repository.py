"""The model repository extension by Triton's client: the index always, loading and unloading where it is allowed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import http as client
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from app.core.errors import Unprocessable
from app.protocols.open_inference.repository import check_load, check_unload
from tests import made_models as models_made
from tests.app.live import LiveServer, open_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models_made.make_classifier_folder(tmp_path, "one")
    models_made.make_classifier_folder(tmp_path, "two")
    return tmp_path


@pytest.fixture
def open_to_all(folder: Path) -> Iterator[LiveServer]:
    with open_server(folder, model_control=True, poll_s=0) as opened:
        yield opened


@pytest.fixture
def triton(open_to_all: LiveServer) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(f"127.0.0.1:{open_to_all.port}") as opened:
        yield opened


def states(triton: client.InferenceServerClient) -> dict[tuple[str, str], str]:
    return {(m["name"], m["version"]): m["state"] for m in triton.get_model_repository_index()}


def ask(triton: client.InferenceServerClient, name: str) -> Any:
    image = client.InferInput("image", [1, 28, 28, 1], "UINT8")
    image.set_data_from_numpy(np.zeros((1, 28, 28, 1), np.uint8))
    return triton.infer(name, [image]).as_numpy("probabilities")


def test_the_index_names_what_is_served_and_what_was_refused_with_its_reason(server: LiveServer) -> None:
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as triton:
        entries = {(m["name"], m["version"]): m for m in triton.get_model_repository_index()}
    assert set(entries) == {("broken", "1"), ("digits", "1"), ("digits", "2"), ("shades", "1")}
    assert entries["digits", "2"] == {"name": "digits", "version": "2", "state": "READY", "reason": ""}
    assert entries["broken", "1"]["state"] == "UNAVAILABLE"
    assert "surprise" in entries["broken", "1"]["reason"]


def test_the_index_of_what_is_ready_leaves_the_others_out(server: LiveServer) -> None:
    reply = server.ask("POST", "/v2/repository/index", b'{"ready": true}')
    assert {entry["name"] for entry in reply.json()} == {"digits", "shades"}
    assert len(server.ask("POST", "/v2/repository/index", b'{"ready": false}').json()) == 4


@pytest.mark.parametrize("action", ["load", "unload"])
def test_without_the_setting_nothing_is_loaded_or_unloaded(server: LiveServer, action: str) -> None:
    with client.InferenceServerClient(f"127.0.0.1:{server.port}") as triton:
        with pytest.raises(InferenceServerException, match=r"\[403\].*LECTERN_MODEL_CONTROL=true"):
            getattr(triton, f"{action}_model")("shades")
        assert triton.is_model_ready("shades")


def test_a_model_is_unloaded_and_loaded_again(triton: client.InferenceServerClient) -> None:
    before = ask(triton, "one")
    triton.unload_model("one")
    assert not triton.is_model_ready("one")
    assert triton.is_model_ready("two")
    assert states(triton) == {("one", "1"): "UNAVAILABLE", ("two", "1"): "READY"}
    with pytest.raises(InferenceServerException, match=r"\[404\].*there is two"):
        ask(triton, "one")
    triton.load_model("one")
    assert states(triton)["one", "1"] == "READY"
    np.testing.assert_array_equal(ask(triton, "one"), before)


def test_a_new_folder_is_loaded_by_its_name(triton: client.InferenceServerClient, folder: Path) -> None:
    models_made.make_classifier_folder(folder, "three")
    assert not triton.is_model_ready("three")
    triton.load_model("three")
    assert ask(triton, "three").shape[0] == 1
    assert triton.get_model_config("three")["name"] == "three"


def test_a_load_that_is_refused_says_why_and_the_old_one_goes_on(
    triton: client.InferenceServerClient, folder: Path
) -> None:
    models_made.change_manifest(folder / "one" / "1", surprise=1)
    with pytest.raises(InferenceServerException, match=r"\[400\].*surprise"):
        triton.load_model("one")
    assert ask(triton, "one").shape[0] == 1


def test_a_name_that_no_folder_has_is_404(triton: client.InferenceServerClient) -> None:
    for action in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match=r"\[404\].*nobody"):
            action("nobody")


def test_files_and_configurations_in_a_request_are_refused(triton: client.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[400\].*configuration cannot come with a request"):
        triton.load_model("one", config="{}")
    with pytest.raises(InferenceServerException, match=r"\[400\].*file:1/model.onnx.*cannot come with a request"):
        triton.load_model("one", config=None, files={"file:1/model.onnx": b"x"})
    assert triton.is_model_ready("one")


def test_dependents_are_none_and_may_be_unloaded_with_it(triton: client.InferenceServerClient) -> None:
    triton.unload_model("one", unload_dependents=True)
    assert not triton.is_model_ready("one")


@pytest.mark.anyio
async def test_the_aio_client_loads_and_unloads(open_to_all: LiveServer, folder: Path) -> None:
    async with aio.InferenceServerClient(f"127.0.0.1:{open_to_all.port}") as triton:
        await triton.unload_model("two")
        assert not await triton.is_model_ready("two")
        await triton.load_model("two")
        assert await triton.is_model_ready("two")
        shutil.rmtree(folder / "two")
        with pytest.raises(InferenceServerException, match=r"\[404\].*two"):
            await triton.load_model("two")


def test_loading_is_in_the_document_where_it_is_allowed_and_answers_its_example(open_to_all: LiveServer) -> None:
    paths = open_to_all.get("/openapi.json").json()["paths"]
    for action in ("load", "unload"):
        operation = paths[f"/v2/repository/models/{{name}}/{action}"]["post"]
        assert set(operation["responses"]) == {"200", "400", "403", "404", "503"}
        (place,) = operation["parameters"]
        (example,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
        body = json.dumps(example["value"]).encode()
        reply = open_to_all.ask("POST", f"/v2/repository/models/{place['example']}/{action}", body)
        assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(
    ("check", "parameters", "says"),
    [
        (check_load, {"surprise": 1}, "unknown parameter 'surprise', there are: none"),
        (check_load, {"file:../../etc/passwd": "x"}, "files cannot come with a request"),
        (check_unload, {"surprise": 1}, "unknown parameter 'surprise', there are: unload_dependents"),
        (check_unload, {"unload_dependents": "yes"}, "unload_dependents is 'yes', expected true or false"),
    ],
)
def test_a_parameter_that_means_nothing_is_named(check: Any, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(Unprocessable, match=says):
        check(parameters)
