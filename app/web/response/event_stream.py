"""Long work as `text/event-stream`: an event for each step, then one with the result (WHATWG HTML, 9.2).

    event: step      {"step": 3, "steps": 16, "left_s": 0.21, "preview": ...}
    event: result    what the work returned
    event: error     a problem, as it would have been answered
    : waiting        nothing has happened for a while, the line is alive

Other work has events of its own: `describe` makes them of its steps, `ending` of its result.

The answer begins with the first event. Work that fails before it is answered with the status that it would have had
without a stream: 429 for a full queue, 504 for a deadline that is out of reach.

Nobody waits for the reader. Steps are left in a slot of one, which the newest takes; whoever reads slowly gets fewer of
them, and the result. A client that hangs up cancels the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, Final

import pydantic_core
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.core.errors import LecternError
from app.core.manifest import Tensors
from app.web.request.media_types import EVENT_STREAM
from app.web.request.trace import Trace
from app.web.response.problem import problem_details

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 5.0

OnStep = Callable[[int, Tensors], None]
Work = Callable[[OnStep], Awaitable[Mapping[str, Any]]]
Preview = Callable[[Tensors], Awaitable[Any]]
Events = Sequence[tuple[str, Any]]
"""Names and JSON values of events that follow each other."""


class EventStream(StreamingResponse):
    """The response of a route that has read the whole body.

    Args:
        work: does it and gives the result, as JSON values. It is given what to call after each step, in this event
            loop: the step's number, from 1, and its outputs.
        steps: how many there will be; not needed with `describe`.
        preview: makes JSON of a step's outputs; called for steps that are sent, never for those that are skipped.
        describe: makes the events of a step in place of `step`; called for steps that are sent.
        ending: makes the last events in place of `result`.
        failure: makes the data of an `error`, in place of a problem.
        heartbeat_s: silence after which a comment is sent.
        held: entered when the response is sent and left at its end: what must not go away meanwhile.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        work: Work,
        *,
        steps: int = 0,
        preview: Preview | None = None,
        describe: Callable[[int, Tensors], Awaitable[Events]] | None = None,
        ending: Callable[[Mapping[str, Any]], Events] | None = None,
        failure: Callable[[BaseException], Mapping[str, Any]] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        held: AbstractContextManager[object, bool | None] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._work = work
        self._steps = steps
        self._preview = preview
        self._describe = describe or self._as_step
        self._ending = ending or _as_result
        self._failure = failure
        self._heartbeat_s = heartbeat_s
        self._held = held or nullcontext()
        self._began = perf_counter()
        self._slot: tuple[int, Tensors] | None = None
        self._news = asyncio.Event()
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work, and send an event for each step.

        Raises:
            ClientDisconnect: the client hung up.
            Exception: what the work raised before the first event.
        """
        with self._held:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._work(self._on_step))
        gone = asyncio.ensure_future(_until_gone(receive))
        gone.add_done_callback(lambda _: work.cancel())  # at once, also while the reader holds us up
        for task in (work, gone):
            task.add_done_callback(lambda _: self._news.set())
        try:
            await self._send_events(work, gone, send)
        except Exception as error:
            if not self._started or isinstance(error, ClientDisconnect):
                raise
            request_id = Trace.of(scope).request_id
            if not isinstance(error, LecternError):
                log.exception("unforeseen %s in the stream of request %s", type(error).__name__, request_id)
            problem = self._failure(error) if self._failure else problem_details(error, request_id)
            await self._write(send, _event("error", problem), more=False)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _on_step(self, step: int, outputs: Tensors) -> None:
        self._slot = (step, outputs)
        self._news.set()

    async def _send_events(
        self, work: asyncio.Future[Mapping[str, Any]], gone: asyncio.Future[None], send: Send
    ) -> None:
        while not work.done():
            try:
                await asyncio.wait_for(self._news.wait(), self._heartbeat_s)
            except TimeoutError:
                await self._write(send, b": waiting\n\n")
                continue
            self._news.clear()
            slot, self._slot = self._slot, None
            if slot is not None:
                for event in await self._describe(*slot):
                    await self._write(send, _event(*event))
        if gone.done():
            raise ClientDisconnect
        last = b"".join([_event(*event) for event in self._ending(work.result())])
        await self._write(send, last, more=False)

    async def _as_step(self, step: int, outputs: Tensors) -> Events:
        left_s = (perf_counter() - self._began) / step * (self._steps - step)
        event = {"step": step, "steps": self._steps, "left_s": round(left_s, 3)}
        return [("step", event if self._preview is None else event | {"preview": await self._preview(outputs)})]

    async def _write(self, send: Send, data: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": data, "more_body": more})


def _as_result(result: Mapping[str, Any]) -> Events:
    return [("result", result)]


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), pydantic_core.to_json(data))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
