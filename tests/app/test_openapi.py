"""The OpenAPI document: valid, true to what is loaded, and every example answers 200 when sent as it stands."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from PIL import Image

from app.middleware.errors import Problem
from app.tasks.classify.schema import ClassifyAnswer, ClassifyRequest
from tests.app.live import LiveServer, open_server, strokes
from tests.made_models import brightness_probabilities


@pytest.fixture(scope="module")
def document(server: LiveServer) -> dict[str, Any]:
    read: dict[str, Any] = server.get("/openapi.json").json()
    return read


def nodes(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object of the document, with where it stands."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from nodes(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from nodes(inner, (*path, str(i)))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_of_openapi_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    for path, node in nodes(document):
        if "$ref" in node and "example" not in path:
            target: Any = document
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    # Two classes of one name would get schemas named after their modules.
    assert [name for name in document["components"]["schemas"] if "__" in name or name.startswith("app")] == []


def test_every_schema_is_a_json_schema(document: dict[str, Any]) -> None:
    schemas = {".".join(path): node["schema"] for path, node in nodes(document) if isinstance(node.get("schema"), dict)}
    schemas |= document["components"]["schemas"]
    assert len(schemas) > 20
    for schema in schemas.values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_model_is_an_enumeration_of_what_is_loaded(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/classify"]["post"]
    parameters = {p["name"]: p["schema"] for p in operation["parameters"]}
    assert parameters["model"]["enum"] == ["digits", "shades"]
    assert parameters["version"]["enum"] == ["1", "2"]
    assert parameters["top_k"] == {"type": "integer", "minimum": 1, "maximum": 10}
    body = document["components"]["schemas"]["ClassifyRequest"]["properties"]
    assert body["model"]["enum"] == ["digits", "shades"]
    assert set(body) == set(ClassifyRequest.model_fields)
    card = document["paths"]["/v1/models/{name}"]["get"]["parameters"]
    assert next(p for p in card if p["name"] == "name")["schema"]["enum"] == ["digits", "shades"]


def test_under_v2_names_and_versions_are_those_that_are_loaded(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        if path.startswith("/v2/models/{name}/versions/{version}"):
            places = {p["name"]: p["schema"] for p in operation["parameters"] if p["in"] == "path"}
            assert (places["name"]["enum"], places["version"]["enum"]) == (["digits", "shades"], ["1", "2"])


def examples(document: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """(path, method, media type, value) of every example of a request's body."""
    found = []
    for path, method, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            found += [(path, method, kind, example["value"]) for example in content.get("examples", {}).values()]
            found += [(path, method, kind, content["example"])] if "example" in content else []
    return found


def classify_examples(document: dict[str, Any]) -> list[Any]:
    return [value for path, _, _, value in examples(document) if path == "/v1/classify"]


def as_shown(path: str, operation: dict[str, Any]) -> str:
    """The path with the examples of its parts."""
    places = {p["name"]: p["example"] for p in operation.get("parameters", []) if p["in"] == "path"}
    return path.format(**places)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    draft = "https://json-schema.org/draft/2020-12/schema"
    return jsonschema_rs.validator_for({"$schema": draft, **schema, "components": document["components"]})


def test_every_example_answers_200_as_it_stands(server: LiveServer, document: dict[str, Any]) -> None:
    sent = examples(document)
    assert {value["model"] for value in classify_examples(document)} == {"digits", "shades"}
    assert {path for path, _, _, _ in sent} == {
        path
        for path, _, operation in operations(document)
        if "application/json" in operation.get("requestBody", {}).get("content", {})  # OpenAI's takes forms alone
    }
    for path, method, kind, value in sent:
        assert kind == "application/json"
        url = as_shown(path, document["paths"][path][method])
        reply = server.ask(method.upper(), url, json.dumps(value).encode(), {"Content-Type": kind})
        if path.startswith("/v1") and "model" not in value:  # nothing is loaded that could answer: it shows the form
            assert reply.problem(404)["subject"] == "model"
            continue
        if path == "/translate":  # nor that
            assert (reply.status, set(reply.json())) == (400, {"error"})
            continue
        assert reply.status == 200, (value, reply.body)
        content = document["paths"][path][method]["responses"]["200"]["content"][kind]
        validator(document, content["schema"]).validate(reply.json())


def test_every_page_of_the_protocol_can_be_tried_as_it_stands(server: LiveServer, document: dict[str, Any]) -> None:
    found = [(path, op) for path, method, op in operations(document) if path.startswith("/v2") and method == "get"]
    assert len(found) >= 14
    for path, operation in found:
        reply = server.get(as_shown(path, operation))
        assert reply.status == 200, (path, reply.body)
        validator(document, operation["responses"]["200"]["content"]["application/json"]["schema"]).validate(
            reply.json()
        )


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    for path, method, kind, value in examples(document):
        content = document["paths"][path][method]["requestBody"]["content"][kind]
        validator(document, content["schema"]).validate(value)


def test_a_body_that_is_no_request_is_none_in_the_schema(document: dict[str, Any]) -> None:
    body = validator(document, document["components"]["schemas"]["ClassifyRequest"])
    for wrong in ({}, {"image": "a", "images": ["a"]}, {"image": "a", "surprise": 1}, {"image": "a", "model": "no"}):
        assert not body.is_valid(wrong)
    tensors = validator(document, document["components"]["schemas"]["InferRequest"])
    one = {"name": "image", "shape": [1], "datatype": "UINT8", "data": [1]}
    assert tensors.is_valid({"inputs": [one]})
    for wrong in ({}, {"inputs": []}, {"inputs": [one | {"datatype": "uint8"}]}, {"inputs": [one | {"shape": [-1]}]}):
        assert not tensors.is_valid(wrong)


def test_an_example_shows_a_row_of_the_model_s_own_folder(server: LiveServer, document: dict[str, Any]) -> None:
    shown = next(v for v in classify_examples(document) if "image" in v and v["model"] == "digits")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["image"]))))
    np.testing.assert_array_equal(pixels, strokes()[0, :, :, 0])
    answer = server.send_json({"model": "digits", "image": pixels.tolist()}).json()["results"][0]
    known = brightness_probabilities(strokes()[:1], 5)[0]
    np.testing.assert_allclose(list(answer["probabilities"].values()), known, atol=1e-5)


def test_the_default_s_examples_come_first_and_of_other_models_there_are_few(
    server: LiveServer, document: dict[str, Any]
) -> None:
    models = [value["model"] for value in classify_examples(document)]
    assert server.get("/health/ready").json()["defaults"] == {"classify": "shades"}
    assert models == ["shades"] * models.count("shades") + ["digits"] * 2


def test_a_model_whose_golden_rows_cannot_be_pictures_shows_a_drawn_one(tmp_path: Path) -> None:
    from tests.made_models import make_classifier_folder

    make_classifier_folder(tmp_path, "blank")  # uniform pictures: no digit to be seen
    with open_server(tmp_path) as server:
        sent = classify_examples(server.get("/openapi.json").json())
        assert len(sent) == 3
        for value in sent:
            assert server.send_json(value).status == 200


def test_a_server_without_models_still_shows_either_image_or_images(tmp_path: Path) -> None:
    with open_server(tmp_path) as server:
        document = server.get("/openapi.json").json()
        (value,) = classify_examples(document)
        assert list(value) == ["image"]
        assert server.send_json(value).problem(404)["subject"]


def test_the_answers_shown_are_answers_to_golden_rows(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/classify"]["post"]["responses"]["200"]["content"]["application/json"]
    assert set(content["examples"]) == {"digits", "shades"}
    shown = ClassifyAnswer.model_validate(content["examples"]["digits"]["value"], strict=True)
    known = brightness_probabilities(strokes()[:1], 5)[0]
    np.testing.assert_allclose(list(shown.results[0].probabilities.values()), known, atol=1e-5)


def test_answers_are_what_the_document_says(server: LiveServer, document: dict[str, Any]) -> None:
    def answer(path: str, method: str) -> Any:
        schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        return validator(document, schema)

    for value in classify_examples(document):
        answer("/v1/classify", "post").validate(server.send_json(value).json())
    for path in ("/v1/models", "/health/live", "/health/ready"):
        answer(path, "get").validate(server.get(path).json())
    answer("/v1/models/{name}", "get").validate(server.get("/v1/models/digits").json())


def test_errors_are_problems_in_the_document_too(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/classify"]["post"]["responses"]
    assert set(responses) == {"200", "404", "406", "408", "413", "415", "422", "429", "500", "503", "504"}
    for status, response in responses.items():
        if status != "200":
            (content,) = response["content"].values()
            assert list(response["content"]) == ["application/problem+json"]
            assert content["example"]["status"] == int(status)
            Problem.model_validate(content["example"], strict=True)
    assert "HTTPValidationError" not in json.dumps(document)


def test_errors_of_the_protocol_have_its_own_form_in_the_document(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if path.startswith("/v2") and status != "200" and path != "/v2/health/ready":
                assert response["content"] == {
                    "application/json": {"schema": {"$ref": "#/components/schemas/OipError"}}
                }
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]["responses"]
    assert set(infer) == {"200", "400", "404", "500", "503"}


@pytest.mark.parametrize(
    "path", ["/v1/classify", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"]
)
def test_urgency_is_documented_where_it_is_taken(server: LiveServer, document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    (priority,) = [p for p in operation["parameters"] if p["name"] == "X-Request-Priority"]
    assert (priority["in"], priority["schema"]["enum"]) == ("header", [1, 2, 3])
    late = "504" if path == "/v1/classify" else "503"
    assert "`X-Request-Deadline-Ms`" in operation["description"]
    assert f"answered {late}" in operation["description"]
    kind, value = next((kind, value) for at, _, kind, value in examples(document) if at == path)

    def status(**headers: str) -> int:
        named = {"Content-Type": kind} | {name.replace("_", "-"): text for name, text in headers.items()}
        return server.ask("POST", as_shown(path, operation), json.dumps(value).encode(), named).status

    assert [status(X_Request_Priority=str(one)) for one in priority["schema"]["enum"]] == [200] * 3
    assert str(status(X_Request_Deadline_Ms="0")) == late
    assert late in operation["responses"]


def test_a_full_queue_is_documented_with_when_to_come_back(document: dict[str, Any]) -> None:
    assert "Retry-After" in document["paths"]["/v1/classify"]["post"]["responses"]["429"]["headers"]


def test_loading_is_in_the_document_where_it_is_allowed(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if path.endswith("load")]


def test_every_form_that_is_documented_is_taken_and_no_other(server: LiveServer, document: dict[str, Any]) -> None:
    kinds = set(document["paths"]["/v1/classify"]["post"]["requestBody"]["content"])
    details = server.send("application/pdf", b"x").problem(415)
    assert set(details["expected"].split(", ")) == kinds


def test_the_document_is_made_once_for_what_is_loaded(server: LiveServer) -> None:
    assert server.app.openapi() is server.app.openapi()
    before = server.app.openapi()
    server.app.state.registry.catalog.generation += 1
    assert server.app.openapi() is not before
    assert server.app.openapi() == before
