"""What README.md and docs/ promise by name exists, and their figures are those that were measured."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from app.__main__ import main as app_main
from app.__main__ import parser as app_parser
from app.core.manifest import Manifest
from app.core.metric_names import figure
from app.settings import Settings, markdown_table
from tests.documents import DOCUMENTS, ROOT, blocks
from training.__main__ import _parser as training_parser

TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
ALL = "\n".join(TEXTS.values())
MANIFESTS = {
    path.parents[1].name: Manifest.model_validate_json(path.read_bytes())
    for path in sorted((ROOT / "models").glob("*/*/manifest.json"))
}


def commands(module: str) -> list[str]:
    """Every `python -m module ...` of the documents, in blocks and in lines of text; without comments behind it."""
    found = re.findall(rf"(?:^ *|`)(?:\.venv/bin/)?python -m {module}\b([^`\n#|&;]*)", ALL, re.MULTILINE)
    return sorted({text.strip() for text in found if "..." not in text})


def test_the_readme_is_short_and_names_every_document() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 130
    named = re.findall(r"\]\((docs/\w+\.md)\)", TEXTS["README.md"])
    assert sorted(set(named)) == sorted(name for name in TEXTS if re.fullmatch(r"docs/\w+\.md", name))


def test_the_table_of_settings_is_the_one_the_app_prints() -> None:
    assert markdown_table().strip() in TEXTS["docs/operations.md"]


def test_the_document_of_the_models_is_the_one_the_app_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert app_main(["models", "--markdown", "--models", str(ROOT / "models")]) == 0
    assert capsys.readouterr().out == TEXTS["docs/models.md"], "write it again: python -m app models --markdown"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z-]*)", ALL)) - {"sure"}))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:app|training|tests|docs)/[\w./-]*)`", ALL))))
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+)\(\)`", TEXTS["docs/architecture.md"]))))
def test_every_function_that_the_architecture_names_is_defined(name: str) -> None:
    sources = (path for top in ("app", "training") for path in (ROOT / top).rglob("*.py"))
    assert any(re.search(rf"^\s*def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE) for path in sources)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"LECTERN_[A-Z_]+", ALL)) - {"LECTERN_DATA"}))
def test_every_variable_is_a_setting(name: str) -> None:
    assert f"`{name}`" in markdown_table()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith("https://")]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("text", commands("app"))
def test_every_command_of_the_app_is_one(text: str) -> None:
    app_parser().parse_args(shlex.split(text))


@pytest.mark.parametrize("text", commands("training"))
def test_every_command_of_training_is_one(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(text)
    if words[-1:] == ["--help"]:
        with pytest.raises(SystemExit, match="0"):
            training_parser().parse_args(words)
        assert words[0] in capsys.readouterr().out
    elif words:  # else `python -m training` itself is meant
        training_parser().parse_args(words)


def test_every_model_that_is_named_is_shipped() -> None:
    families = "cnn|mlp|perceptron|autoencoder|vae|gan|cgan|diffusion|consistency|cyclegan"
    named = set(re.findall(rf"`((?:{families})-[a-z0-9-]+|photo-denoiser)`", ALL))
    assert named <= MANIFESTS.keys()
    assert MANIFESTS.keys() <= set(re.findall(r"`([a-z0-9-]+)`", TEXTS["docs/models.md"]))


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_shipped_command_names_no_folder_of_one_machine(name: str) -> None:
    words = shlex.split(MANIFESTS[name].made.command)
    assert not {"--models", "--runs"} & set(words)
    assert not [word for word in words if word.startswith(("/", "~"))]
    for page in (ROOT / "models" / name).glob("*/report/index.html"):
        assert "--models" not in page.read_text(encoding="utf-8")


def test_the_readme_has_the_default_models_and_a_measured_figure_of_each() -> None:
    rows = dict(re.findall(r"^\| `/v1/[\w-]+`.*? \| `([\w-]+)` \| (.+) \|$", TEXTS["README.md"], re.MULTILINE))
    assert sorted(rows) == sorted(Settings().default_models.values())
    measures = {
        "cnn-mnist": ("accuracy_mean", 2),
        "mlp-pass": ("accuracy", 1),
        "mlp-grade": ("rmse", 2),
        "autoencoder-5d": ("mse", 4),
        "diffusion-mnist": ("fd_ratio_8", 2),
        "photo-denoiser": ("psnr_25", 2),
        "cyclegan-strokes": ("accuracy_thin_to_thick", 1),
        "speech": ("wer_grid", 1),
        "spoken-commands": ("accuracy", 1),
        "motion": ("accuracy", 2),
    }
    for name, (measure, digits) in measures.items():
        found = next(m for m in MANIFESTS[name].quality if m.name == measure)
        shown = figure(found.value, found.name, found.unit, digits=digits).replace("\u202f", " ")
        assert shown.split()[0] in rows[name]


def test_the_readme_compares_with_figures_of_the_benchmarks() -> None:
    section = TEXTS["README.md"].partition("## How it compares")[2].partition("## ")[0]
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| (\d+ ms) \|$", section.replace("*", ""), re.M)
    assert len(rows) == 3
    benchmarks = TEXTS["docs/benchmarks.md"].replace("*", "")
    assert [row for row in rows if "| " + " | ".join(row) + " |" not in benchmarks] == []


def test_the_licence_covers_every_model() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License\n\nCopyright (c) 2026 the Lectern maintainers\n")
    listed = set(re.findall(r"[a-z0-9-]+", licence.partition("-----")[2]))
    assert MANIFESTS.keys() - listed == set()
    terms = {part.strip() for manifest in MANIFESTS.values() for part in manifest.data.licence.split(";")}
    assert {"CC BY-SA 3.0", "CC BY 4.0", "for research and teaching"} <= terms
    words = " ".join(licence.split())
    assert [term for term in terms - {"none needed", "none stated", "not stated"} if term not in words] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("MIT", ["LICENSE"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_commands_can_be_read(document: Path) -> None:
    for block in blocks(document, "bash"):
        assert block.commands(), block.name


def test_the_tables_of_a_document_are_whole() -> None:
    for name, text in TEXTS.items():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            columns = {line.replace("\\|", "").count("|") for line in table.splitlines()}
            assert len(columns) == 1, f"{name}: {table[:200]}"


def test_no_shipped_report_draws_what_is_no_number() -> None:
    reports = sorted((ROOT / "models").glob("*/*/report/index.html"))
    assert reports
    assert [path for path in reports if '="nan"' in path.read_text(encoding="utf-8")] == []
