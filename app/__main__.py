"""python -m app: serve the models of a folder; or list them, verify them, print the manifest's schema, make a key."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.settings import Settings, WrongSetting, add_flags, markdown_table, read_settings, unknown_variables
from app.telemetry import logs

OK: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2

COMMANDS: Final = {
    "serve": "serve the models over HTTP (the default)",
    "models": "list what the models folder holds",
    "verify": "check every model as a start would; exit code 1 if one is refused",
    "settings": "print every setting as a Markdown table",
    "schema": "print the JSON Schema of manifest.json",
    "key": "make an API key and print it with its digest",
}


def parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:9} {text}" for name, text in COMMANDS.items())
    command_line = argparse.ArgumentParser(
        prog="python -m app",
        description=f"Serve models over HTTP.\n\ncommands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command_line.add_argument(
        "command", nargs="?", default="serve", choices=COMMANDS, metavar="command", help="see above"
    )
    command_line.add_argument(
        "--markdown",
        action="store_true",
        default=argparse.SUPPRESS,
        help="of models: write them as docs/models.md has them",
    )
    add_flags(command_line)
    return command_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    flags = vars(parser().parse_args(arguments))
    command, markdown = flags.pop("command"), flags.pop("markdown", False)
    if command == "schema":
        return print_schema()
    if command == "settings":
        print(markdown_table())
        return OK
    if command == "key":
        return print_key()
    try:
        settings = read_settings(flags)
    except WrongSetting as error:
        print(error, file=sys.stderr)
        return WRONG_USAGE
    for name in unknown_variables():
        print(f"{name}: is no setting and has no effect (python -m app --help lists them)", file=sys.stderr)
    if command == "serve":
        return serve(settings)
    if command == "models":
        return print_markdown(settings) if markdown else list_models(settings.models)
    return verify_models(settings)


def serve(settings: Settings) -> int:
    """Serve until a signal, alone or as the parent of workers, which needs neither the web framework nor the models."""
    if not settings.models.is_dir() and not settings.poll_s:  # with polling it may still come
        print(f"the models folder {settings.models} is not there, and --poll-s does not wait for it", file=sys.stderr)
        return FAILED
    if settings.workers == 1:
        from app.main import create_app
        from app.server import serving

        return serving.serve(settings, create_app)
    from app.server import supervisor

    return supervisor.serve(settings)


def print_schema() -> int:
    import json

    from app.core.manifest import Manifest

    print(json.dumps(Manifest.model_json_schema(), indent=2))
    return OK


def print_key() -> int:
    from app.middleware.api_keys import make_key

    key, digest = make_key()
    print(f"key     {key}\ndigest  {digest}")
    print("Give the key to the client and the digest to the server: LECTERN_API_KEYS=digest[,digest...]")
    return OK


def list_models(folder: Path) -> int:
    """A table of what the folder holds, from the manifests alone; nothing is loaded."""
    from pydantic import ValidationError

    from app.core.manifest import MANIFEST_FILE, Manifest

    lines = [("NAME", "VERSION", "TASK", "LABELS", "QUALITY", "TITLE")]
    for path in sorted(folder.glob(f"[!._]*/[!._]*/{MANIFEST_FILE}")):
        name, version = path.parts[-3:-1]
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            lines.append((name, version, "?", "", "", "its manifest cannot be read: python -m app verify says why"))
            continue
        quality = " ".join(f"{m.name}={m.value:g}" for m in manifest.quality[:3])
        lines.append((name, version, manifest.task, str(len(manifest.labels) or ""), quality, manifest.title))
    if len(lines) == 1:
        print(f"{folder}: no model here, expected <name>/<version>/{MANIFEST_FILE}")
        return OK
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    return OK


def print_markdown(settings: Settings) -> int:
    """The folder's manifests as `docs/models.md`; one that cannot be read is an error with its reason."""
    from app.core.manifest import MANIFEST_FILE, Manifest
    from app.pages.models_markdown import models_markdown

    paths = sorted(settings.models.glob(f"[!._]*/[!._]*/{MANIFEST_FILE}"))
    manifests = [Manifest.model_validate_json(path.read_bytes()) for path in paths]
    print(models_markdown(manifests, settings.default_models), end="")
    return OK


def verify_models(settings: Settings) -> int:
    """One line per folder: good, or refused and why."""
    from app.engine.registry import verify

    results = verify(settings.models, device=settings.device, threads=settings.threads)
    for name, version, good, reason in results:
        where = f"{name}/{version}" if version else name
        print(f"good     {where}" if good else f"REFUSED  {where}  {reason}")
    if not results:
        print(f"{settings.models}: no model here")
    return OK if all(good for _, _, good, _ in results) else FAILED


if __name__ == "__main__":
    code = main()
    logs.settle()
    sys.exit(code)
