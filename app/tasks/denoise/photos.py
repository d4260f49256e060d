"""Photos without their noise, tile by tile.

A few tiles are in the queue at any time, so that memory stays bounded, others have their turns, and who hangs up or
whose deadline passes is not worked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import monotonic
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.errors import Busy, TooLate
from app.core.imaging import opponent_colours
from app.core.manifest import Plane
from app.engine.model import Model
from app.tasks.denoise.noise_level import Sigmas, span_of
from app.tasks.denoise.runs import denoise_rows, estimate, work_on
from app.tasks.denoise.tiled_photo import Photo, Tiles
from app.web.call import Call
from app.web.request.pixels import Pixels
from app.web.waiting import until

LARGE: Final = 1 << 20  # pixels of a photo
LARGE_AT_ONCE: Final = 2  # of one model; each is held as floats, the others wait as they came
AHEAD: Final = 2  # groups in the queue: while one is run the next is there already
LOOKED_AT: Final = 64  # parts of a photo whose noise is estimated
HELD: Final = 64 << 20  # pixels of all photos that one model is at or that wait for it
RETRY_S: Final = 10.0  # after which a few of so many are done
_PREPARED, _HELD = "photos", "photos held"
SURE: Final = 0.1  # of a photo, after which its speed is known

T = TypeVar("T")


@contextmanager
def room(model: Model, photos: Sequence[Pixels]) -> Iterator[None]:
    """Around photos that have been read, until they are done: few bytes may be many pixels, of few tiles in the queue.

    Raises:
        Busy: with those that are there already they are too many pixels.
    """
    held = model.prepared.setdefault(_HELD, Counter[str]())
    assert isinstance(held, Counter)
    pixels = sum(photo.shape[0] * photo.shape[1] for photo in photos)
    if held[_HELD] + pixels > HELD:
        raise Busy(
            f"model '{model.name}' is at photos of {held[_HELD]} pixels, with these {pixels} it would be more than "
            f"the {HELD} that wait at a time",
            retry_after_s=RETRY_S,
        )
    held[_HELD] += pixels
    try:
        yield
    finally:
        held[_HELD] -= pixels


async def restored(
    call: Call, photos: Sequence[Pixels], sigmas: Sigmas | None, *, as_floats: bool
) -> tuple[list[Pixels], Sigmas]:
    """Each photo without noise, and its noise, given or estimated: of its colours, their mean square's
    root.

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: of the runs; TooLate also as soon as it shows.
    """
    plane = call.model.manifest.plane
    assert plane is not None
    results: list[Pixels] = []
    used = np.empty(len(photos), np.float32)
    for i, pixels in enumerate(photos):
        async with _turn(call, pixels):
            photo = await work_on(call, partial(Photo, pixels, plane), pixels.size)
            noise = opponent_colours.noise(photo.channels)  # (C,)
            levels = await _estimated(call, photo, plane) if sigmas is None else sigmas[i] * noise
            used[i] = np.sqrt(np.mean(np.square(levels / noise)))
            await _denoise(call, photo, plane, levels)
            results.append(await work_on(call, partial(photo.restored, as_floats=as_floats), pixels.size))
    return results, used


@asynccontextmanager
async def _turn(call: Call, pixels: Pixels) -> AsyncIterator[None]:
    """Around a photo's floats: large ones wait until few others are at it.

    Raises:
        TooLate: the deadline passed meanwhile.
    """
    if pixels.shape[0] * pixels.shape[1] < LARGE:
        yield
        return
    turns = call.model.prepared.setdefault(_PREPARED, asyncio.Semaphore(LARGE_AT_ONCE))
    assert isinstance(turns, asyncio.Semaphore)
    async with until(call.deadline, f"model '{call.model.name}' was at other large photos"):
        await turns.acquire()
    try:
        yield
    finally:
        turns.release()


async def _estimated(call: Call, photo: Photo, plane: Plane) -> NDArray[np.float32]:
    """Of each plane, the median over parts evenly spread, in proportion to their size: (C,).

    Each for itself: the colours of common photos have another noise than their brightness.
    """
    parts = await work_on(call, lambda: photo.noisy_parts(LOOKED_AT), photo.pixels.size)
    found = []
    for group in _groups(parts, photo, call):
        tiles = await work_on(call, partial(photo.cut_parts, group), len(group) * photo.channels * plane.tile**2)
        found.append((await estimate(call, _as_rows(tiles, plane))).reshape(tiles.shape[:2]))
    sigmas = np.concatenate(found) / np.array([[part.kept] for part in parts])  # (parts, C)
    levels = _median(sigmas, np.array([part.size for part in parts]))
    return np.clip(levels, *span_of(call.model.manifest)).astype(np.float32)


def _median(values: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each column of values (n, C), each as often as its weight (n,) says: (C,)."""
    order = np.argsort(values, axis=0)
    ends = np.cumsum(weights[order], axis=0)
    middles = ends - weights[order] / 2
    half = weights.sum() / 2
    found = zip(middles.T, np.take_along_axis(values, order, axis=0).T, strict=True)
    return np.array([np.interp(half, middle, column) for middle, column in found])


async def _denoise(call: Call, photo: Photo, plane: Plane, levels: NDArray[np.float32]) -> None:
    """All tiles of a photo, run in their order and added to it."""
    waiting: deque[tuple[Sequence[int], asyncio.Task[NDArray[np.float32]]]] = deque()
    began = monotonic()

    async def put_back() -> None:
        group, task = waiting.popleft()
        rows = await task
        tiles = rows.reshape(len(group), photo.channels, plane.tile, plane.tile)
        await work_on(call, lambda: photo.add(tiles, group[0]), tiles.size)
        _check_rate(began, group[-1] + 1, len(photo), call.deadline)

    try:
        for group in _groups(range(len(photo)), photo, call):
            if len(waiting) == AHEAD:
                await put_back()
            x = _as_rows(await _cut(call, photo, plane, group), plane)
            sigma = np.tile(levels, len(group)).astype(np.float32)
            waiting.append((group, asyncio.create_task(denoise_rows(call, x, sigma))))
        while waiting:
            await put_back()
    finally:
        left = [task for _, task in waiting]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _groups(items: Sequence[T], photo: Photo, call: Call) -> Iterator[Sequence[T]]:
    """Tiles or parts whose planes make one run at most."""
    most = max(1, call.model.manifest.max_rows // photo.channels)
    return (items[at : at + most] for at in range(0, len(items), most))


async def _cut(call: Call, photo: Photo, plane: Plane, indices: Sequence[int]) -> Tiles:
    return await work_on(call, lambda: photo.cut(indices), len(indices) * photo.channels * plane.tile**2)


def _as_rows(tiles: Tiles, plane: Plane) -> NDArray[np.float32]:
    return tiles.reshape(-1, plane.tile, plane.tile, 1)


def _check_rate(began: float, done: int, of: int, deadline: float) -> None:
    """Raises TooLate where the rest, at the rate so far, would end after the deadline."""
    now = monotonic()
    left_s, more_s = deadline - now, (now - began) / done * (of - done)
    if SURE * of <= done < of and more_s > left_s:
        raise TooLate(
            f"after {now - began:.1f} s {done} of {of} tiles are done, the others would take about {more_s:.1f} s, "
            f"the deadline is {max(0.0, left_s):.1f} s away",
            subject="deadline",
            expected=f"an answer within {max(0.0, left_s) * 1e3:.0f} ms",
            got=f"{more_s * 1e3:.0f} ms expected",
        )
