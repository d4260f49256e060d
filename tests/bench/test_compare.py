"""What a comparison of two builds makes of its figures, and which folders it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.__main__ import WRONG_USAGE, main
from tests.bench.cells import Place
from tests.bench.compare import BEFORE, NOW, Compared, WrongFolder, checkout, memory_table, table
from tests.bench.load import Cell
from tests.bench.processes import ROOT, Memory

PLACE = Place("mlp", "A", 32)


def cell(per_s: float, p99_ms: float = 1.0, cpu_us: float = 100.0, **errors: int) -> Cell:
    return Cell(per_s, per_s, 0.5, p99_ms, 2.0, errors, cpu_us, 1.0, Memory(0, 0, 0, 1))


def test_a_ratio_is_of_two_cells_of_one_round() -> None:
    compared = Compared()
    for before, now in ((1000, 1100), (500, 600), (2000, 1900)):  # the machine drifts more than the two differ
        compared.add(PLACE, BEFORE, cell(before, p99_ms=3.0))
        compared.add(PLACE, NOW, cell(now, p99_ms=4.0, cpu_us=80.0, status=7))
    assert dict(zip(*table(compared), strict=False)) == {
        "cell": "mlp/A32",
        "before req/s": "1,000",
        "now req/s": "1,100",
        "least": "0.950",
        "most": "1.200",
        "before p99 ms": "3.00",
        "now p99 ms": "4.00",
        "before us": "100",
        "now us": "80",
        "now/before": "0.800",
        "errors": "21 now",
    }
    assert table(compared)[1][3] == "1.100"


def test_memory_is_told_of_both_sides_after_the_start_and_at_the_end() -> None:
    compared = Compared()
    for side, megabytes in ((BEFORE, 100), (NOW, 90)):
        for more in (0, 1, 2):
            rss = (megabytes + more) * 10**6
            compared.started[side].append(Memory(rss, rss // 2, rss, 1))
            compared.ended[side].append(Memory(2 * rss, rss, 3 * rss, 1))
            compared.start_s[side].append(1.0 + more)
    assert memory_table(compared)[1:] == [
        ["before", "101.0", "50.5", "202.0", "101.0", "306.0", "1", "1.0"],
        ["now", "91.0", "45.5", "182.0", "91.0", "276.0", "1", "1.0"],
    ]


def test_a_folder_without_a_server_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkout(ROOT) == ROOT
    with pytest.raises(WrongFolder, match=r"app/__main__\.py"):
        checkout(tmp_path)
    assert main(["--against", str(tmp_path), "--cells", "none"]) == WRONG_USAGE
    assert "'none'" in capsys.readouterr().err
