"""The life of a model while others ask it: swapped, held, drained, refused, unloaded, pinned. Long, because each way
to go wrong is a test of its own."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.errors import LoadRefused, NotFound, Unavailable
from app.engine.registry import Registry
from tests.app.engine.lives import IMAGE, Gate, labels_of, publish, spoil_one_bit, states, turns
from tests.in_loop import in_loop
from tests.made_models import change_manifest, make_classifier_folder

# Load and unload.


@in_loop
async def test_files_that_changed_are_loaded_and_what_they_replace_takes_no_more(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        old, generation = registry.catalog.get("tiny"), registry.catalog.generation
        publish(tmp_path, 4)
        await registry.load("tiny")
        assert await labels_of(registry.catalog.get("tiny")) == 4
        assert registry.catalog.generation == generation + 1
        with pytest.raises(Unavailable, match="tiny/1"):
            await old.run("classifier", {"image": IMAGE})
        with pytest.raises(KeyError):
            await old.run("decoder", {"image": IMAGE})
        assert [thread.name for thread in threading.enumerate()].count("batcher tiny/1/classifier") == 1


@in_loop
async def test_files_that_did_not_change_are_not_loaded_again(tmp_path: Path) -> None:
    folder = publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        old, generation = registry.catalog.get("tiny"), registry.catalog.generation
        (folder / "report").mkdir()
        (folder / "report" / "index.html").write_text("for people")
        await registry.load("tiny")
        assert (registry.catalog.get("tiny"), registry.catalog.generation) == (old, generation)


@in_loop
async def test_a_new_version_is_the_default_from_then_on_and_the_old_one_can_still_be_asked_for(tmp_path: Path) -> None:
    publish(tmp_path, 3, version="9")
    async with Registry(tmp_path, device="cpu") as registry:
        first = registry.catalog.default_version("tiny")
        publish(tmp_path, 4, version="10")
        await registry.load("tiny")
        assert [model.version for model in registry.catalog.models] == ["9", "10"]
        assert await labels_of(registry.catalog.get("tiny")) == 4
        assert await labels_of(registry.catalog.get("tiny", "9")) == 3
        second = registry.catalog.default_version("tiny")
        assert first is not None
        assert second is not None
        assert (first.model.version, second.model.version) == ("9", "10")
        assert second.since >= first.since
        publish(tmp_path, 5, "other")
        await registry.load("other")
        assert registry.catalog.default_version("tiny") is second  # since then, whatever else has changed


@in_loop
async def test_a_version_that_is_gone_is_taken_out_when_its_name_is_loaded(tmp_path: Path) -> None:
    for version in ("1", "2"):
        publish(tmp_path, 3, version=version)
    async with Registry(tmp_path, device="cpu") as registry:
        shutil.rmtree(tmp_path / "tiny" / "2")
        await registry.load("tiny")
        assert registry.catalog.get("tiny").version == "1"
        assert states(registry) == {"tiny/1": "READY"}


@in_loop
async def test_a_name_without_a_folder_is_not_found_and_what_was_loaded_of_it_goes_on(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        for name in ("other", "../tiny", "tiny/1", "", "."):
            with pytest.raises(NotFound, match="there is tiny"):
                await registry.load(name)
        shutil.rmtree(tmp_path / "tiny")
        with pytest.raises(NotFound, match="there is none"):
            await registry.load("tiny")
        assert await labels_of(registry.catalog.get("tiny")) == 3


@in_loop
async def test_what_was_unloaded_is_gone_for_requests_until_it_is_loaded_again(tmp_path: Path) -> None:
    for version in ("1", "2"):
        publish(tmp_path, 3, version=version)
    async with Registry(tmp_path, device="cpu") as registry:
        await registry.unload("tiny")
        assert registry.catalog.models == registry.catalog.refused == ()
        assert [(known.state, known.reason) for known in registry.catalog.index()] == [
            ("UNAVAILABLE", "unloaded by hand")
        ] * 2
        with pytest.raises(NotFound):
            registry.catalog.get("tiny")
        with pytest.raises(NotFound):
            registry.catalog.default("classify")
        await registry.unload("tiny")
        await registry.load("tiny")
        assert await labels_of(registry.catalog.default("classify")) == 3
        with pytest.raises(NotFound, match="no model is called 'other': there is tiny"):
            await registry.unload("other")


@in_loop
async def test_what_is_held_goes_on_answering_after_it_was_replaced(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        old = registry.catalog.get("tiny")
        with old.lease():
            with old.lease():
                publish(tmp_path, 4)
                loading = asyncio.create_task(registry.load("tiny"))
                await turns(lambda: registry.catalog.get("tiny") is not old)
            for _ in range(50):  # long enough for a drain that waits for nobody
                assert await labels_of(old) == 3
                assert await labels_of(registry.catalog.get("tiny")) == 4
            assert not loading.done()
        await loading
        with pytest.raises(Unavailable):
            await old.run("classifier", {"image": IMAGE})


@in_loop
async def test_what_is_held_is_unloading_and_one_that_takes_long_holds_up_no_other_change(tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(tmp_path, 3, name)
    async with Registry(tmp_path, device="cpu") as registry:
        with registry.catalog.get("a").lease():
            unloading = asyncio.create_task(registry.unload("a"))
            await turns(lambda: states(registry)["a/1"] == "UNLOADING")
            await registry.unload("b")
            assert states(registry) == {"a/1": "UNLOADING", "b/1": "UNAVAILABLE"}
        await unloading
        assert states(registry)["a/1"] == "UNAVAILABLE"


@in_loop
async def test_what_was_accepted_is_answered_by_the_model_that_is_drained(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        asked = [asyncio.ensure_future(labels_of(registry.catalog.get("tiny"))) for _ in range(200)]
        await asyncio.sleep(0)
        await registry.unload("tiny")
        assert await asyncio.gather(*asked) == [3] * 200


def test_changes_are_made_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, 3)

    @in_loop
    async def swap() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            gate = Gate(monkeypatch)
            publish(tmp_path, 4)
            publish(tmp_path, 4, "other")
            changes = [asyncio.create_task(registry.load(name)) for name in ("tiny", "other", "tiny")]
            changes.append(asyncio.create_task(registry.unload("other")))
            await turns(gate.reached.is_set)
            assert states(registry) == {"tiny/1": "READY"}  # with what it had
            gate.opened.set()
            await asyncio.gather(*changes)
            assert gate.most_inside == 1
            assert states(registry) == {"other/1": "UNAVAILABLE", "tiny/1": "READY"}

    swap()


def test_a_change_is_made_to_its_end_though_who_asked_for_it_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, 3)

    @in_loop
    async def swap() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            gate = Gate(monkeypatch)
            publish(tmp_path, 4, "new")
            loading = asyncio.create_task(registry.load("new"))
            await turns(gate.reached.is_set)
            assert states(registry)["new/1"] == "LOADING"
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            gate.opened.set()
            await turns(lambda: states(registry)["new/1"] == "READY")
            assert await labels_of(registry.catalog.get("new")) == 4

    swap()


@in_loop
async def test_changes_by_hand_are_told_and_those_that_were_told_are_not_told_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, 3)
    told: list[tuple[str, str]] = []

    async def tell(control: str, name: str) -> list[str]:
        told.append((control, name))
        if len(told) == 3:
            return ["worker 2: no room"]
        raise OSError("nobody listens")

    async with Registry(tmp_path, device="cpu", on_control=tell) as registry:
        await registry.unload("tiny")
        await registry.load("tiny")
        await registry.unload("tiny", notify=False)
        await registry.load("tiny", notify=False)
        publish(tmp_path, 4)
        await registry.poll()
        await registry.poll()
        with pytest.raises(NotFound):
            await registry.load("other")
        with pytest.raises(LoadRefused, match="worker 2: no room"):
            await registry.load("tiny")
    assert told == [("unload", "tiny"), ("load", "tiny"), ("load", "tiny")]
    assert "load tiny: the others could not be informed" in caplog.text


# Files that are wrong.


def cut_off(folder: Path) -> None:
    with (folder / "classifier.onnx").open("r+b") as file:
        file.truncate(100)


def replace_by_another(folder: Path) -> None:
    other = make_classifier_folder(folder.parents[1] / ".other", labels=("a", "b"))
    (other / "classifier.onnx").replace(folder / "classifier.onnx")


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit flipped": (spoil_one_bit, "SHA-256"),
    "cut off": (cut_off, "SHA-256 of its 100 bytes"),
    "replaced": (replace_by_another, "SHA-256"),
    "deleted": (lambda folder: (folder / "classifier.onnx").unlink(), "the file is missing"),
    "golden emptied": (lambda folder: (folder / "golden.npz").write_bytes(b""), "SHA-256 of its 0 bytes"),
    "manifest gone": (lambda folder: (folder / "manifest.json").unlink(), "the file is missing"),
    "manifest wrong": (lambda folder: change_manifest(folder, surprise=1), "surprise"),
}


@pytest.mark.parametrize("how", SPOILERS)
@pytest.mark.parametrize("by", ["load", "poll"])
def test_files_spoilt_while_serving_are_refused_and_what_was_loaded_goes_on_until_they_are_mended(
    how: str, by: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, words = SPOILERS[how]
    folder = publish(tmp_path, 3)

    async def look(registry: Registry) -> None:
        if by == "load":
            await registry.load("tiny")
        else:
            await registry.poll()
            await registry.poll()

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            model, generation = registry.catalog.get("tiny"), registry.catalog.generation
            spoil(folder)
            assert await labels_of(registry.catalog.get("tiny")) == 3
            if by == "load":
                with pytest.raises(LoadRefused, match=words):
                    await look(registry)
            else:
                await look(registry)
            (refused,) = registry.catalog.refused
            assert refused.folder == "tiny/1"
            assert words in refused.reason
            assert registry.catalog.get("tiny") is model
            assert registry.catalog.generation == generation
            assert await labels_of(model) == 3
            (known,) = registry.catalog.index()
            assert (known.state, known.reason) == ("READY", refused.reason)
            publish(tmp_path, 4)
            await look(registry)
            assert registry.catalog.refused == ()
            assert await labels_of(registry.catalog.get("tiny")) == 4

    serve()
    assert "refused tiny/1: " in caplog.text
    assert "goes on" in caplog.text


@in_loop
async def test_of_several_versions_the_good_ones_are_loaded_and_the_bad_one_is_told(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    async with Registry(tmp_path, device="cpu") as registry:
        spoil_one_bit(publish(tmp_path, 4, version="2"))
        publish(tmp_path, 5, version="3")
        with pytest.raises(LoadRefused, match=r"tiny/2/classifier\.onnx: SHA-256"):
            await registry.load("tiny")
        assert states(registry) == {"tiny/1": "READY", "tiny/2": "UNAVAILABLE", "tiny/3": "READY"}
        assert await labels_of(registry.catalog.get("tiny")) == 5


def test_a_thread_that_cannot_be_had_refuses_the_new_and_the_old_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, 3)
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name.startswith("batcher"):
            raise RuntimeError("can't start new thread")
        start(thread)

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            publish(tmp_path, 4)
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", fail)
                with pytest.raises(LoadRefused, match="can't start new thread"):
                    await registry.load("tiny")
            assert await labels_of(registry.catalog.get("tiny")) == 3
            await registry.load("tiny")
            assert await labels_of(registry.catalog.get("tiny")) == 4

    serve()


# Pinned versions.


@in_loop
async def test_a_pinned_version_is_the_default_whatever_else_appears(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for labels, version in ((3, "1"), (4, "2")):
        publish(tmp_path, labels, version=version)
    async with Registry(tmp_path, device="cpu", pinned={"tiny": "1"}) as registry:
        assert await labels_of(registry.catalog.get("tiny")) == 3
        assert await labels_of(registry.catalog.get("tiny", "2")) == 4
        publish(tmp_path, 5, version="3")
        await registry.load("tiny")
        assert await labels_of(registry.catalog.default("classify")) == 3
    assert "pinned" not in caplog.text


@in_loop
async def test_a_pinned_version_that_is_not_loaded_is_told_at_the_start_and_to_who_asks_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, 3)
    spoil_one_bit(publish(tmp_path, 4, version="2"))
    async with Registry(tmp_path, device="cpu", pinned={"tiny": "2", "other": "7"}) as registry:
        told = "model 'tiny' is pinned to version 2, which is not loaded, there is 1: tiny/2/classifier.onnx: SHA-256"
        assert told in caplog.text
        with pytest.raises(NotFound) as caught:
            registry.catalog.get("tiny")
        assert told in caught.value.detail
        with pytest.raises(NotFound, match="there is none: there is no folder other/7"):
            registry.catalog.get("other")
        with pytest.raises(NotFound, match="pinned to version 2"):
            registry.catalog.default("classify")
        assert registry.catalog.default_version("tiny") is None
        assert await labels_of(registry.catalog.get("tiny", "1")) == 3
        publish(tmp_path, 4, version="2")
        await registry.load("tiny")
        assert await labels_of(registry.catalog.get("tiny")) == 4
        await registry.unload("tiny")
        with pytest.raises(NotFound, match="unloaded by hand"):
            registry.catalog.get("tiny")


# The end.


@in_loop
async def test_leaving_waits_for_no_holder_and_leaves_no_thread(tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(tmp_path, 3, name)
    before = set(threading.enumerate())
    async with Registry(tmp_path, device="cpu") as registry:
        registry.catalog.get("a").lease().__enter__()
        registry.catalog.get("b").lease().__enter__()
        unloading = asyncio.create_task(registry.unload("a"))
        await turns(lambda: states(registry)["a/1"] == "UNLOADING")
    await unloading
    assert set(threading.enumerate()) == before
    with pytest.raises(Unavailable, match="shutting down"):
        await registry.load("a")


def test_leaving_while_a_model_is_loaded_drops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, 3)

    @in_loop
    async def serve() -> None:
        async with Registry(tmp_path, device="cpu") as registry:
            gate = Gate(monkeypatch)
            publish(tmp_path, 4)
            loading = asyncio.create_task(registry.load("tiny"))
            waiting = asyncio.create_task(registry.unload("tiny"))
            await turns(gate.reached.is_set)
            asyncio.get_running_loop().call_soon(gate.opened.set)
        for change in (loading, waiting):
            with pytest.raises(Unavailable, match="shutting down"):
                await change
        assert len(registry.catalog.get("tiny").manifest.labels) == 3

    before = set(threading.enumerate())
    serve()
    assert set(threading.enumerate()) == before
