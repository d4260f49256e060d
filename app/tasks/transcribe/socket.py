"""WS /v1/transcribe: a microphone's samples in, words out while they are heard.

    in     binary: little-endian samples of 16 bits, of any number; text: {"event": "end"}
    out    {"event": "partial", "text", "stable"}   whenever the words change
           {"event": "final", ...}                  the answer of POST /v1/transcribe; then the server closes
           {"event": "error", ...}                  a problem; then the server closes

Each piece of sound is one row of a run, which other sessions share; there is no timer. Whoever sends faster than is
heard is not read from. A server that shuts down says what it has heard, and closes with 1012.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Final

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.codecs.audio import pcm16
from app.codecs.audio.limits import MAX_RATE, MIN_RATE
from app.codecs.audio.live import LiveResampler
from app.core.errors import LecternError, Stalled, TooLarge, TooLate, Unavailable, invalid, shown
from app.core.manifest import Tensors
from app.engine.process import give_back_memory
from app.tasks.transcribe.outcome import to_values
from app.tasks.transcribe.readings import readings
from app.web.call import Call
from app.web.request.head import deadline_and_priority
from app.web.request.model_choice import check_within
from app.web.request.options import Known, from_query
from app.web.request.trace import CLOSING
from app.web.response.problem import problem_details
from app.web.speech.live import Live
from app.web.speech.recognize import OUTPUT, STREAMER, chunk_of, first_states, steps_of, streaming_model
from app.web.speech.transcript import Transcript
from app.web.work_pool import SOUND

log = logging.getLogger(__name__)

OPTIONS: Final[Known] = {"model": str, "version": str, "rate": int, "alternatives": int}
QUICK: Final = 1 << 14  # samples that are resampled on the event loop; more in a thread
MUCH_BYTES: Final = 8 << 20
QUEUED: Final = 4  # messages that wait to be heard; with so many no more are read
DONE, SHUT_DOWN, BROKEN = 1000, 1012, 1011
CLOSE_CODES: Final = {408: 1008, 413: 1009, 429: 1013, 500: BROKEN, 503: SHUT_DOWN, 504: 1013}
"""By status, RFC 6455 and its registry: 1008 is a fault of the client, 1009 too much, 1013 "try again later"."""
AS_FILE: Final = "post it a whole recording"
REASON_BYTES: Final = 120  # of a close frame, with its code less than 126


async def listen(call: Call, socket: WebSocket) -> None:
    """One session from its first message to its close."""
    await socket.accept()
    session = None
    try:
        session = _Session(call, socket)
        with call.lease(session.model, STREAMER):
            transcript = await session.serve()
        await _send(socket, "final", to_values(call.model, [transcript], [session.busy_s / transcript.duration_s]))
        await socket.close(SHUT_DOWN if session.shut_down else DONE)
    except (ClientDisconnect, WebSocketDisconnect):
        return
    except Exception as error:
        if not isinstance(error, LecternError):
            log.exception("unforeseen %s in session %s", type(error).__name__, call.trace.request_id)
        await _refuse(call, socket, error)
    finally:
        if session is not None and session.bytes_came > MUCH_BYTES:
            # Messages are too small to go back to the system by themselves: twenty sessions of 30 MB that broke off
            # in the middle left the process 250 MB larger each time.
            with suppress(RuntimeError):  # the server has ended meanwhile
                call.context.pool.submit(give_back_memory)


async def _refuse(call: Call, socket: WebSocket, error: Exception) -> None:
    problem = problem_details(error, call.trace.request_id)
    reason = problem["detail"].encode("ascii", "replace")[:REASON_BYTES].decode("ascii")
    try:
        await _send(socket, "error", problem)
        await socket.close(CLOSE_CODES.get(problem["status"], 1008), reason)
    except WebSocketDisconnect:
        pass


async def _send(socket: WebSocket, event: str, values: Mapping[str, Any]) -> None:
    await socket.send_text(pydantic_core.to_json({"event": event, **values}).decode())


class _Session:
    """What is heard of one microphone.

    Attributes:
        busy_s: seconds that were spent on what came.
        bytes_came: of sound.
        shut_down: it ends because the server does.
    """

    busy_s = 0.0
    bytes_came = 0
    shut_down = False

    def __init__(self, call: Call, socket: WebSocket) -> None:
        call.options = from_query(socket.scope["query_string"], OPTIONS)
        _, call.priority = deadline_and_priority(call.trace, call.limits)
        self.model = streaming_model(call, call.choose_model("transcribe", "audio"), instead=AS_FILE)
        manifest, sound = self.model.manifest, self.model.manifest.sound
        assert sound is not None
        rate = int(call.options.get("rate", sound.rate))
        check_within("rate", rate, MIN_RATE, MAX_RATE)
        self._call, self._socket, self._limits = call, socket, call.limits
        self._rate, self._model_rate = rate, sound.rate
        self._n = readings(call.options)
        self._resampler = LiveResampler(rate, sound.rate)
        self._chunk, self._states = chunk_of(manifest), first_states(manifest)
        self._came: asyncio.Queue[NDArray[np.float32] | None] = asyncio.Queue(QUEUED)

    async def serve(self) -> Transcript:
        """Hear until the client or the server ends it: what was said.

        Raises:
            ClientError, Busy, Unavailable, TooLate, InferenceFailed, ClientDisconnect, WebSocketDisconnect.
        """
        call = self._call
        call.decoded(1)
        self._live = Live(call, self._n)
        closing: asyncio.Event = self._socket.scope.get(CLOSING) or asyncio.Event()
        hear, read = asyncio.ensure_future(self._hear()), asyncio.ensure_future(self._read())
        close: asyncio.Future[Any] = asyncio.ensure_future(closing.wait())
        waiting: set[asyncio.Future[Any]] = {hear, read, close}
        done: set[asyncio.Future[Any]] = set()
        until = monotonic() + self._limits.max_seconds + self._limits.request_timeout_s
        try:
            while not hear.done():
                done, _ = await asyncio.wait(waiting, timeout=until - monotonic(), return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    most = f"{self._limits.max_seconds + self._limits.request_timeout_s:g} s"
                    raise TooLate(f"the session has been open for {most}, longer than any may be", subject="session")
                if read in done and not hear.done():
                    read.result()  # it only ends by an error
                if close in done and not self.shut_down:
                    self.shut_down = True
                    waiting -= {read, close}
                    await self._stop(read)
                    # A task: where hearing fails meanwhile, nobody takes from a full queue.
                    close = asyncio.ensure_future(self._came.put(None))
            return hear.result()
        finally:
            await self._stop(hear, read, close)
            # An error of theirs holds this frame, which would hold them: the sound that waits would stay until the
            # collector comes by.
            waiting.clear()
            del hear, read, close, done

    @staticmethod
    async def _stop(*tasks: asyncio.Future[Any]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        """Messages to samples, as long as there is room."""
        most, left, came, ended = self._limits.max_seconds * self._rate, b"", 0, False
        while True:
            try:
                async with asyncio.timeout(None if ended else self._limits.body_timeout_s):
                    message = await self._socket.receive()
            except TimeoutError:
                patience = f"{self._limits.body_timeout_s:g} s"
                detail = f"nothing came for {patience}"
                raise Stalled(detail, subject="message", expected=f"sound within {patience}", got="none") from None
            if message["type"] == "websocket.disconnect":
                raise ClientDisconnect
            data = message.get("bytes")
            if ended:
                raise invalid("message", expected="none after the end", got="one more", where="the message")
            if data is None:
                _check_end(message["text"])
                ended = True
                await self._came.put(None)
                continue
            self.bytes_came += len(data)
            data = left + data
            whole = len(data) // 2 * 2
            left, came = data[whole:], came + whole // 2
            if came > most:
                limit = f"{self._limits.max_seconds:g} s"
                detail = f"more than {limit} of sound came, the limit of one session"
                raise TooLarge(detail, subject="message", expected=f"at most {limit} of sound", got="more")
            await self._came.put(pcm16(data[:whole]))

    async def _hear(self) -> Transcript:
        """Samples to words, a piece of the model's size at a time."""
        heard, left = 0, np.zeros(0, np.float32)
        while (samples := await self._came.get()) is not None:
            more = await self._call.offload(
                partial(self._resampler.take, samples),
                size=SOUND * len(samples),
                inline=len(samples) <= QUICK,
                owed=True,
            )
            heard += len(more)
            left = np.concatenate([left, more])
            while len(left) >= self._chunk:
                await self._run(left[: self._chunk])
                left = left[self._chunk :]
        rest = self._resampler.take(np.zeros(0, np.float32), last=True)
        heard, left = heard + len(rest), np.concatenate([left, rest])
        if not heard and self.shut_down:
            raise Unavailable("the server is shutting down, and has heard nothing yet")
        if not heard:
            raise invalid("message", expected="sound before the end", got="none", where="the sound")
        wanted = steps_of(self.model.manifest, heard)
        while self._live.steps < wanted:
            piece, left = left[: self._chunk], left[self._chunk :]
            await self._run(np.pad(piece, (0, self._chunk - len(piece))), wanted - self._live.steps)
        self._call.deadline = monotonic() + self._limits.request_timeout_s
        return await self._live.finish(heard / self._model_rate)

    async def _run(self, piece: NDArray[np.float32], most: int | None = None) -> None:
        """One run, whose outputs are searched, `most` of them; a message where the words have changed."""
        call, live, began = self._call, self._live, perf_counter()
        call.deadline = monotonic() + self._limits.request_timeout_s
        call.decode_s = call.queue_s = call.run_s = 0.0
        inputs: Tensors = {"sound": piece[None], **self._states}
        outputs = await call.run(STREAMER, inputs)
        self._states = {name: outputs[f"next_{name}"] for name in self._states}
        live.add(outputs[OUTPUT][0, :most])
        searching = perf_counter()
        heard = await live.news()
        call.encode_s = perf_counter() - searching
        call.observe(STREAMER)
        self.busy_s += perf_counter() - began
        if heard is not None:
            await _send(self._socket, "partial", {"text": heard.text, "stable": heard.stable})


def _check_end(text: str) -> None:
    """Raises Unprocessable where a text message is not the one that there is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if value != {"event": "end"}:
        raise invalid("message", expected='{"event": "end"}, or samples in a binary message', got=shown(text))
