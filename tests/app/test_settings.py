"""Settings: one declaration for environment, flags and help; a wrong value is one clear line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.__main__ import main, parser
from app.settings import Settings, WrongSetting, default_text, env_name, flag_name, read_settings, unknown_variables

FIELDS = tuple(Settings.model_fields)
DIGEST = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(env_name(name), raising=False)


def test_the_defaults_are_safe() -> None:
    settings = read_settings({})
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8000, "auto")
    assert settings.cors_origins == ()
    assert settings.models == Path("models")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        read_settings({}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "9000", 9000),
        ("models", "elsewhere", Path("elsewhere")),
        ("only", "a, b,", ("a", "b")),
        ("default_models", "classify=a,regress=b", {"classify": "a", "regress": "b"}),
        ("default_models", "classify=a,classify.table=b", {"classify": "a", "classify.table": "b"}),
        ("pinned_versions", "a=1, b=12", {"a": "1", "b": "12"}),
        ("poll_s", "2.5", 2.5),
        ("model_control", "true", True),
        ("device", "cpu", "cpu"),
        ("body_timeout_s", "0.5", 0.5),
        ("api_keys", f"{DIGEST},{DIGEST.upper()}", (DIGEST, DIGEST)),
        ("cors_origins", "https://a.example,http://localhost:3000", ("https://a.example", "http://localhost:3000")),
        ("docs", "false", False),
        ("log_format", "json", "json"),
    ],
)
def test_a_setting_is_read_from_the_environment_and_from_its_flag(
    field: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = vars(parser().parse_args([flag_name(field), text]))
    flags.pop("command")
    assert getattr(read_settings(flags), field) == value
    monkeypatch.setenv(env_name(field), text)
    assert getattr(read_settings({}), field) == value


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LECTERN_PORT", "1")
    assert read_settings({"port": "2"}).port == 2


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("port", "eighty", ("integer", "'eighty'")),
        ("port", "70000", ("65535", "'70000'")),
        ("port", "tcp://10.0.0.1:8000", ("integer", "tcp://")),
        ("device", "gpu", ("'auto', 'cpu' or 'cuda'", "'gpu'")),
        ("threads", "-1", ("0", "'-1'")),
        ("max_body_bytes", "0", ("1", "'0'")),
        ("docs", "perhaps", ("boolean", "'perhaps'")),
        ("default_models", "cnn", ("task=model", "'cnn'")),
        ("pinned_versions", "cnn", ("name=version", "'cnn'")),
        ("pinned_versions", "cnn=latest", ("cnn=latest",)),
        ("poll_s", "-1", ("greater than or equal to 0",)),
        ("default_models", "guess=cnn", ("'classify'", "guess")),
        ("default_models", "classify.tables=cnn", ("'.table'", "classify.tables")),
        ("cors_origins", "example.com", ("example.com",)),
        ("body_timeout_s", "nan", ("nan",)),
        ("log_level", "loud", ("'info'", "'loud'")),
    ],
)
def test_a_wrong_value_is_one_line_that_names_where_it_was_set(
    field: str, text: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WrongSetting) as by_flag:
        read_settings({field: text})
    monkeypatch.setenv(env_name(field), text)
    with pytest.raises(WrongSetting) as by_variable:
        read_settings({})
    for error, where in ((by_flag, flag_name(field)), (by_variable, env_name(field))):
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{where}: expected ")
        for word in words:
            assert word in line


def test_a_wrong_key_is_not_written_out() -> None:
    with pytest.raises(WrongSetting) as error:
        read_settings({"api_keys": "my-secret-key"})
    assert "my-secret-key" not in str(error.value)
    assert "python -m app key" in str(error.value)


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(WrongSetting, match="could never be queued"):
        read_settings({"max_rows_per_request": "10", "max_queued_rows": "9"})


def test_several_wrong_values_are_told_at_once() -> None:
    with pytest.raises(WrongSetting) as error:
        read_settings({"port": "x", "device": "y"})
    assert len(str(error.value).splitlines()) == 2


def test_the_help_lists_every_setting_with_its_variable_its_default_and_its_meaning() -> None:
    text = "".join(parser().format_help().split())  # lines are broken anywhere
    for name, field in Settings.model_fields.items():
        assert flag_name(name) in text
        assert field.description
        line = f"{field.description} [{env_name(name)}; default: {default_text(name)}]"
        assert "".join(line.split()) in text


def test_the_table_for_the_readme_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == [env_name(name) for name in FIELDS]
    assert all(line.count(" | ") == 3 for line in lines[2:])


def test_a_slip_of_the_pen_in_the_environment_is_noticed() -> None:
    assert unknown_variables({"LECTERN_PROT": "1", "LECTERN_PORT": "1", "LECTERN_DATA": "x", "HOME": "y"}) == [
        "LECTERN_PROT"
    ]


def test_wrong_settings_end_with_code_2_and_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "x"]) == 2
    assert capsys.readouterr().err == "--port: expected a valid integer, got 'x'\n"


def test_nothing_but_the_settings_reads_the_environment() -> None:
    root = Path(__file__).parents[2] / "app"
    readers = [
        path.name
        for path in root.rglob("*.py")
        if re.search(r"environ(?!\.setdefault\()|getenv", path.read_text(encoding="utf-8"))  # to set is not to read
    ]
    assert readers == ["settings.py"]
