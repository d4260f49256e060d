"""What the README promises by name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.settings import markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_the_one_the_app_prints() -> None:
    assert markdown_table().strip() in README


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", README)) - {"sure"}))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:app|training|tests)/[\w./]+)`", README))))
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"LECTERN_[A-Z_]+", README)) - {"LECTERN_DATA"}))
def test_every_variable_is_a_setting(name: str) -> None:
    assert f"`{name}`" in markdown_table()


def test_every_shipped_model_is_in_the_table_with_its_measured_figures() -> None:
    for manifest in (ROOT / "models").glob("*/*/manifest.json"):
        assert f"`{manifest.parent.parent.name}`" in README


def test_no_shipped_report_draws_what_is_no_number() -> None:
    reports = sorted((ROOT / "models").glob("*/*/report/index.html"))
    assert reports
    assert [path for path in reports if '="nan"' in path.read_text(encoding="utf-8")] == []
