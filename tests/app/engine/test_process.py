from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from app.engine.process import cores, resident_bytes


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("100000 100000", 1), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 4), ("6400000 100000", 4)],
)
def test_cores_are_those_of_the_containers_quota_where_it_is_less(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4, 6}, raising=False)
    (tmp_path / "cpu.max").write_text(f"{quota}\n", encoding="ascii")
    assert cores(tmp_path) == expected


def test_cores_are_those_that_the_process_may_run_on_where_there_is_no_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 5}, raising=False)
    assert cores(tmp_path) == 3


def test_resident_bytes_are_what_the_system_counts() -> None:
    if not Path("/proc/self/statm").exists():
        assert resident_bytes() == 0
        return
    before = resident_bytes()
    held = np.ones(64 << 20, np.uint8)
    assert 60 << 20 < resident_bytes() - before < 70 << 20
    assert held.all()
