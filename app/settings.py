"""One frozen Settings, declared once: environment, flags, help and README come from the same fields.

A flag (`--max-rows-per-request 64`) wins over its environment variable (`LECTERN_MAX_ROWS_PER_REQUEST=64`), which
wins over the default. Nothing else in `app` reads the environment. A wrong value is one line that names where it
was set, what is taken and what came.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.core.errors import shown
from app.core.manifest import Modality, Task, Version

PREFIX: Final = "LECTERN_"
STANDARD_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
OTHERS: Final = frozenset({"LECTERN_DATA"})  # read by training, not by the app


class WrongSetting(Exception):
    """A setting that cannot be used; the message is what the operator reads."""


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _pairs(form: str) -> Callable[[object], object]:
    """`key=value,key=value` -> dict; `form` is how one pair looks, for messages."""

    def parse(value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        wrong = [part for part in parts if "=" not in part]
        if wrong:
            raise ValueError(f"{form}[,{form}...]")
        return dict(part.split("=", 1) for part in parts)

    return parse


def _by_task(value: dict[str, str]) -> dict[str, str]:
    """Keys are tasks, or a task and a modality: `classify.table`."""
    tasks, modalities = get_args(Task), get_args(Modality)
    for key in value:
        task, dot, modality = key.partition(".")
        if task not in tasks or (dot and modality not in modalities):
            expected = " or ".join([", ".join(f"'{task}'" for task in tasks), "one of them with '.table' behind it"])
            raise ValueError(f"{expected}, got {key!r}")
    return value


KeyDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s,]+)$")]


class Settings(BaseSettings):
    """What an operator can choose. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 lets the system choose")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        max_length=200,
        description="path under which a proxy serves this server, as /lectern; requests come with it or without",
    )
    models: Path = Field(Path("models"), description="folder of models, <name>/<version>/manifest.json each")
    only: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (), description="names of the models to load; empty loads all"
    )
    default_models: Annotated[
        dict[str, str], NoDecode, BeforeValidator(_pairs("task=model")), AfterValidator(_by_task)
    ] = Field(
        {
            "classify": "cnn-mnist",
            "classify.table": "mlp-pass",
            "classify.audio": "spoken-commands",
            "classify.text": "sentiment-sst2",
            "regress": "mlp-grade",
            "reconstruct": "autoencoder-5d",
            "generate": "diffusion-mnist",
            "denoise": "photo-denoiser",
            "translate": "cyclegan-strokes",
            "translate.text": "translator-en-pt",
            "transcribe": "speech",
            "label-frames": "motion",
            "caption": "scene-captions",
        },
        description="model of a request that names none, as task=name, or task.table=name for tables alone",
    )
    pinned_versions: Annotated[dict[str, Version], NoDecode, BeforeValidator(_pairs("name=version"))] = Field(
        {}, description="version of a request that gives none, as name=version; without one it is the latest"
    )
    poll_s: float = Field(
        0.0, ge=0, le=86400, description="seconds between two looks for what changed in the models folder; 0: none"
    )
    model_control: bool = Field(False, description="let requests to /v2/repository load and unload models")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where models run; auto takes CUDA if there is one, cuda fails at start if there is none"
    )
    threads: int = Field(
        0, ge=0, le=1024, description="threads of one run on the CPU; 0 shares the cores out, a model with a GRU has 1"
    )
    gpu_memory_mb: int = Field(
        0, ge=0, le=1 << 20, description="MiB of the GPU's memory that each graph of a model may take; 0 sets no limit"
    )
    workers: int = Field(1, ge=1, le=64, description="processes that serve; one that dies is replaced")
    max_rows_per_request: int = Field(512, ge=1, le=65536, description="rows (pictures) in one request")
    max_queued_rows: int = Field(
        4096, ge=1, le=1 << 20, description="rows that may wait for a model, in each worker, before 429"
    )
    max_queued_s: float = Field(
        2.0, gt=0, le=3600, description="seconds of work that may wait for a model, or to be decoded, in each worker"
    )
    max_body_bytes: int = Field(32 << 20, ge=1, le=1 << 30, description="bytes in one request's body")
    max_pixels: int = Field(50_000_000, ge=1, le=1 << 30, description="pixels of one picture, checked before decoding")
    max_seconds: float = Field(600.0, gt=0, le=86400, description="seconds of sound in one request, all files together")
    body_timeout_s: float = Field(30.0, gt=0, le=3600, description="seconds for a request's body to arrive")
    request_timeout_s: float = Field(60.0, gt=0, le=3600, description="seconds for the models to answer before 504")
    keep_alive_s: int = Field(15, ge=1, le=3600, description="seconds that an idle connection is kept")
    grace_s: int = Field(30, ge=0, le=3600, description="seconds for open requests to finish at shutdown")
    api_keys: Annotated[tuple[KeyDigest, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (), description="SHA-256 digests of the API keys (python -m app key makes one); empty asks for none"
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (), description="web origins that browsers may call from, or *; empty allows none"
    )
    docs: bool = Field(True, description="serve /docs, /redoc and /openapi.json")
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^/\s]+\S*)?$",
        description="OpenTelemetry collector that traces go to by OTLP over HTTP, such as http://localhost:4318; "
        f"where it is not set, {STANDARD_ENDPOINT} counts",
    )
    log_format: Literal["text", "json"] = Field("text", description="one line per event, for people or for machines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @model_validator(mode="after")
    def _hangs_together(self) -> Settings:
        if self.max_rows_per_request > self.max_queued_rows:
            raise ValueError(
                f"--max-rows-per-request ({self.max_rows_per_request}) is more than --max-queued-rows "
                f"({self.max_queued_rows}): a request of that size could never be queued"
            )
        return self


def env_name(field: str) -> str:
    return PREFIX + field.upper()


def flag_name(field: str) -> str:
    return "--" + field.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per field of Settings, its help with the variable's name and the default."""
    group = parser.add_argument_group("settings", "each as a flag or as the environment variable beside it")
    for name, field in Settings.model_fields.items():
        choices = get_args(field.annotation) if field.annotation not in (bool,) else ("true", "false")
        literal = [str(c) for c in choices if isinstance(c, str)]
        group.add_argument(
            flag_name(name),
            dest=name,
            metavar="{" + ",".join(literal) + "}" if literal else _metavar(field.annotation),
            default=argparse.SUPPRESS,
            help=f"{field.description} [{env_name(name)}; default: {default_text(name)}]".replace("%", "%%"),
        )


def _metavar(annotation: Any) -> str:
    return {int: "N", float: "SECONDS", Path: "FOLDER"}.get(annotation, "TEXT")


def default_text(field: str) -> str:
    """A field's default as it would be written in the environment."""
    value = Settings.model_fields[field].default
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value in ((), "") else str(value)


def markdown_table() -> str:
    """Every setting with its variable, its flag, its default and its meaning, for the README."""
    lines = ["| environment | flag | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{env_name(name)}` | `{flag_name(name)}` | `{default_text(name)}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(lines)


def read_settings(flags: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (field name -> text), then the environment, then the defaults.

    Raises:
        WrongSetting: one line per wrong value: where it was set, what is taken, what came.
    """
    environment = os.environ if environment is None else environment
    values = dict(flags)
    if _takes_standard_endpoint(flags, environment):
        values["otlp_endpoint"] = environment[STANDARD_ENDPOINT]
    try:
        return Settings(**values)  # type: ignore[arg-type]  # texts, parsed by the fields
    except ValidationError as error:
        lines = [_line(dict(e), flags, environment) for e in error.errors(include_url=False)]
        raise WrongSetting("\n".join(lines)) from None


def _takes_standard_endpoint(flags: Mapping[str, str], environment: Mapping[str, str]) -> bool:
    """Every user of OpenTelemetry expects it to count; our own, set to nothing, switches traces off all the same."""
    own = "otlp_endpoint" in flags or env_name("otlp_endpoint") in environment
    return not own and bool(environment.get(STANDARD_ENDPOINT))


def _line(error: dict[str, Any], flags: Mapping[str, str], environment: Mapping[str, str]) -> str:
    if not error["loc"]:
        return re.sub(r"^Value error, ", "", error["msg"])
    field = str(error["loc"][0])
    where, value = (
        (flag_name(field), flags[field]) if field in flags else (env_name(field), environment.get(env_name(field)))
    )
    if field == "otlp_endpoint" and _takes_standard_endpoint(flags, environment):
        where, value = STANDARD_ENDPOINT, environment[STANDARD_ENDPOINT]
    secret = field == "api_keys"
    got = f"a text of {len(value or '')} characters" if secret else shown(value)
    expected = re.sub(r"^(Input should be|String should|Value error,) ?|, unable to .*$", "", error["msg"])
    if secret:
        expected = "SHA-256 digests, 64 hexadecimal digits each, comma separated (python -m app key makes one)"
    return f"{where}: expected {expected}, got {got}"


def unknown_variables(environment: Mapping[str, str] | None = None) -> Sequence[str]:
    """Names that begin with LECTERN_ and mean nothing: most likely a slip of the pen."""
    environment = os.environ if environment is None else environment
    known = {env_name(name) for name in Settings.model_fields} | OTHERS
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
