"""Pages that are made once, and documents that are made anew at a bounded pace."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from app.engine.catalog import Catalog
from app.pages.kept import ADDRESS, Kept
from app.web.response.paced import REST, Paced


def request(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs})


def kept() -> tuple[Kept, SimpleNamespace, list[int]]:
    catalog, made = SimpleNamespace(generation=1, refused=()), list[int]()

    def make() -> str:
        made.append(catalog.generation)
        return f"<a href='{ADDRESS}/x'>{catalog.generation}</a>"

    return Kept(cast("Catalog", catalog), make, "text/html", {"X-Policy": "none"}), catalog, made


@pytest.mark.anyio
async def test_a_page_is_made_once_for_all_who_ask_and_again_when_what_is_loaded_changed() -> None:
    page, catalog, made = kept()
    answers = await asyncio.gather(*(page.respond(request(), "http://a") for _ in range(20)))
    assert {bytes(answer.body) for answer in answers} == {b"<a href='http://a/x'>1</a>"}
    assert made == [1]
    assert bytes((await page.respond(request(), "http://b")).body) == b"<a href='http://b/x'>1</a>"
    catalog.generation = 2
    assert bytes((await page.respond(request(), "http://a")).body) == b"<a href='http://a/x'>2</a>"
    assert made == [1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_who_has_the_page_is_not_sent_it_again(form: str) -> None:
    page, catalog, _ = kept()
    first = await page.respond(request(), "http://a")
    assert first.headers["x-policy"] == "none"
    again = await page.respond(request(if_none_match=form.format(first.headers["etag"])), "http://a")
    assert (again.status_code, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = await page.respond(request(if_none_match=first.headers["etag"]), "http://b")
    catalog.generation = 2
    newer = await page.respond(request(if_none_match=first.headers["etag"]), "http://a")
    assert (other.status_code, newer.status_code) == (200, 200)


@pytest.mark.anyio
async def test_who_asks_while_it_is_made_is_given_one_that_is_newer() -> None:
    began, may_end, count = asyncio.Event(), asyncio.Event(), 0

    async def make() -> int:
        nonlocal count
        count += 1
        began.set()
        await may_end.wait()
        return count

    paced = Paced(make)
    first = asyncio.create_task(paced.get())
    await began.wait()
    later = [asyncio.create_task(paced.get()) for _ in range(5)]
    left = asyncio.create_task(paced.get())
    await asyncio.sleep(0)
    left.cancel()  # which takes it away from nobody
    may_end.set()
    assert (await first, *await asyncio.gather(*later)) == (1, *[2] * 5)


@pytest.mark.anyio
async def test_it_takes_a_fifth_of_the_time_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    async def make() -> None:
        now[0] += 0.25

    monkeypatch.setattr("app.web.response.paced.perf_counter", lambda: now[0])
    monkeypatch.setattr("app.web.response.paced.asyncio", SimpleNamespace(**(vars(asyncio) | {"sleep": sleep})))
    paced: Paced[Any] = Paced(make)
    for _ in range(4):
        await paced.get()
    assert slept == [0.0, *[REST * 0.25] * 3]


@pytest.mark.anyio
async def test_what_fails_once_is_tried_again() -> None:
    outcomes = iter([ZeroDivisionError(), "made"])

    async def make() -> str:
        if isinstance(outcome := next(outcomes), Exception):
            raise outcome
        return str(outcome)

    paced = Paced(make)
    with pytest.raises(ZeroDivisionError):
        await paced.get()
    assert await paced.get() == "made"
