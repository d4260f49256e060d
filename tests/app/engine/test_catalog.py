"""Which model answers a request that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import NotFound
from app.engine.registry import Registry
from tests.in_loop import in_loop
from tests.made_models import change_manifest, make_classifier_folder, make_coder_folder


@in_loop
async def test_a_task_has_a_default_model(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        make_classifier_folder(tmp_path, name)
    async with Registry(tmp_path, device="cpu") as registry:
        assert registry.catalog.default("classify").name == "a"
        with pytest.raises(NotFound, match="no model for the task 'regress' is loaded"):
            registry.catalog.default("regress")
    async with Registry(tmp_path, device="cpu", defaults={"classify": "c"}) as registry:
        assert registry.catalog.default("classify").name == "c"
    async with Registry(tmp_path, device="cpu", defaults={"classify": "gone"}) as registry:
        with pytest.raises(NotFound, match=r"no default model for the task 'classify' is called 'gone': .* a, b, c"):
            registry.catalog.default("classify")


@in_loop
async def test_the_default_for_a_table_is_a_model_of_tables(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path, "pictures")
    folder = make_classifier_folder(tmp_path, "rows")
    change_manifest(folder, modality="tensor", picture=None)
    async with Registry(tmp_path, device="cpu", defaults={"classify": "pictures"}) as registry:
        assert registry.catalog.default("classify").name == "pictures"
        assert registry.catalog.default("classify", "image").name == "pictures"
        assert registry.catalog.default("classify", "tensor").name == "rows"
        with pytest.raises(NotFound, match="no model for the task 'classify with audio input' is loaded"):
            registry.catalog.default("classify", "audio")
    both = {"classify": "rows", "classify.image": "gone"}
    async with Registry(tmp_path, device="cpu", defaults=both) as registry:
        assert registry.catalog.default("classify", "tensor").name == "rows"
        with pytest.raises(NotFound, match="is called 'gone'"):
            registry.catalog.default("classify", "image")


@in_loop
async def test_a_default_that_need_not_be_loaded_gives_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        make_classifier_folder(tmp_path, name)
    wanted = {"classify": "b", "classify.image": "gone", "regress": "gone"}
    with caplog.at_level("INFO"):
        async with Registry(tmp_path, device="cpu", defaults=wanted, defaults_required=False) as registry:
            assert registry.catalog.default("classify").name == "b"
            assert registry.catalog.default("classify", "image").name == "b"
            with pytest.raises(NotFound, match="no model for the task 'regress' is loaded"):
                registry.catalog.default("regress")
            await registry.unload("b")
            assert registry.catalog.default("classify").name == "a"
            assert registry.catalog.default("classify", "image").name == "a"
    assert "requests that name no model go to: classify.image=b (not gone)" in caplog.text
    assert "regress" not in caplog.text


@in_loop
async def test_the_defaults_of_a_task_are_listed_by_what_is_asked(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path, "pictures")
    change_manifest(make_classifier_folder(tmp_path, "rows"), modality="tensor", picture=None)
    async with Registry(tmp_path, device="cpu") as registry:
        found = registry.catalog.default_models("classify")
        assert {key: model.name for key, model in found.items()} == {"classify": "pictures", "classify.tensor": "rows"}
        assert registry.catalog.default_models("regress") == {}
    async with Registry(tmp_path, device="cpu", defaults={"classify": "gone"}) as registry:
        assert registry.catalog.default_models("classify") == {}


@in_loop
async def test_a_model_that_cannot_answer_the_plain_request_is_default_where_no_other_is_there(tmp_path: Path) -> None:
    make_coder_folder(tmp_path, "a-without-prior")
    make_coder_folder(tmp_path, "normal", prior=True)
    async with Registry(tmp_path, device="cpu") as registry:
        assert registry.catalog.default("generate").name == "normal"
        await registry.unload("normal")
        assert registry.catalog.default("generate").name == "a-without-prior"
