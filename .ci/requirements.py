"""Print what pyproject.toml asks for, one requirement a line, for `pip install -r`.

    python3 .ci/requirements.py cpu test training

The server's own dependencies come first, then those of the extras named. Nothing but the standard library:
it runs before anything is installed, where pip may be too old to install extras without a build.
"""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """The requirement lines of the project and of `extras`; an unknown extra is a KeyError that names it."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return lines


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
