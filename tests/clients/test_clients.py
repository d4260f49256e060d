"""Clients as five makers write them from the document: each asks every task with every example (make clients)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "clients"
PYTHON = TOOLS / "python" / "bin"
NODE = TOOLS / "node_modules"
PICTURE, SOUND = ROOT / "docs" / "examples" / "seven.jpg", ROOT / "docs" / "examples" / "stop.opus"
TSC = (
    *("--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10", "--esModuleInterop"),
    *("--lib", "es2022,dom,dom.iterable", "--strict", "--skipLibCheck", "--outDir", "js", "run.ts"),
)
LIMIT_S = 600

Example = tuple[str, str, str, str, dict[str, Any]]
"""Path, operation, name of the request's schema, title and body."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not (TOOLS / ".installed").is_file():
        pytest.skip("the makers of clients are not installed (make clients installs them, with pip and npm)")
    for program in ("java", "node"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, which the makers of clients need")


@pytest.fixture(scope="module")
def document(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with urlopen(f"{address}/openapi.json") as response:
        path = tmp_path_factory.mktemp("document") / "openapi.json"
        path.write_bytes(response.read())
    return path


@pytest.fixture(scope="module")
def examples(document: Path) -> list[Example]:
    found: list[Example] = []
    for path, operations in json.loads(document.read_text(encoding="utf-8"))["paths"].items():
        for operation in operations.values():
            if "tasks" in operation["tags"]:
                content = operation["requestBody"]["content"]["application/json"]
                schema = content["schema"]["$ref"].rpartition("/")[2]
                for title, example in content["examples"].items():
                    if "model" in example["value"]:  # where no model is loaded, an example shows the form alone
                        found.append((path, operation["operationId"], schema, title, example["value"]))
    assert found
    return found


def run(*command: str | Path, cwd: Path) -> str:
    path = os.pathsep.join([str(PYTHON), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def run_script(folder: Path, lines: list[str], imports: str) -> None:
    """Compile a TypeScript program with what was made beside it, strictly, and run it."""
    (folder / "node_modules").symlink_to(NODE)
    body = "\n".join(["(async () => {", *lines, "})().catch(error => { console.error(error); done.exit(1); });"])
    process = "const done = (globalThis as any).process;\n"
    (folder / "run.ts").write_text(f"{imports}\n{process}{body}\n", encoding="utf-8")
    run(NODE / ".bin" / "tsc", *TSC, cwd=folder)
    run("node", "js/run.js", cwd=folder)


def camel(operation: str) -> str:
    return re.sub(r"-(.)", lambda found: found[1].upper(), operation)


def check(title: str, got: str, body: dict[str, Any]) -> str:
    failed = f"throw new Error({json.dumps(title)} + ': ' + JSON.stringify(answer))"
    return f"if ({got} !== {json.dumps(body['model'])}) {failed};"


@pytest.mark.parametrize("maker", ["openapi-python-client", "openapi-generator-cli"])
def test_python(maker: str, document: Path, examples: list[Example], address: str, tmp_path: Path) -> None:
    if maker == "openapi-python-client":
        run(PYTHON / maker, "generate", "--path", document, "--meta", "none", "--output-path", "made", cwd=tmp_path)
        files = [PICTURE, PICTURE, SOUND]
    else:
        run(
            *(PYTHON / maker, "generate", "-i", document, "-g", "python", "-o", tmp_path),
            *("--package-name", "made", "--global-property", "apis,models,supportingFiles"),
            cwd=tmp_path,
        )
        files = []
    (tmp_path / "examples.json").write_text(json.dumps([one[1:] for one in examples]), encoding="utf-8")
    script = Path(__file__).with_name("call_python.py")
    printed = run(PYTHON / "python", script, tmp_path, address, "examples.json", *files, cwd=tmp_path)
    assert printed.splitlines() == [title for _, _, _, title, _ in examples]


def test_openapi_typescript(document: Path, examples: list[Example], address: str, tmp_path: Path) -> None:
    run(NODE / ".bin" / "openapi-typescript", document, "-o", "made.d.ts", cwd=tmp_path)
    lines = [f"const client = createClient<paths>({{ baseUrl: {json.dumps(address)} }});"]
    for path, _, _, title, body in examples:
        asked = f"await client.POST({json.dumps(path)}, {{ body: {json.dumps(body)} }})"
        # Its answers are of every media type at once.
        got = "(answer.data as { model: string } | undefined)?.model"
        lines.append(f"{{ const answer = {asked}; {check(title, got, body)} }}")
    run_script(tmp_path, lines, 'import createClient from "openapi-fetch";\nimport type { paths } from "./made";')


def test_hey_api(document: Path, examples: list[Example], address: str, tmp_path: Path) -> None:
    run(NODE / ".bin" / "openapi-ts", "-i", document, "-o", "made", "-c", "@hey-api/client-fetch", cwd=tmp_path)
    lines = [f"client.setConfig({{ baseUrl: {json.dumps(address)} }});"]
    for _, operation, _, title, body in examples:
        asked = f"await made.{camel(operation)}({{ body: {json.dumps(body)} }})"
        lines.append(f"{{ const answer = {asked}; {check(title, 'answer.data?.model', body)} }}")
    run_script(tmp_path, lines, 'import * as made from "./made";\nimport { client } from "./made/client.gen";')


def test_openapi_generator_typescript_fetch(
    document: Path, examples: list[Example], address: str, tmp_path: Path
) -> None:
    maker = PYTHON / "openapi-generator-cli"
    run(maker, "generate", "-i", document, "-g", "typescript-fetch", "-o", tmp_path / "made", cwd=tmp_path)
    lines = [f"const api = new made.TasksApi(new made.Configuration({{ basePath: {json.dumps(address)} }}));"]
    for _, operation, schema, title, body in examples:
        request = f"made.{schema}FromJSON({json.dumps(body)})"
        asked = f"await api.{camel(operation)}({{ {schema[0].lower()}{schema[1:]}: {request} }})"
        lines.append(f"{{ const answer = {asked}; {check(title, 'answer.model', body)} }}")
    run_script(tmp_path, lines, 'import * as made from "./made";')
