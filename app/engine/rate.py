"""How fast a graph runs: deadlines, `Retry-After` and the choice of a thread depend on it."""

from __future__ import annotations

from typing import Final

RATE_MEMORY: Final = 0.9  # weight of the past, per run
UNMEASURED_S: Final = 1.0
LONGEST_S: Final = 60.0
# Few or old measurements refuse nobody: else a model that was slow once would count as slow for ever.
FEW: Final = 3
FRESH_S: Final = 1.0
FORGETTING: Final = 1.05  # per run, of the shortest time measured
NEVER: Final = float("inf")


class Rate:
    """Measured from the runs themselves, the latest counting most. Written by the running thread, read by any.

    Args:
        max_rows: rows in one run at most.
        varied: rows differ in length, so that their number tells what they take on average alone, never of one run.
    """

    def __init__(self, max_rows: int, *, varied: bool = False) -> None:
        self._varied = varied
        self._rows = 0.0
        self._s = 0.0
        self._runs = 0
        sizes = max_rows.bit_length() + 1  # runs by the power of two above their rows
        self._run_s = [NEVER] * sizes
        self._least_s = [NEVER] * sizes
        self._measured = [0] * sizes
        self._measured_at = -NEVER

    def observe(self, rows: int, run_s: float, now: float) -> None:
        """A run of so many rows has ended, at that `time.monotonic()`."""
        self._rows = RATE_MEMORY * self._rows + rows
        self._s = RATE_MEMORY * self._s + run_s
        self._runs += 1
        if self._varied:
            return
        size = rows.bit_length()
        self._measured_at = now
        self._measured[size] += 1
        self._least_s[size] = min(self._least_s[size] * FORGETTING, run_s)
        before = self._run_s[size]
        self._run_s[size] = run_s if before == NEVER else RATE_MEMORY * before + (1 - RATE_MEMORY) * run_s

    def queue_s(self, rows: int) -> float:
        """Seconds until so many rows have been run; 0 before the first run."""
        return rows * self._s / self._rows if self._rows else 0.0

    def surely_s(self, rows: int) -> float:
        """As `queue_s`; 0 after few runs."""
        return self.queue_s(rows) if self._runs >= FEW else 0.0

    def run_s(self, rows: int) -> float:
        """Seconds of one run of so many rows; NEVER where none like it has been measured."""
        return self._run_s[rows.bit_length()]

    def least_s(self, rows: int, now: float) -> float:
        """Seconds that a run of so many rows takes at the very least; 0 without recent measurements."""
        size = rows.bit_length()
        known = size < len(self._measured) and self._measured[size] >= FEW and now - self._measured_at <= FRESH_S
        return self._least_s[size] if known else 0.0

    def retry_after_s(self, rows: int) -> float:
        """When a client should come back to a queue of so many rows; a guess before the first run."""
        return min(LONGEST_S, self.queue_s(rows)) if self._rows else UNMEASURED_S
