"""Waiting that ends when it is of no use any more."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from app.core.errors import TooLate
from app.web.waiting import until


def test_what_is_waited_for_beyond_the_deadline_is_given_up_and_told() -> None:
    given_up = False

    async def wait() -> None:
        nonlocal given_up
        async with until(monotonic(), "pictures were being read"):
            try:
                await asyncio.Event().wait()
            finally:
                given_up = True

    with pytest.raises(TooLate, match="pictures were being read until the deadline"):
        asyncio.run(wait())
    assert given_up


def test_what_times_out_by_itself_is_not_taken_for_the_deadline() -> None:
    async def wait() -> None:
        async with until(monotonic() + 60, "nothing"):
            raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        asyncio.run(wait())
