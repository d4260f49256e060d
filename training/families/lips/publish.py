"""From a trained lip reader to a published one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

WHOLE: Final = "lips"
STREAMING: Final = "lips-streaming"
FAMILY: Any = None


def publish_lips(fitted: Any, data: Any, *, options: argparse.Namespace, precision: str) -> Path:
    raise NotImplementedError
