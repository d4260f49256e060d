"""The documents for people, as tests read them: their commands, the output that they show, and how to compare it.

In a ```bash block, a line that begins with `#>` is output of the command above it; `...` stands for what is left out.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]

_TOKEN = re.compile(r"\.\.\.|-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e-?\d+)?|\w+|\S")


@dataclass
class Command:
    """A shell command, over several lines or one, and the output that the document shows for it."""

    text: str
    shown: list[str] = field(default_factory=list)


@dataclass
class Block:
    """A fenced block: the text of its fence (`bash`), its lines, and where it begins."""

    document: Path
    line: int
    language: str
    lines: list[str]

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def commands(self) -> list[Command]:
        found: list[Command] = []
        open_lines: list[str] = []
        for line in self.lines:
            if line.startswith("#>"):
                found[-1].shown.append(line.removeprefix("#>").strip())
            elif open_lines or (line.strip() and not line.startswith("#")):
                open_lines.append(line)
                if _is_whole("\n".join(open_lines)):
                    found.append(Command("\n".join(open_lines)))
                    open_lines = []
        assert not open_lines, f"{self.name}: a command has no end: {open_lines[0]}"
        return found


def _is_whole(text: str) -> bool:
    if text.endswith("\\"):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:  # a quotation is open
        return False
    return True


def blocks(document: Path, language: str) -> list[Block]:
    """The fenced blocks of that language, in order."""
    found: list[Block] = []
    fence: Block | None = None
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if fence is None:
                fence = Block(document, number, line.removeprefix("```"), [])
            else:
                found.append(fence)
                fence = None
        elif fence is not None:
            fence.lines.append(line)
    return [block for block in found if block.language == language]


def disagreement(shown: str, got: str, *, relative: float, absolute: float) -> str:
    """Where output differs from what a document shows; empty where it agrees.

    Both are compared word by word, numbers within a tolerance. `...` matches anything, at the end too.
    """
    have = _TOKEN.findall(got)
    at = 0
    parts = shown.split("...")
    for k, part in enumerate(parts):
        want = _TOKEN.findall(part)
        starts = range(at, len(have) - len(want) + 1) if k else [0]  # the first part begins the output
        here = next((s for s in starts if _same(want, have[s : s + len(want)], relative, absolute)), None)
        if here is None:
            return f"expected {part.strip()!r}, got {got[:2000]!r}"
        at = here + len(want)
    return "" if at == len(have) or not parts[-1].strip() else f"{got[:2000]!r} goes on after {parts[-1].strip()!r}"


def _same(want: list[str], have: list[str], relative: float, absolute: float) -> bool:
    return len(want) == len(have) and all(
        w == h or _close(w, h, relative, absolute) for w, h in zip(want, have, strict=True)
    )


def _close(want: str, have: str, relative: float, absolute: float) -> bool:
    try:
        a, b = (float(text.replace(",", "")) for text in (want, have))
    except ValueError:
        return False
    return math.isclose(a, b, rel_tol=relative, abs_tol=absolute)
