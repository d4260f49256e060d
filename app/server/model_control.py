"""What is loaded and unloaded by hand, made known by the parent to every worker, in one order.

The worker that was asked does it first, then asks the parent, who has all of them do the same and answers when they
have. Two that are asked for opposite things at once would end up opposite if each told the other; so both do again
what the parent heard last. Doing it twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.server.worker_slot import WorkerSlot


@dataclass
class _Open:
    """One that is being done: who asked, the asker's own number for it, who has not done it yet, what went wrong."""

    asker: WorkerSlot | None
    asked: int
    left: set[WorkerSlot]
    why: list[str] = field(default_factory=list)


class ModelControl:
    """The parent's part.

    Args:
        places: of all workers.
    """

    def __init__(self, places: Iterable[WorkerSlot]) -> None:
        self._places = tuple(places)
        self._last: dict[str, str] = {}  # what was done last, by the name of the model
        self._askers: dict[str, set[WorkerSlot]] = {}
        self._open: dict[int, _Open] = {}
        self._number = 0

    def started(self, place: WorkerSlot) -> bool:
        """Tell a new worker all that was done before it came; whether it has nothing to do."""
        for name, control in self._last.items():
            self._begin(control, name, {place}, None, 0)
        return not self._last

    def asked(self, place: WorkerSlot, told: dict[str, Any]) -> None:
        """A worker was asked, and has done it."""
        control, name = told["control"], told["name"]
        self._last[name] = control
        askers = self._askers.setdefault(name, set())
        askers.add(place)
        # Who alone was ever asked has nothing to hear of it but its own words.
        others = {other for other in self._places if other.told and other.is_taken}
        self._begin(control, name, others if askers != {place} else others - {place}, place, told["number"])

    def done(self, place: WorkerSlot, told: dict[str, Any]) -> bool:
        """A worker did what it was told; whether it has nothing left to do."""
        self._end(told["number"], place, told["why"])
        return not any(place in one.left for one in self._open.values())

    def died(self, place: WorkerSlot) -> None:
        """Nobody waits for it any more."""
        for number, one in list(self._open.items()):
            if one.asker is place:
                one.asker = None
            self._end(number, place, "")

    def _begin(self, control: str, name: str, left: set[WorkerSlot], asker: WorkerSlot | None, asked: int) -> None:
        self._number += 1
        self._open[self._number] = _Open(asker, asked, left)
        for place in left:
            place.say(line(control=control, name=name, number=self._number))
        self._answer(self._number)

    def _end(self, number: int, place: WorkerSlot, why: str) -> None:
        one = self._open.get(number)
        if one is None:
            return
        if why and place in one.left:
            one.why.append(f"worker {place.number}: {why}")
        one.left.discard(place)
        self._answer(number)

    def _answer(self, number: int) -> None:
        one = self._open[number]
        if not one.left:
            del self._open[number]
            if one.asker is not None:
                one.asker.say(line(done=one.asked, why=one.why))


def line(**said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"
