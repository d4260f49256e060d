"""What a manifest may say of text: what is read, what is written, and the two graphs of a decoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.example_commands import example_commands
from app.core.manifest import Manifest, TextFile
from tests.app.texts import make_teller, make_turner, read_manifest


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    root = tmp_path_factory.mktemp("models")
    return {make.__name__: read_manifest(make(root)) for make in (make_teller, make_turner)}


def read(document: dict[str, Any]) -> Manifest:
    return Manifest.model_validate_json(json.dumps(document))


def test_a_model_of_text_names_each_file_once(documents: dict[str, dict[str, Any]]) -> None:
    assert [file.file for file in read(documents["make_turner"]).text_files] == ["source.json", "target.json"]
    both = {"file": "both.json", "sha256": "0" * 64}
    document = documents["make_turner"]
    document = document | {"text": document["text"] | {"tokenizer": both, "words": {**both, "file": "words.txt"}}}
    document["writing"] = document["writing"] | {"tokenizer": both}
    assert read(document).text_files == (TextFile(**both), TextFile(file="words.txt", sha256="0" * 64))
    assert read(documents["make_teller"]).tasks == ("classify",)


def test_a_first_request_is_the_example_of_the_manifest(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["make_teller"]
    document = document | {"text": document["text"] | {"example": 'Isn\'t it "fine"?'}}
    (command,) = example_commands(read(document), "http://server")[:1]
    assert """-d '{"text": "Isn'\\''t it \\"fine\\"?"}' 'http://server/v1/classify?model=teller'""" in command


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field changed, or without it where the value is `...`."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    *steps, last = path.split(".")
    place: Any = copy
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    if value is ...:
        del place[int(last) if last.isdigit() else last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return copy


@pytest.mark.parametrize(
    ("model", "path", "value", "words"),
    [
        ("make_teller", "text", ..., "text models declare how text becomes their input, and only they"),
        ("make_teller", "modality", "tensor", "and only they"),
        ("make_teller", "graphs.classifier.inputs.0.dtype", "int32", r"the text makes one int64 \('rows', 'tokens'\)"),
        ("make_teller", "graphs.classifier.inputs.1", ..., r"and one int64 \('rows',\), the graph takes"),
        ("make_teller", "text.sentences", True, "models that translate read one at a time, others the whole text"),
        ("make_teller", "text.tokenizer.file", "../tokenizer.json", "String should match pattern"),
        ("make_turner", "languages", ..., "a translate model of text declares both"),
        ("make_turner", "languages.target", "en", "source and target are both 'en'"),
        ("make_turner", "languages.target", "Portuguese", "String should match pattern"),
        ("make_turner", "writing", ..., "models with a graph 'step' declare how they write"),
        ("make_turner", "writing.end", 2, "start 2 and end 2 differ"),
        ("make_turner", "writing.start", 0, "neither is 0, padding"),
        ("make_turner", "writing.best", 3, r"step.outputs: expected \[\('best', 'int64', \('rows', 3\)\)"),
        ("make_turner", "graphs.encoder.outputs.0.shape.1", 8, r"expected 'memory' float32 \(rows, tokens, size\)"),
        ("make_turner", "graphs.encoder.outputs.1", ..., "and one state or more"),
        ("make_turner", "graphs.encoder.outputs.1.shape.1", "n", "the sizes of memory and states are fixed"),
        ("make_turner", "graphs.step.inputs.2", ..., r"step.inputs: expected .*'length'"),
        ("make_turner", "graphs.step.outputs.3.name", "place", r"step.outputs: expected .*'next_place'"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_hang_together_is_refused(
    documents: dict[str, dict[str, Any]], model: str, path: str, value: Any, words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        read(changed(documents[model], path, value))


def test_the_models_of_the_tests_are_read(tmp_path: Path) -> None:
    assert read(read_manifest(make_turner(tmp_path))).tasks == ("translate",)
