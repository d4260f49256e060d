"""Resident memory while a model of 24.5 MiB is swapped under load, in a process of its own (`swaps.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MOST_MIB = 8.0  # more than after the first swap; measured: 0.6 after 50


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells resident memory by /proc")
@pytest.mark.parametrize("swaps", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_memory_returns_to_its_level_after_swaps_under_load(swaps: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.app.engine.swaps", str(tmp_path), str(swaps)]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    first, *others = told["mib"][1:]
    assert told["weights_mib"] > 2 * MOST_MIB  # so that one model too many is seen
    assert len(others) == swaps - 1
    assert others[-1] - first < MOST_MIB, told
    assert told["answered"] >= 20 * swaps
