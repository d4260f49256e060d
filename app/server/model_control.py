"""Models loaded and unloaded on request, in every worker and in one order.

The worker that got the request does it first and then reports it to the parent. The parent has all workers do the same
and answers when they have. Two workers with opposite requests at once would end up opposite if each informed the other,
so both repeat what reached the parent last. Doing it twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.server.worker_slot import WorkerSlot


@dataclass
class _Pending:
    """A change that is being made.

    Attributes:
        requester: the worker that reported it; None where it is gone or there was none.
        requester_number: the requester's own number for it.
        left: workers that have not made it yet.
        why: what went wrong, a sentence for each worker.
    """

    requester: WorkerSlot | None
    requester_number: int
    left: set[WorkerSlot]
    why: list[str] = field(default_factory=list)


class ModelControl:
    """The parent's part.

    Args:
        slots: of all workers.
    """

    def __init__(self, slots: Iterable[WorkerSlot]) -> None:
        self._slots = tuple(slots)
        self._last: dict[str, str] = {}  # what was done last, by the name of the model
        self._requesters: dict[str, set[WorkerSlot]] = {}
        self._pending: dict[int, _Pending] = {}
        self._number = 0

    def started(self, slot: WorkerSlot) -> bool:
        """Send a new worker all changes from before it started; returns whether there are none."""
        for name, control in self._last.items():
            self._start(control, name, {slot}, None, 0)
        return not self._last

    def requested(self, slot: WorkerSlot, message: dict[str, Any]) -> None:
        """A worker got a request and has carried it out: send it to the others."""
        control, name = message["control"], message["name"]
        self._last[name] = control
        requesters = self._requesters.setdefault(name, set())
        requesters.add(slot)
        # A worker that alone got requests for this name need not repeat its own.
        others = {other for other in self._slots if other.report and other.has_channel}
        self._start(control, name, others if requesters != {slot} else others - {slot}, slot, message["number"])

    def done(self, slot: WorkerSlot, message: dict[str, Any]) -> bool:
        """A worker has made a change; returns whether it has none left to make."""
        self._end(message["number"], slot, message["why"])
        return not any(slot in change.left for change in self._pending.values())

    def died(self, slot: WorkerSlot) -> None:
        """A worker is gone: nobody waits for it any more."""
        for number, change in list(self._pending.items()):
            if change.requester is slot:
                change.requester = None
            self._end(number, slot, "")

    def _start(self, control: str, name: str, left: set[WorkerSlot], requester: WorkerSlot | None, number: int) -> None:
        self._number += 1
        self._pending[self._number] = _Pending(requester, number, left)
        for slot in left:
            slot.send(json_line(control=control, name=name, number=self._number))
        self._answer(self._number)

    def _end(self, number: int, slot: WorkerSlot, why: str) -> None:
        change = self._pending.get(number)
        if change is None:
            return
        if why and slot in change.left:
            change.why.append(f"worker {slot.number}: {why}")
        change.left.discard(slot)
        self._answer(number)

    def _answer(self, number: int) -> None:
        change = self._pending[number]
        if not change.left:
            del self._pending[number]
            if change.requester is not None:
                change.requester.send(json_line(done=change.requester_number, why=change.why))


def json_line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"
