"""Loading and refusing model folders. One long file, because each way of breaking a folder is a test of its own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import NotFound, Unavailable
from app.core.shared_counters import SharedCounters
from app.engine import registry as module
from app.engine.registry import Registry, verify
from app.engine.session import DeviceRefused, choose_device
from tests.in_loop import in_loop
from tests.made_models import (
    brightness_probabilities,
    change_manifest,
    classifier_manifest,
    classifier_onnx,
    golden_npz,
    make_classifier_folder,
    sha256,
    write_folder,
)


def pictures(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)


@in_loop
async def test_what_is_there_is_loaded_and_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, version in (("b", "1"), ("a", "10"), ("a", "9")):
        make_classifier_folder(tmp_path, name, version)
    with caplog.at_level(logging.INFO, "app.engine"):
        async with Registry(tmp_path, device="cpu") as registry:
            assert [(model.name, model.version) for model in registry.catalog.models] == [
                ("a", "9"),
                ("a", "10"),
                ("b", "1"),
            ]
            assert registry.catalog.refused == ()
            assert (registry.device, registry.catalog.generation) == ("cpu", 1)
            images = pictures(20)
            answer = await registry.catalog.get("a").run("classifier", {"image": images})
            np.testing.assert_allclose(answer.tensors["probabilities"], brightness_probabilities(images, 3), atol=1e-5)
            assert answer.batch_rows == 8  # the manifest's max_rows
            counters = registry.catalog.get("a").counters["classifier"]
            assert (counters.requests, counters.rows, counters.runs) == (1, 20, 3)
            assert registry.catalog.get("a").device == "cpu"
            assert registry.catalog.get("a").load_s > 0
            assert registry.catalog.get("a").loaded_at.endswith("+00:00")
    assert "serving a/10 on cpu" in caplog.text


@in_loop
async def test_the_latest_version_is_the_highest_number_and_each_can_be_asked_for(tmp_path: Path) -> None:
    for version in ("9", "10"):
        make_classifier_folder(tmp_path, "a", version)
    async with Registry(tmp_path, device="cpu") as registry:
        assert registry.catalog.get("a").version == "10"
        assert registry.catalog.get("a", "9").version == "9"
        with pytest.raises(NotFound, match=r"no version of model 'a' is called '11': there is 9, 10"):
            registry.catalog.get("a", "11")
        with pytest.raises(NotFound, match=r"no model is called 'A' \(did you mean 'a'\?\): there is a"):
            registry.catalog.get("A")
        with pytest.raises(NotFound, match=r"no model is called 'x': there is a"):
            registry.catalog.get("x")


@in_loop
async def test_only_the_names_asked_for_are_loaded_and_a_missing_one_is_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_classifier_folder(tmp_path, name)
    async with Registry(tmp_path, device="cpu", only=("b", "x")) as registry:
        assert [model.name for model in registry.catalog.models] == ["b"]
        assert [(refusal.folder, "a, b, c" in refusal.reason) for refusal in registry.catalog.refused] == [("x", True)]


@in_loop
async def test_hidden_and_unfinished_folders_and_loose_files_are_not_looked_at(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path)
    for name in (".tmp-x", "_tmp"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / "tiny" / name).mkdir()
    (tmp_path / "README.md").write_text("models")
    async with Registry(tmp_path, device="cpu") as registry:
        assert len(registry.catalog.models) == 1
        assert registry.catalog.refused == ()


@pytest.mark.parametrize(("kind", "words"), [("missing", "does not exist"), ("file", "is not a folder")])
def test_a_models_folder_that_is_none_serves_nothing_and_says_so(
    kind: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "models"
    if kind == "file":
        folder.write_text("")

    @in_loop
    async def start() -> None:
        async with Registry(folder, device="cpu") as registry:
            assert registry.catalog.models == ()
            assert [words in refusal.reason for refusal in registry.catalog.refused] == [True]

    start()
    assert "no model to serve" in caplog.text


@in_loop
async def test_an_empty_models_folder_serves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Registry(tmp_path, device="cpu") as registry:
        assert (registry.catalog.models, registry.catalog.refused) == ((), ())
    assert "no model to serve" in caplog.text


def break_graph_bytes(folder: Path) -> None:
    path = folder / "classifier.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_graph(folder: Path) -> None:
    path = folder / "classifier.onnx"
    path.write_bytes(path.read_bytes()[:-100])


def graph_link(folder: Path) -> None:
    path = folder / "classifier.onnx"
    path.rename(folder.parent.parent / "elsewhere.onnx")
    path.symlink_to(folder.parent.parent / "elsewhere.onnx")


def graph_pipe(folder: Path) -> None:
    (folder / "classifier.onnx").unlink()
    os.mkfifo(folder / "classifier.onnx")


def graph_folder(folder: Path) -> None:
    (folder / "classifier.onnx").unlink()
    (folder / "classifier.onnx").mkdir()


def manifest_link(folder: Path) -> None:
    path = folder / "manifest.json"
    path.rename(folder / "other.json")
    path.symlink_to(folder / "other.json")


def version_link(folder: Path) -> None:
    folder.rename(folder.parent.parent / ".real")
    folder.symlink_to(folder.parent.parent / ".real")


def changed_graph(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    document["graphs"]["classifier"] |= changes
    change_manifest(folder, graphs=document["graphs"])


def path_that_leaves(folder: Path) -> None:
    shutil.copy(folder / "classifier.onnx", folder.parent / "classifier.onnx")
    changed_graph(folder, file="../classifier.onnx")


def another_graph(folder: Path) -> None:
    """Hashed and whole, but with four labels where the manifest has three."""
    data = classifier_onnx(4)
    (folder / "classifier.onnx").write_bytes(data)
    changed_graph(folder, sha256=sha256(data))


def replace_golden(folder: Path, data: bytes) -> None:
    golden = json.loads((folder / "manifest.json").read_text())["golden"]
    (folder / "golden.npz").write_bytes(data)
    change_manifest(folder, golden=golden | {"sha256": hashlib.sha256(data).hexdigest()})


def saved(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def golden_arrays() -> dict[str, Any]:
    with np.load(io.BytesIO(golden_npz(3))) as file:
        return dict(file)


def golden_that_differs(folder: Path) -> None:
    arrays = golden_arrays()
    arrays["probabilities"][1, 2] += 0.25
    replace_golden(folder, saved(**arrays))


def golden_with_nan(folder: Path) -> None:
    arrays = golden_arrays()
    arrays["probabilities"][0, 0] = np.nan
    replace_golden(folder, saved(**arrays))


def golden_with_pickle(folder: Path) -> None:
    replace_golden(folder, saved(image=np.array([{}], object), probabilities=np.zeros((3, 3), np.float32)))


def golden_of_another_shape(folder: Path) -> None:
    replace_golden(folder, saved(image=np.zeros((2, 28, 28, 1), np.uint8), probabilities=np.zeros((2, 3), np.float32)))


Break = Callable[[Path], object]
WRONG: dict[str, tuple[Break, str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"bad/1/manifest\.json: the file is missing"),
    "empty manifest": (lambda f: (f / "manifest.json").write_bytes(b""), r"manifest\.json: expected JSON, got 0 bytes"),
    "not json": (lambda f: (f / "manifest.json").write_bytes(b"\xff{"), r"manifest\.json: expected JSON"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), r"manifest\.json: .*object"),
    "brackets": (lambda f: (f / "manifest.json").write_text("[" * 10**6), r"bad/1: RecursionError"),
    "huge manifest": (lambda f: (f / "manifest.json").write_text(" " * 2**21), r"2097152 bytes, at most 1048576"),
    "twice": (lambda f: (f / "manifest.json").write_text('{"name": "a", "name": "b"}'), r"'name' is there twice"),
    "newer": (lambda f: change_manifest(f, schema_version=2), "made for a newer Lectern: schema 2, this one reads 1"),
    "unknown field": (lambda f: change_manifest(f, colour="red"), r"field 'colour': extra inputs are not permitted"),
    "wrong type": (lambda f: change_manifest(f, max_rows="8"), r"field 'max_rows': .*integer, got '8'"),
    "two mistakes": (lambda f: change_manifest(f, max_rows=0, title=""), r"\(and 1 more\)"),
    "labels twice": (lambda f: change_manifest(f, labels=["a", "a", "b"]), r"labels: two are the same"),
    "other name": (lambda f: change_manifest(f, name="other"), r"name is 'other', the folder is called 'bad'"),
    "other version": (lambda f: change_manifest(f, version="7"), r"version is '7', the folder is called '1'"),
    "leaves": (path_that_leaves, r"field 'graphs\.classifier\.file': .*'\.\./classifier\.onnx'"),
    "manifest link": (manifest_link, r"manifest\.json: expected a regular file, got a symbolic link"),
    "graph missing": (lambda f: (f / "classifier.onnx").unlink(), r"bad/1/classifier\.onnx: the file is missing"),
    "graph link": (graph_link, r"classifier\.onnx: expected a regular file, got a symbolic link"),
    "graph pipe": (graph_pipe, r"classifier\.onnx: expected a regular file, got p"),
    "graph folder": (graph_folder, r"classifier\.onnx: expected a regular file, got a folder"),
    "graph changed": (break_graph_bytes, r"classifier\.onnx: SHA-256 of its \d+ bytes is \w{64}, the manifest says"),
    "graph cut off": (cut_graph, r"classifier\.onnx: SHA-256"),
    "graph empty": (lambda f: (f / "classifier.onnx").write_bytes(b""), r"SHA-256 of its 0 bytes"),
    "another graph": (another_graph, r"output 'probabilities' is \('rows', 4\), the manifest says \('rows', 3\)"),
    "version link": (version_link, r"bad/1: '1' is a symbolic link"),
    "golden missing": (lambda f: (f / "golden.npz").unlink(), r"golden\.npz: the file is missing"),
    "golden differs": (golden_that_differs, r"golden\.npz: 'probabilities' differs by 0\.25 .* allows 0\.0001"),
    "golden nan": (golden_with_nan, r"golden\.npz: 'probabilities' differs by nan"),
    "golden pickle": (golden_with_pickle, r"golden\.npz: expected an \.npz file"),
    "golden garbage": (lambda f: replace_golden(f, b"PK garbage"), r"golden\.npz: expected an \.npz file"),
    "golden names": (lambda f: replace_golden(f, saved(x=np.zeros(3))), r"has arrays \['x'\], expected \['image'"),
    "golden shape": (golden_of_another_shape, r"'image' is uint8 \(2, 28, 28, 1\), expected uint8 \(3, 28, 28, 1\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_folder_that_is_not_its_manifest_is_refused_by_name_and_the_others_are_served(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, words = WRONG[case]
    make_classifier_folder(tmp_path, "good")
    spoil(make_classifier_folder(tmp_path, "bad"))

    @in_loop
    async def start() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            assert [model.name for model in registry.catalog.models] == ["good"]
            (refusal,) = registry.catalog.refused
            assert refusal.folder == "bad/1"
            assert "\n" not in refusal.reason.strip()
            assert re.search(words, refusal.reason), refusal.reason
            await registry.catalog.get("good").run("classifier", {"image": pictures(1)})

    start()
    assert "refused bad/1: " in caplog.text


@in_loop
async def test_a_name_folder_without_a_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "manifest.json").write_text("{}")
    async with Registry(tmp_path, device="cpu") as registry:
        assert "no version folder, expected hollow/1/manifest.json" in registry.catalog.refused[0].reason


@pytest.mark.parametrize(
    "raised", [PermissionError(13, "denied"), MemoryError(), RecursionError(), RuntimeError("odd")]
)
def test_whatever_loading_raises_refuses_that_folder_alone(
    raised: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_classifier_folder(tmp_path, "good")
    make_classifier_folder(tmp_path, "bad")
    real = module.load_model

    def load(root: Path, name: str, version: str, **options: Any) -> Any:
        if name == "bad":
            raise raised
        return real(root, name, version, **options)

    monkeypatch.setattr(module, "load_model", load)

    @in_loop
    async def start() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            assert [model.name for model in registry.catalog.models] == ["good"]
            assert type(raised).__name__ in registry.catalog.refused[0].reason

    start()


def test_a_device_that_cannot_be_had_fails_the_start(tmp_path: Path) -> None:
    choose_device.cache_clear()
    if choose_device("auto") == "cuda":
        pytest.skip("CUDA can be had here")

    @in_loop
    async def start() -> None:
        async with Registry(tmp_path, device="cuda"):
            pass

    with pytest.raises(DeviceRefused, match="device 'cuda' cannot be had"):
        start()


def test_a_thread_that_cannot_be_started_fails_the_start_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_classifier_folder(tmp_path, "a")
    make_classifier_folder(tmp_path, "b")
    before = set(threading.enumerate())
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "batcher b/1/classifier":
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu"):
            pass

    with pytest.raises(RuntimeError, match="can't start new thread"):
        serve()
    assert set(threading.enumerate()) == before


@in_loop
async def test_a_model_without_golden_rows_is_served(tmp_path: Path) -> None:
    data = classifier_onnx(3)
    write_folder(tmp_path, classifier_manifest(data), {"classifier.onnx": data})
    async with Registry(tmp_path, device="cpu") as registry:
        assert registry.catalog.refused == ()
        assert len(registry.catalog.models) == 1


def test_leaving_answers_what_was_accepted_and_leaves_no_thread_behind(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path)
    images = pictures(200)
    before = set(threading.enumerate())

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            model = registry.catalog.get("tiny")
            tasks = [asyncio.ensure_future(model.run("classifier", {"image": image[None]})) for image in images]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*tasks)
        got = np.concatenate([answer.tensors["probabilities"] for answer in answers])
        np.testing.assert_allclose(got, brightness_probabilities(images, 3), atol=1e-5)
        with pytest.raises(Unavailable):
            await model.run("classifier", {"image": images[:1]})

    serve()
    assert set(threading.enumerate()) == before


def test_verify_tells_of_each_folder_whether_it_would_be_served(tmp_path: Path) -> None:
    for name, version in (("good", "10"), ("good", "2"), ("bad", "1")):
        make_classifier_folder(tmp_path, name, version)
    break_graph_bytes(tmp_path / "bad" / "1")
    (tmp_path / "hollow").mkdir()
    rows = verify(tmp_path)
    assert [row[:3] for row in rows] == [
        ("bad", "1", False),
        ("good", "2", True),
        ("good", "10", True),
        ("hollow", "", False),
    ]
    assert "SHA-256" in rows[0][3]
    assert rows[1][3] == ""


@in_loop
async def test_runs_are_counted_in_the_tally_by_model_version_and_graph(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path)
    shared_counters = SharedCounters()
    async with Registry(tmp_path, device="cpu", shared_counters=shared_counters) as registry:
        await registry.catalog.get("tiny").run("classifier", {"image": pictures(10)})
    counted = {row.name: list(row.cells) for row in shared_counters.rows() if row.labels == ("tiny", "1", "classifier")}
    assert counted["engine_runs_of_rows"] == [0, 0, 1, 0, 0, 0, 0, 0, 1]


@in_loop
async def test_the_golden_rows_of_every_graph_are_checked(tmp_path: Path) -> None:
    folder = make_classifier_folder(tmp_path)
    golden = json.loads((folder / "manifest.json").read_text())["golden"]
    arrays = golden_arrays()
    arrays["probabilities"][1, 2] += 0.25
    (folder / "other.npz").write_bytes(data := saved(**arrays))
    other = golden | {"file": "other.npz", "sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(folder, golden_others=[other])
    async with Registry(tmp_path, device="cpu") as registry:
        (refused,) = registry.catalog.refused
        assert "other.npz: 'probabilities' differs by 0.25" in refused.reason
