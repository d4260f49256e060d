"""A new task is one folder in app/tasks and one row in app/core/manifest/tasks.py, as the documentation promises.

A toy task is added to a copy of the app, which then starts as a server of its own: the task is in every place where
tasks are listed, and nothing else of the copy was touched.
"""

from __future__ import annotations

import hashlib
import html
import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.codecs.images.files import encode_png
from tests.app.live import Reply, grey
from tests.app.test_main import ROOT, process
from tests.made_models import PHOTO, classifier_manifest, onnx_bytes, sha256, write_folder

TABLE = "app/core/manifest/tasks.py"
ROW = """\
    "weigh": TaskFacts(
        title="Weigh",
        check=lambda manifest: check_specs(
            "weigher.outputs", _graph(manifest, "weigher").outputs, [("ink", "float32", (ROWS,))]
        ),
        commands=_row_or_picture,
    ),
"""
FOLDER = {
    "__init__.py": "",
    "schema.py": '''\
"""The JSON of POST /v1/weigh: its request and its response."""

from app.web.openapi.schemas import ModelAnswer, PictureRequest


class WeighRequest(PictureRequest):
    """Either `image` or `images`."""


class WeighAnswer(ModelAnswer):
    """The ink of each picture, from 0 to 1."""

    results: list[float]
''',
    "openapi.py": '''\
"""POST /v1/weigh in the OpenAPI document."""

from app.engine.registry import Registry
from app.tasks.weigh.schema import WeighRequest
from app.web.openapi.golden import as_base64, stroke
from app.web.openapi.operation import Operation, model_options, models_for
from app.web.openapi.pictures import picture_bodies, picture_inputs
from app.web.request.limits import Limits


def describe(registry: Registry, limits: Limits) -> Operation:
    options = model_options(models_for(registry, "weigh"), WeighRequest)
    return Operation(
        options=options,
        body="WeighRequest",
        inputs=picture_inputs(limits.max_rows),
        one_of=("image", "images"),
        takes=picture_bodies(options, max_rows=limits.max_rows, npy="uint8 rows"),
        requests={"a picture": {"image": as_base64(stroke(32, 32, 3))}},
    )
''',
    "endpoint.py": '''\
"""POST /v1/weigh: pictures in, their ink out."""

import pydantic_core
from starlette.responses import Response

from app.tasks.weigh.openapi import describe
from app.tasks.weigh.schema import WeighAnswer, WeighRequest
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.form import RequestForm
from app.web.request.media_types import JSON
from app.web.request.payload import taken


async def weigh(call: Call) -> Response:
    payload = await call.read()
    model = call.choose_model("weigh", "image")
    with call.lease(model, "weigher"):
        rows = await call.decode_rows(payload, "weigher")
        call.decoded(len(rows))
        outputs = await call.run("weigher", {"image": rows})
    answer = {"model": model.name, "version": model.version, "device": model.device}
    answer["results"] = outputs["ink"].tolist()
    return await call.respond(lambda: pydantic_core.to_json(answer), "weigher", inline=True)


ENDPOINT = Endpoint(
    path="/v1/weigh",
    name="weigh",
    summary="Weigh the ink of pictures",
    handler=weigh,
    request=RequestForm(
        schema=WeighRequest,
        options={"model": str, "version": str},
        takes=taken(WeighRequest),
        offers=(JSON,),
    ),
    response=WeighAnswer,
    describe=describe,
)
''',
}


def add_task(root: Path) -> None:
    folder = root / "app" / "tasks" / "weigh"
    folder.mkdir()
    for name, text in FOLDER.items():
        (folder / name).write_text(text, encoding="utf-8")
    table = root / TABLE
    text = table.read_text(encoding="utf-8")
    for before, after in (
        ('"caption"\n]\n', '"caption", "weigh"\n]\n'),
        ('}\n"""In the order', f'{ROW}}}\n"""In the order'),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    table.write_text(text, encoding="utf-8")


def make_scales(root: Path) -> None:
    """A model whose graph takes the mean of a picture: `image` uint8 (rows, 32, 32, 3) -> `ink` float32 (rows)."""
    graph = onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["levels"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Div", ["mean", "white"], ["ink"]),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", *PHOTO.shape])],
        [helper.make_tensor_value_info("ink", TensorProto.FLOAT, ["rows"])],
        {"white": np.float32(255)},
    )
    described = {
        "file": "weigher.onnx",
        "sha256": sha256(graph),
        "inputs": [{"name": "image", "dtype": "uint8", "shape": ["rows", *PHOTO.shape]}],
        "outputs": [{"name": "ink", "dtype": "float32", "shape": ["rows"]}],
    }
    manifest = classifier_manifest(graph, name="scales", picture=PHOTO) | {
        "task": "weigh",
        "title": "Scales",
        "summary": "The mean level of a picture. Made for tests.",
        "graphs": {"weigher": described},
        "labels": [],
    }
    write_folder(root, manifest, {"weigher.onnx": graph})


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every source file, by its path."""
    files = (path for path in (root / "app").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the app with the toy task."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "app", root / "app", ignore=shutil.ignore_patterns("__pycache__"))
    add_task(root)
    return root


@pytest.fixture(scope="module")
def port(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server of that copy."""
    models = tmp_path_factory.mktemp("scales")
    make_scales(models)
    with process("--models", str(models), "--device", "cpu", "--log-level", "warning", cwd=tree) as (_, lines, opened):
        assert any(line.startswith("  scales/1  weigh ") for line in lines)
        yield opened


def ask(port: int, method: str, path: str, body: bytes | None = None, kind: str = "") -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def test_a_task_is_one_folder_and_one_row_of_one_table(tree: Path) -> None:
    before, after = digests(ROOT), digests(tree)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == {TABLE, *(f"app/tasks/weigh/{name}" for name in FOLDER)}


def test_its_endpoint_answers_pictures_in_every_form_of_body(port: int) -> None:
    answer = ask(port, "POST", "/v1/weigh", encode_png(grey(51)), "image/png")
    assert answer.status == 200
    assert answer.header("x-model") == "scales/1"
    assert answer.json() == {"model": "scales", "version": "1", "device": "cpu", "results": [pytest.approx(0.2)]}
    several = json.dumps({"images": [grey(0).tolist(), grey(255).tolist()], "model": "scales"}).encode()
    assert ask(port, "POST", "/v1/weigh", several, "application/json").json()["results"] == [0.0, 1.0]


def test_its_wrong_requests_are_refused_as_those_of_other_tasks(port: int) -> None:
    refused = ask(port, "POST", "/v1/weigh?modle=scales", encode_png(grey(51)), "image/png").problem(422)
    assert refused["detail"] == "unknown query parameter 'modle' (did you mean 'model'?), there are: model, version"
    other = ask(port, "POST", "/v1/classify?model=scales", encode_png(grey(51)), "image/png").problem(422)
    assert other["detail"] == "model 'scales' is made to weigh, not to classify"


def test_it_is_in_the_openapi_document_with_an_example_that_answers(port: int) -> None:
    document: dict[str, Any] = ask(port, "GET", "/openapi.json").json()
    operation = document["paths"]["/v1/weigh"]["post"]
    assert operation["operationId"] == "weigh"
    assert [parameter["name"] for parameter in operation["parameters"][:2]] == ["model", "version"]
    assert {"WeighRequest", "WeighAnswer"} <= document["components"]["schemas"].keys()
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        body = json.dumps(example["value"]).encode()
        assert ask(port, "POST", "/v1/weigh", body, "application/json").status == 200


def test_it_is_wherever_tasks_are_listed(port: int) -> None:
    assert ask(port, "GET", "/health/ready").json()["defaults"] == {"weigh": "scales"}
    listed = ask(port, "GET", "/v1/models").json()["models"]
    assert [(model["name"], model["task"], model["default_for"]) for model in listed] == [
        ("scales", "weigh", ["weigh"])
    ]
    page = ask(port, "GET", "/").body.decode()
    assert "Weigh pictures" in page
    command = "curl -F image=@picture.png 'http://127.0.0.1:{}/v1/weigh?model=scales'"
    assert command.format(port) in html.unescape(page)
    assert ask(port, "GET", "/v2/models/scales").json()["outputs"][0]["name"] == "ink"
