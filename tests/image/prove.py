"""Build the image, start it read-only as its own user, ask it for a prediction, stop it by SIGTERM, print its size.

    python3 tests/image/prove.py [--runtime cpu|gpu] [--models FOLDER] [--port 18080]

With Docker where an engine runs. Else, as root, with buildah in a chroot on a base made by debootstrap: no engine,
no registry, no privileges inside the container. Nothing but the standard library. Exit code 0: all of it held.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    ".ci/requirements.py",
    ".ci/constraints.txt",
    "app",
    "LICENSE",
)
LOCAL_BASE = "localhost/lectern-base"
READY_S = 30.0
MOST_CPU_MB = 250.0


class Failed(Exception):
    """What did not hold, in one line."""


def run(*command: str, **options: Any) -> str:
    """Standard output of a command; Failed with the end of what it printed where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise Failed(f"{shlex.join(command[:4])} ... ended with {done.returncode}:\n  " + "\n  ".join(said))
    return done.stdout.strip()


def buildah(*arguments: str) -> str:
    return run("buildah", "--storage-driver", "vfs", *arguments)


def make_context(folder: Path, models: Path) -> None:
    for name in SHIPPED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    shutil.copytree(models, folder / "models")
    if not list(folder.glob("models/*/*/manifest.json")):
        raise Failed(f"{models} holds no model: there is nothing to ask")


def grey_png(size: int = 28) -> bytes:
    """A dark square on white, written by hand so that the proof needs no package."""
    rows = b"".join(
        b"\0" + bytes(30 if abs(x - size // 2) < 4 and abs(y - size // 2) < 9 else 255 for x in range(size))
        for y in range(size)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wait_until_ready(port: int, alive: Any) -> None:
    start = time.monotonic()
    while time.monotonic() - start < READY_S:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
                print(f"ready after {time.monotonic() - start:.2f} s: {answer.read(300).decode()}")
                return
        except (urllib.error.URLError, OSError):
            if not alive():
                raise Failed("the server ended before it was ready") from None
            time.sleep(0.05)
    raise Failed(f"not ready within {READY_S:.0f} s")


def ask(port: int) -> None:
    body = json.dumps({"image": base64.b64encode(grey_png()).decode()}).encode()
    for kind, data in (("application/json", body), ("image/png", grey_png())):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/classify", data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Failed(f"{kind}: {error.code} {error.read(500).decode()}") from None
        if '"probabilit' not in text:
            raise Failed(f"{kind}: no probabilities in the answer {text[:500]}")
    print(f"prediction: {text[:240]}")


def an_engine_runs() -> bool:
    return shutil.which("docker") is not None and not subprocess.run(["docker", "info"], capture_output=True).returncode


# -- Docker -----------------------------------------------------------------------------------------------------------


def prove_with_docker(context: Path, runtime: str, port: int) -> tuple[int, int]:
    image, base = f"lectern:{runtime}", "python:3.13-slim"
    run("docker", "build", "--quiet", "--build-arg", f"RUNTIME={runtime}", "-t", image, str(context))
    run("docker", "pull", "--quiet", base)
    gpus = ["--gpus", "all"] if runtime == "gpu" else []
    start = ["docker", "run", "-d", "--read-only", "--cap-drop", "ALL", "-p", f"127.0.0.1:{port}:8000", *gpus, image]
    name = run(*start)
    try:
        wait_until_ready(port, lambda: run("docker", "inspect", "-f", "{{.State.Running}}", name) == "true")
        ask(port)
        run("docker", "stop", "--time", "20", name)
        stopped(int(run("docker", "inspect", "-f", "{{.State.ExitCode}}", name)))
    except Failed:
        print(run("docker", "logs", "--tail", "20", name), file=sys.stderr)
        raise
    finally:
        run("docker", "rm", "-f", name)
    sizes = [int(run("docker", "image", "inspect", "-f", "{{.Size}}", tag)) for tag in (base, image)]
    return sizes[0], sizes[1]


# -- buildah ----------------------------------------------------------------------------------------------------------


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """The image's files, as a folder."""
    container = buildah("from", "--pull=never", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def make_base(work: Path) -> None:
    """A minimal Debian with Python 3.11, committed under a local name; kept for the next time."""
    if LOCAL_BASE in buildah("images", "--format", "{{.Name}}").splitlines():
        return
    print(f"making {LOCAL_BASE} with debootstrap")
    packages = "--include=python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", packages, "bookworm", str(work / "base"))
    if (work / "base" / "proc").is_mount():  # an interrupted debootstrap leaves it; it must be in no image
        run("umount", str(work / "base" / "proc"))
    for waste in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(work / "base" / waste)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(work / "base"), "/")
    buildah("commit", "--quiet", "--rm", container, LOCAL_BASE)
    shutil.rmtree(work / "base")


def lent_to_the_build(work: Path) -> list[str]:
    """Build options that carry over how this machine reaches its package index: pip's settings, and read-only the
    files and folders they name. They are mounted during RUN alone and leave no trace in the image."""
    settings: dict[str, str] = {}
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():  # none where this Python has no pip
        name, _, value = line.partition("=")
        if name.startswith(("global.", "install.", ":env:.")):
            settings[name.rpartition(".")[2]] = ast.literal_eval(value)
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
    (work / "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["-v", f"{work / 'pip.conf'}:/etc/pip.conf:ro"]
    words = {word for value in settings.values() for word in value.split()}
    # An index in a folder links to files beside it, so the folder above is lent.
    paths = {Path(w) for w in words if w[0] == "/"} | {Path(w[7:]).parent for w in words if w.startswith("file:///")}
    for path in sorted(path for path in paths if path.exists() and path != Path("/")):
        options += ["-v", f"{path}:{path}:ro"]
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        for variable in (name, name.upper()):
            if variable in os.environ:
                options += ["--build-arg", f"{variable}={os.environ[variable]}"]
    return options


def start_as_the_engine_would(files: Path, config: dict[str, Any], port: int, log: Any) -> subprocess.Popen[bytes]:
    """Run the image's entry point with its own environment, folder and user, on a read-only root with its own /tmp
    and /proc. Every step is an exec, so that the signal reaches what the image starts."""
    environment = [*config["Env"], f"LECTERN_PORT={port}"]
    script = (
        'set -e; mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; mount -t tmpfs tmpfs "$1/tmp"; '
        'mount -t proc proc "$1/proc"; mount --bind /dev "$1/dev"; root=$1; user=$2; shift 2; '
        'exec chroot --userspec="$user" --groups= "$root" env -i "$@"'
    )
    inside = ["sh", "-c", 'cd "$0" && exec "$@"', config["WorkingDir"], *config["Entrypoint"], *config.get("Cmd", [])]
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(files), config["User"], *environment, *inside]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def prove_with_buildah(context: Path, work: Path, runtime: str, port: int) -> tuple[int, int]:
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            raise Failed(f"neither a Docker engine nor {tool} is here (as root: apt-get install buildah debootstrap)")
    if os.geteuid() != 0:
        raise Failed("without a Docker engine the proof needs root, for buildah's chroot")
    make_base(work)
    image = f"localhost/lectern:{runtime}"
    start = time.monotonic()
    buildah(
        "bud", "--quiet", "--isolation", "chroot", "--pull=never", "--format", "docker", "--no-cache",
        "--build-arg", f"BASE={LOCAL_BASE}", "--build-arg", f"RUNTIME={runtime}", *lent_to_the_build(work),
        "-t", image, str(context),
    )  # fmt: skip
    print(f"built {image} in {time.monotonic() - start:.0f} s")
    inspected = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    with mounted(image) as files, (work / "log").open("wb") as log:
        check_files(files, inspected)
        server = start_as_the_engine_would(files, inspected, port, log)
        try:
            wait_until_ready(port, lambda: server.poll() is None)
            ask(port)
            healthy(files, inspected, port)
            server.send_signal(signal.SIGTERM)
            stopped(server.wait(timeout=30))
        except Failed:
            print((work / "log").read_text(errors="replace")[-2000:], file=sys.stderr)
            raise
        finally:
            server.kill()
            server.wait()
        whole = size_of(files)
    with mounted(LOCAL_BASE) as files:
        return size_of(files), whole


def healthy(files: Path, config: dict[str, Any], port: int) -> None:
    test = config["Healthcheck"]["Test"]
    user, environment = f"--userspec={config['User']}", [*config["Env"], f"LECTERN_PORT={port}"]
    run("chroot", user, str(files), "env", "-i", *environment, *test[1:])
    dead = subprocess.run(
        ["chroot", user, str(files), "env", "-i", *environment, "LECTERN_PORT=1", *test[1:]],
        capture_output=True, check=False,
    )  # fmt: skip
    if dead.returncode == 0:
        raise Failed("the health check passes where nothing listens")
    print("health check: passes on the server, fails where there is none")


def check_files(files: Path, config: dict[str, Any]) -> None:
    """What must not be in the image, and who must not own it."""
    if config["User"].split(":")[0] in ("", "0", "root"):
        raise Failed(f"the image's user is {config['User']!r}, it must not be root")
    for tool in ("gcc", "cc", "make"):
        if shutil.which(tool, path=f"{files}/usr/bin:{files}/usr/local/bin:{files}/opt/venv/bin"):
            raise Failed(f"the image holds {tool}")
    packages = {p.name.lower() for p in files.glob("opt/venv/lib/python3*/site-packages/*")}
    if unwanted := packages & {"torch", "pip", "pytest", "onnx"}:
        raise Failed(f"the image holds {sorted(unwanted)}")


def size_of(files: Path) -> int:
    """Bytes of all files; links are counted once."""
    return int(run("du", "-s", "-b", "-x", "--exclude", "./proc", str(files)).split()[0])


def stopped(code: int) -> None:
    if code != 0:
        raise Failed(f"exit code {code} on SIGTERM, expected 0")
    print("stopped by SIGTERM with exit code 0")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtime", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="served in place of models/")
    parser.add_argument("--port", type=int, default=18080, help="where the server listens meanwhile")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lectern-image-") as name:
        work, context = Path(name), Path(name) / "context"
        try:
            make_context(context, options.models)
            if an_engine_runs():
                base, whole = prove_with_docker(context, options.runtime, options.port)
            else:
                base, whole = prove_with_buildah(context, work, options.runtime, options.port)
            added = (whole - base) / 1e6
            print(f"size: {whole / 1e6:.0f} MB, {added:.0f} MB on top of the base's {base / 1e6:.0f} MB")
            if options.runtime == "cpu" and added > MOST_CPU_MB:
                raise Failed(f"{added:.0f} MB on top of the base, expected at most {MOST_CPU_MB:.0f} MB")
        except Failed as error:
            print(f"image: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
