"""The process that the models live in: how many cores it may use, and how much memory it has."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

CGROUP = Path("/sys/fs/cgroup")
LARGE_BYTES: Final = 4 << 20  # the buffers of ordinary requests are smaller, and are used again
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may keep busy: those it may run on, or fewer where a container's quota says so.

    The runtime's own choice is every core of the machine, each thread pinned to one of them: sixty-four threads that
    are throttled together in a container of two.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # not Linux, no quota, or an older kind of cgroup
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        usable = min(usable, math.ceil(int(quota) / int(period)))
    return max(1, usable)


def resident_bytes() -> int:
    """Memory of this process that is in RAM now, shared libraries included; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Give free pages of the heap back to the system (glibc keeps them).

    Loading leaves twice the weights behind as free memory, in an arena of each thread that loads. Without this, 30
    swaps of an 8 MB model grew a process from 118 to 230 MB; with it, it stays at 96. Takes milliseconds.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps less
        if trim is not None:
            trim(0)


@cache
def return_large_blocks() -> None:
    """From now on blocks above LARGE_BYTES go back to the system as soon as they are freed. Once for the process.

    By default glibc keeps large blocks once the first one is freed: the arena of each thread
    then holds up to twice that size at its end, where `give_back_memory` does not reach. Now and then a swap
    of a model of 24.5 MiB left the process larger by one or two of them.
    """
    if sys.platform == "linux":
        choose = getattr(ctypes.CDLL(None), "mallopt", None)
        if choose is not None:
            choose(_M_MMAP_THRESHOLD, LARGE_BYTES)
            choose(_M_TRIM_THRESHOLD, 2 * LARGE_BYTES)
