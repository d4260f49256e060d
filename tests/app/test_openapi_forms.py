"""The document as its readers take it: Swagger UI, which fills in forms, and makers of clients, who name classes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.live import LiveServer, open_server
from tests.app.test_openapi import as_shown, examples, nodes, operations, validator
from tests.made_tables import make_regressor_folder

JSON, FORM, EVENTS = "application/json", "multipart/form-data", "text/event-stream"
SERVERS = (*("server", "tables", "coders", "drawers", "translators", "denoisers", "hearers", "watchers", "writers"),)
SHIPPED = Path(__file__).parents[2] / "models"
FILES = ("image", "video", "sound", "file")


@pytest.fixture(params=SERVERS)
def loaded(request: pytest.FixtureRequest) -> LiveServer:
    server: LiveServer = request.getfixturevalue(request.param)
    return server


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, media type and content of every request's body, but those of the Open Inference Protocol."""
    for path, _, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            if not path.startswith("/v2"):
                yield path, kind, content


def initial(schema: dict[str, Any]) -> str:
    """What Swagger UI 5 puts into a field of a form that nobody touches, and sends."""
    if "examples" in schema:
        value = schema["examples"][0]
        return "" if value == [] else str(value)
    return str(schema["enum"][0]) if "enum" in schema else str(schema.get("default", "string"))


def form_of(fields: dict[str, str], name: str, file: bytes) -> bytes:
    parts = [f'--XX\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{text}\r\n' for n, text in fields.items()]
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'
    return "".join(parts).encode() + head.encode() + file + b"\r\n--XX--\r\n"


def file_for(document: dict[str, Any], path: str, name: str) -> bytes | None:
    """The file of the first example of a task's that has one: that of its default model."""
    if path == "/v1/audio/transcriptions":
        path, name = "/v1/transcribe", "sound"
    examples = document["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"].values()
    found = (value[key] for example in examples for key, value in [(name, example["value"])] if key in value)
    text = next((text for text in found if isinstance(text, str)), None)
    return None if text is None else base64.b64decode(text)


def ask_every_form(server: LiveServer, *, empty: bool) -> set[tuple[str, str]]:
    """Send each form once with each of its files, and the other fields as Swagger UI leaves them, or only the required.

    Returns:
        The paths and files that were answered with 200, which all others would fail.
    """
    document, answered = server.app.openapi(), set()
    for path, kind, content in bodies(document):
        schema = content["schema"]
        if kind != FORM or "properties" not in schema:
            continue
        fields = schema["properties"]
        for name in [name for name in FILES if name in fields]:
            file = file_for(document, path, name)
            if file is None:  # only shown, because no model is loaded that takes it
                continue
            others = [other for other in fields if other != name and (empty or other in schema.get("required", ()))]
            body = form_of({other: initial(fields[other]) for other in others}, name, file)
            reply = server.ask("POST", path, body, {"Content-Type": f"{FORM}; boundary=XX"})
            if reply.status == 404 and not any("model" in e["value"] for e in shown(document, path)):
                continue  # nothing is loaded that could answer
            assert reply.status == 200, (path, name, body[:300], reply.body)
            answered.add((path, name))
    return answered


def shown(document: dict[str, Any], path: str) -> list[dict[str, Any]]:
    path = "/v1/transcribe" if path.startswith("/v1/audio") else path
    return list(document["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"].values())


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize(
    ("fixture", "expected"),
    [
        ("server", {("/v1/classify", "image")}),
        ("tables", {("/v1/classify", "image"), ("/v1/regress", "image")}),
        ("coders", {("/v1/reconstruct", "image")}),
        ("translators", {("/v1/translate", "image")}),
        ("denoisers", {("/v1/denoise", "image")}),
        ("hearers", {("/v1/transcribe", "sound"), ("/v1/audio/transcriptions", "file")}),
        ("watchers", {("/v1/label-frames", "video")}),
        ("writers", {("/v1/caption", "image")}),
    ],
)
def test_a_form_with_a_chosen_file_answers_200_as_swagger_ui_sends_it(
    request: pytest.FixtureRequest, fixture: str, expected: set[tuple[str, str]], empty: bool
) -> None:
    assert ask_every_form(request.getfixturevalue(fixture), empty=empty) >= expected


@pytest.mark.slow
def test_every_example_and_every_form_of_the_shipped_models_answers_200() -> None:
    with open_server(SHIPPED, max_rows_per_request=512, max_body_bytes=32 << 20) as server:
        document = server.app.openapi()
        sent = examples(document)
        assert len(sent) >= 60
        for path, method, kind, value in sent:
            url = as_shown(path, document["paths"][path][method])
            reply = server.ask(method.upper(), url, json.dumps(value).encode(), {"Content-Type": kind})
            assert reply.status == 200, (path, value, reply.body)
        forms = {path for path, kind, _ in bodies(document) if kind == FORM}
        for empty in (True, False):
            assert {path for path, _ in ask_every_form(server, empty=empty)} == forms - {"/translate"}  # it has no file


def test_a_field_without_a_file_is_one_in_which_none_was_chosen(server: LiveServer) -> None:
    body = form_of({"sound": "", "model": ""}, "image", file_for(server.app.openapi(), "/v1/classify", "image") or b"")
    assert server.ask("POST", "/v1/classify", body, {"Content-Type": f"{FORM}; boundary=XX"}).status == 200
    text = server.ask("POST", "/v1/classify", body.replace(b'"sound"\r\n\r\n', b'"sound"\r\n\r\nx'), {
        "Content-Type": f"{FORM}; boundary=XX"})  # fmt: skip
    assert "files of one kind" in text.problem(422)["expected"]


def test_a_form_chooses_among_models_that_take_its_files_the_default_first(server: LiveServer, tmp_path: Path) -> None:
    form = server.app.openapi()["paths"]["/v1/classify"]["post"]["requestBody"]["content"][FORM]["schema"]
    assert form["properties"]["model"]["enum"] == ["", "shades", "digits"]
    assert set(form["required"]) == {"image"}  # and no sound, which no model here takes
    make_regressor_folder(tmp_path)
    with open_server(tmp_path) as rows:
        content = rows.app.openapi()["paths"]["/v1/regress"]["post"]["requestBody"]["content"]
        assert set(content) == {JSON, "text/csv", "application/x-npy"}  # no file, where no model takes one


def test_the_rules_of_a_body_hide_no_field_from_makers_of_clients(loaded: LiveServer) -> None:
    # They take alternatives at the top of a body for so many types, each without a field.
    document = loaded.app.openapi()
    for path, kind, content in bodies(document):
        schema = content["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert not {"oneOf", "anyOf", "allOf"} & set(schema), (path, kind)
        if kind in (JSON, FORM):
            assert schema["properties"], (path, kind)


def test_what_is_left_out_has_no_value_in_a_request(loaded: LiveServer) -> None:
    # Makers of clients would send it, in the query and in the body, and Swagger UI too.
    document = loaded.app.openapi()
    schemas = document["components"]["schemas"]
    for path, _, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert "default" not in parameter["schema"], (path, parameter["name"])
    for path, _, content in bodies(document):
        schema = content["schema"]
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        for name, field in schema.get("properties", {}).items():
            assert "default" not in field, (path, name)


def test_no_two_schemas_have_the_same_name_for_makers_of_clients(loaded: LiveServer) -> None:
    document = loaded.app.openapi()
    names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in document["components"]["schemas"]]
    assert len(names) == len(set(names))
    inline = [
        node["title"]
        for path, node in nodes({"paths": document["paths"], "schemas": document["components"]["schemas"]})
        if isinstance(node.get("title"), str) and not {"example", "examples"} & set(path) and path[:-1] != ("schemas",)
    ]
    assert len(inline) == len({*inline})
    assert not {re.sub(r"[^a-z0-9]", "", title.lower()) for title in inline} & set(names)


def test_each_task_has_a_description_of_its_own(loaded: LiveServer) -> None:
    found = [
        operation["description"].partition("\n\n")[0]
        for _, method, operation in operations(loaded.app.openapi())
        if method == "post" and operation["tags"][0] in ("tasks", "openai", "libretranslate")
    ]
    assert len(found) == len(set(found)) == 11
    assert not [text for text in found if "X-Request-Deadline-Ms" in text]


def test_an_answer_that_is_not_json_says_what_it_is(loaded: LiveServer) -> None:
    document = loaded.app.openapi()
    for path, _, operation in operations(document):
        for kind, content in operation["responses"]["200"].get("content", {}).items():
            if path.startswith("/v2") or kind in (JSON, "text/plain", "text/vtt", "application/x-subrip", "text/html"):
                continue
            assert content["schema"]["contentMediaType"] == kind, (path, kind)
            if kind in ("text/csv", EVENTS):
                assert content["schema"]["contentSchema"]["items"], (path, kind)


@pytest.mark.parametrize(
    ("fixture", "path", "expected"),
    [
        ("drawers", "/v1/generate", {"step", "result"}),
        ("denoisers", "/v1/denoise", {"step", "result"}),
        ("hearers", "/v1/transcribe", {"final"}),  # whether there is news before the end is a matter of time
        ("watchers", "/v1/label-frames", {"frame", "final"}),
        ("writers", "/v1/caption", {"token", "final"}),
        ("writers", "/v1/translate", {"token", "final"}),
    ],
)
def test_events_are_what_the_document_says(
    request: pytest.FixtureRequest, fixture: str, path: str, expected: set[str]
) -> None:
    server: LiveServer = request.getfixturevalue(fixture)
    document = server.app.openapi()
    schema = document["paths"][path]["post"]["responses"]["200"]["content"][EVENTS]["schema"]["contentSchema"]
    seen = set()
    for example in shown(document, path):
        headers = {"Content-Type": JSON, "Accept": EVENTS}
        reply = server.ask("POST", path, json.dumps(example["value"]).encode(), headers)
        if reply.status != 200:  # not every example is one of a stream
            continue
        events = [
            {"event": found[1], "data": json.loads(found[2])}
            for found in re.finditer(r"event: (.*)\ndata: (.*)\n\n", reply.body.decode())
        ]
        validator(document, schema).validate(events)
        seen |= {event["event"] for event in events}
    assert expected <= seen
