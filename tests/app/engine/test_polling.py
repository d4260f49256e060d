"""What polling finds in the models folder: new, changed, half-copied, forbidden, gone."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import LoadRefused
from app.engine import registry as module
from app.engine.registry import Registry
from tests.app.engine.lives import Gate, labels_of, publish, spoil_one_bit, states, turns
from tests.in_loop import in_loop
from tests.made_models import change_manifest


def copies(source: Path, target: Path) -> Iterator[None]:
    """Copy a version folder as a slow copier would: a file at a time, the graph in two pieces, the manifest last."""
    target.mkdir(parents=True)
    yield
    data = (source / "classifier.onnx").read_bytes()
    for piece in (data[:1000], data):
        (target / "classifier.onnx").write_bytes(piece)
        yield
    for name in ("golden.npz", "manifest.json"):
        shutil.copy(source / name, target / name)
        yield


@in_loop
async def test_a_folder_that_is_being_copied_is_left_alone_silently_and_loaded_when_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = tmp_path / "models"
    publish(models, 3)
    async with Registry(models, device="cpu") as registry:
        whole = publish(tmp_path / "elsewhere", 4, version="2")
        for _ in copies(whole, models / "tiny" / "2"):
            await registry.poll()
            assert states(registry) == {"tiny/1": "READY"}
            assert registry.catalog.refused == ()
        await registry.poll()
        assert await labels_of(registry.catalog.get("tiny")) == 4
        await asyncio.to_thread(shutil.copytree, whole.parent, models / "new")  # a name that is new as well
        change_manifest(models / "new" / "2", name="new")
        await registry.poll()
        assert "new/2" not in states(registry)
        await registry.poll()
        assert states(registry)["new/2"] == "READY"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@in_loop
async def test_a_folder_without_a_manifest_is_refused_once_nobody_writes_to_it_and_tried_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        manifest = publish(tmp_path, 4, version="2") / "manifest.json"
        manifest.rename(tmp_path / ".manifest")
        (tmp_path / "hollow").mkdir()
        await registry.poll()
        assert registry.catalog.refused == ()
        for _ in range(3):
            await registry.poll()
        assert [refused.folder for refused in registry.catalog.refused] == ["hollow", "tiny/2"]
        assert states(registry) == {"hollow/": "UNAVAILABLE", "tiny/1": "READY", "tiny/2": "UNAVAILABLE"}
        (tmp_path / ".manifest").rename(manifest)
        (tmp_path / "hollow").rmdir()
        for _ in range(2):
            await registry.poll()
        assert registry.catalog.refused == ()
        assert states(registry) == {"tiny/1": "READY", "tiny/2": "READY"}
    assert caplog.text.count("refused tiny/2") == caplog.text.count("refused hollow") == 1


@in_loop
async def test_what_was_refused_at_the_start_is_tried_again_when_its_files_change(tmp_path: Path) -> None:
    folder = publish(tmp_path, 3)
    manifest = (folder / "manifest.json").rename(tmp_path / ".manifest")
    async with Registry(tmp_path, device="cpu") as registry:
        assert "manifest.json: the file is missing" in registry.catalog.refused[0].reason
        manifest.rename(folder / "manifest.json")
        await registry.poll()
        await registry.poll()
        assert registry.catalog.refused == ()
        assert await labels_of(registry.catalog.get("tiny")) == 3


def test_a_look_that_finds_nothing_new_opens_nothing_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, 3)
    spoil_one_bit(publish(tmp_path, 3, "bad"))

    def fail(*args: object, **options: object) -> None:
        raise AssertionError("opened")

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            before = (
                registry.catalog.models,
                registry.catalog.refused,
                registry.catalog.generation,
                registry.catalog.index(),
            )
            with monkeypatch.context() as patch:
                patch.setattr(os, "open", fail)
                patch.setattr("builtins.open", fail)
                for _ in range(3):
                    await registry.poll()
            assert (
                registry.catalog.models,
                registry.catalog.refused,
                registry.catalog.generation,
                registry.catalog.index(),
            ) == before

    serve()


@in_loop
async def test_what_is_gone_at_two_looks_is_unloaded_and_what_was_only_being_replaced_is_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(tmp_path, 3, name)
    async with Registry(tmp_path, device="cpu") as registry:
        shutil.rmtree(tmp_path / "a")
        shutil.rmtree(tmp_path / "b" / "1")
        await registry.poll()
        assert [await labels_of(model) for model in registry.catalog.models] == [3, 3]
        publish(tmp_path, 4, "b")
        await registry.poll()
        assert states(registry) == {"b/1": "READY"}
        assert await labels_of(registry.catalog.get("b")) == 3
        await registry.poll()
        assert await labels_of(registry.catalog.get("b")) == 4
        publish(tmp_path, 5, "a")
        for _ in range(2):
            await registry.poll()
        assert await labels_of(registry.catalog.get("a")) == 5


@in_loop
async def test_a_models_folder_that_cannot_be_seen_unloads_nothing(tmp_path: Path) -> None:
    root = tmp_path / "models"
    publish(root, 3)
    async with Registry(root, device="cpu") as registry:
        root.rename(tmp_path / "away")
        for _ in range(3):
            await registry.poll()
        assert await labels_of(registry.catalog.get("tiny")) == 3
        assert "does not exist" in registry.catalog.refused[0].reason
        (tmp_path / "away").rename(root)
        await registry.poll()
        assert registry.catalog.refused == ()


@in_loop
async def test_what_was_unloaded_by_hand_stays_so_until_its_files_change(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        publish(tmp_path, 4)  # changed, and not yet noticed
        await registry.unload("tiny")
        for _ in range(3):
            await registry.poll()
        assert registry.catalog.models == ()
        publish(tmp_path, 5)
        for _ in range(2):
            await registry.poll()
        assert await labels_of(registry.catalog.get("tiny")) == 5
        await registry.unload("tiny")
        shutil.rmtree(tmp_path / "tiny")
        for _ in range(2):
            await registry.poll()
        assert registry.catalog.index() == ()


@pytest.mark.parametrize("by", ["load", "poll"])
def test_a_folder_deleted_while_it_is_loaded_is_refused_and_forgotten(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, 3)

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            folder = publish(tmp_path, 4, "new")
            gate = Gate(monkeypatch)
            if by == "load":
                change: Awaitable[object] = asyncio.create_task(registry.load("new"))
            else:
                await registry.poll()
                change = asyncio.create_task(registry.poll())
            await turns(gate.reached.is_set)
            shutil.rmtree(folder.parent)
            gate.opened.set()
            if by == "load":
                with pytest.raises(LoadRefused, match="the file is missing"):
                    await change
                assert [refused.folder for refused in registry.catalog.refused] == ["new/1"]
            else:
                await change
                assert registry.catalog.refused == ()
            for _ in range(2):
                await registry.poll()
            assert registry.catalog.refused == ()
            assert states(registry) == {"tiny/1": "READY"}

    serve()


def test_files_changed_while_they_are_loaded_are_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, 3)
    real, loads = module.load_model, 0

    def load(*args: Any, **options: Any) -> Any:
        nonlocal loads
        loads += 1
        loaded = real(*args, **options)
        if loads == 1:  # all is read, and not yet served
            publish(tmp_path, 5)
        return loaded

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            monkeypatch.setattr(module, "load_model", load)
            publish(tmp_path, 4)
            await registry.load("tiny")
            assert await labels_of(registry.catalog.get("tiny")) == 4
            for _ in range(2):
                await registry.poll()
            assert await labels_of(registry.catalog.get("tiny")) == 5

    serve()


@in_loop
async def test_a_folder_that_comes_back_while_it_is_unloading_is_loaded(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        watching = asyncio.create_task(registry.watch(0))
        with registry.catalog.get("tiny").lease():
            (tmp_path / "tiny").rename(tmp_path / ".away")
            await turns(lambda: states(registry) == {"tiny/1": "UNLOADING"})
            (tmp_path / ".away").rename(tmp_path / "tiny")  # the very same files
            await turns(lambda: states(registry) == {"tiny/1": "READY"})
        watching.cancel()
        assert await labels_of(registry.catalog.get("tiny")) == 3


def test_a_look_that_fails_is_told_and_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, 3)
    real, looks = module.scan, 0

    def look(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise MemoryError("not now")
        return real(*args)

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            monkeypatch.setattr(module, "scan", look)
            watching = asyncio.create_task(registry.watch(0))
            publish(tmp_path, 4)
            await turns(lambda: registry.catalog.generation == 2)
            watching.cancel()
            assert await labels_of(registry.catalog.get("tiny")) == 4

    serve()
    assert caplog.text.count("the look at it failed") == 1
    assert "not now" in caplog.text


@in_loop
async def test_a_slow_drain_does_not_hold_up_the_next_look(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        watching = asyncio.create_task(registry.watch(0))
        with registry.catalog.get("tiny").lease():
            for labels in (4, 5):
                publish(tmp_path, labels)
                await turns(lambda wanted=labels: len(registry.catalog.get("tiny").manifest.labels) == wanted)
        watching.cancel()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights that root has over every file."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", ["tiny/1/classifier.onnx", "tiny/1", "tiny"])
def test_what_may_not_be_read_is_refused_until_it_may_and_what_was_loaded_goes_on(closed: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        publish(root, 3)

        @in_loop
        async def serve() -> None:
            with as_nobody():
                async with Registry(root, device="cpu") as registry:
                    await shut(registry)

        async def shut(registry: Registry) -> None:
            mode = (root / closed).stat().st_mode
            await as_owner(0)
            for _ in range(3):
                await registry.poll()
            (refused,) = registry.catalog.refused
            assert "ermission denied" in refused.reason
            assert await labels_of(registry.catalog.get("tiny")) == 3
            await as_owner(mode)
            for _ in range(3):
                await registry.poll()
            assert registry.catalog.refused == ()
            assert await labels_of(registry.catalog.get("tiny")) == 3

        async def as_owner(mode: int) -> None:
            nobody = os.geteuid()
            os.seteuid(os.getuid())
            (root / closed).chmod(mode)
            os.seteuid(nobody)

        serve()
