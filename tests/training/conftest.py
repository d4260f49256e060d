"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(scope="module", autouse=True)
def accelerator_state() -> Iterator[None]:
    """Accelerate keeps the precision of a process's first `Accelerator` and refuses another: each file is a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
