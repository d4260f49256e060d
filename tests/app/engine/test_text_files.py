"""A model's tokenizers and lists of words are proved at load, as its graphs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import LoadRefused
from app.engine.loading import Loaded, load_model
from tests.app.texts import SOURCE, TARGET, WEIGHTS, make_teller, make_turner, read_manifest, word_tokenizer
from tests.made_models import change_manifest, sha256


def load(folder: Path) -> Loaded:
    root, name = folder.parents[1], folder.parent.name
    return load_model(root, name, folder.name, device="cpu", threads=1)


def replace(folder: Path, data: bytes, *, part: str = "text", field: str = "tokenizer", hashed: bool = True) -> None:
    """Exchange one of a model's text files, and its hash in the manifest."""
    fields = read_manifest(folder)[part]
    file = (fields.get(field) or {"file": f"{field}.txt"})["file"]
    (folder / file).write_bytes(data)
    if hashed:
        change_manifest(folder, **{part: fields | {field: {"file": file, "sha256": sha256(data)}}})


def test_a_loaded_model_reads_with_one_tokenizer_and_writes_with_the_other(tmp_path: Path) -> None:
    files = load(make_turner(tmp_path)).text_files
    assert files.reader is not None
    assert files.writer is not None
    assert files.reader.read("the dog", "t", truncate=False).encoded.ids.tolist() == [4, 6]
    assert files.writer.decode([4, 6]) == f"{TARGET[0]} {TARGET[2]}"


def test_a_list_of_words_is_read(tmp_path: Path) -> None:
    folder = make_teller(tmp_path)
    replace(folder, b"a\nfilm\n", field="words")
    reader = load(folder).text_files.reader
    assert reader is not None
    assert [word.text for word in reader.read("a good film", "t", truncate=False).unknown] == ["good"]


@pytest.mark.parametrize(
    ("data", "field", "hashed", "words"),
    [
        (word_tokenizer(("other",)), "tokenizer", False, r"teller/1/tokenizer.json: SHA-256 of its \d+ bytes is"),
        (b"{}", "tokenizer", True, "^teller/1/tokenizer.json: expected a tokenizer, got 2 bytes that are none: "),
        (b"\xff", "words", True, "^teller/1/words.txt: expected words, one a line, in UTF-8, got 1 bytes"),
        (
            word_tokenizer((*WEIGHTS, "more")), "tokenizer", True,
            "^teller/1/tokenizer.json: its highest id is 10, which teller/1/classifier.onnx does not take$",
        ),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, data: bytes, field: str, hashed: bool, words: str
) -> None:
    folder = make_teller(tmp_path)
    replace(folder, data, field=field, hashed=hashed)
    with pytest.raises(LoadRefused, match=words):
        load(folder)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = make_turner(tmp_path)
    (folder / "target.json").unlink()
    with pytest.raises(LoadRefused, match=r"^turner/1/target.json: the file is missing$"):
        load(folder)


def test_ids_that_the_step_does_not_take_and_ids_that_there_are_not_are_refused(tmp_path: Path) -> None:
    folder = make_turner(tmp_path)
    replace(folder, word_tokenizer((*TARGET, "mais")), part="writing")
    with pytest.raises(LoadRefused, match=r"^turner/1/target.json: its highest id is 10, which turner/1/step.onnx"):
        load(folder)
    other = make_turner(tmp_path, "ended", end=10)
    with pytest.raises(LoadRefused, match=r"writing: start 2 and end 10, target.json has ids to 9"):
        load(other)


def test_the_tokenizers_of_the_tests_have_as_many_words_as_their_graphs() -> None:
    assert len(SOURCE) == len(TARGET)
