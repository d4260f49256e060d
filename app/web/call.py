"""One request's life, from its first byte to its response: what it asks, who answers it, how long that took.

A handler reads the call, chooses a model, runs graphs inside `with call.lease(model, graph):`, and responds:

    payload = await call.read()
    model = call.choose_model("classify", payload.modality)
    with call.lease(model, GRAPH):
        rows = await call.decode_rows(payload, GRAPH)
        outputs = await call.run(GRAPH, {"image": rows})
    return await call.respond(lambda: encode(outputs), GRAPH, inline=True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.types import Receive, Scope

from app.codecs.audio import Clip
from app.core.errors import TooLarge
from app.core.manifest import Modality, Picture, Sound, Task, Tensors
from app.core.sampling.samplers import Sampler
from app.engine.model import Lease, Model
from app.engine.queue import NORMAL, OnStep
from app.engine.runner import Answer
from app.web.context import Context
from app.web.request import images, sounds
from app.web.request.body import read_body
from app.web.request.form import RequestForm
from app.web.request.head import choose, deadline_and_priority, media_type
from app.web.request.images import SMALL_PIXELS
from app.web.request.json_size import SMALL_BYTES, bounds_for
from app.web.request.media_types import FORM, JSON
from app.web.request.model_choice import choose_model
from app.web.request.options import Option, from_query
from app.web.request.payload import SMALL_BODY, SMALL_ITEMS, Payload, RawFile, parse
from app.web.request.trace import CONNECTION, TRACE, Trace
from app.web.response.encoded import EncodedResponse
from app.web.waiting import NEVER, Connection, cancelled_with_client, end_wait, together
from app.web.work_pool import LIGHT, SOUND

T = TypeVar("T")


class Call:
    """One request.

    Attributes:
        context: the server's part.
        params: the parts of the path that its pattern names.
        media_type: of the response, as `Accept` wishes it.
        options: from the query and the body.
        deadline: `time.monotonic()` after which the answer is of no use.
        model: that answers; there once it is leased.
        decode_s, queue_s, run_s, encode_s: seconds. Each second is counted once where runs overlap: as running if any
            run was, else as waiting.
        batch_rows: rows of the largest run that was shared.
    """

    model: Model
    media_type = kind = parameters = ""
    deadline = NEVER
    priority = NORMAL
    decode_s = queue_s = run_s = encode_s = 0.0
    batch_rows = 0
    _admitted = False
    _counted_until = 0.0
    _started = 0.0
    _lease: Lease

    def __init__(
        self,
        context: Context,
        scope: Scope,
        receive: Receive,
        *,
        form: RequestForm | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self.context = context
        self.limits = context.limits
        self.scope = scope
        self.receive = receive
        self.form = form
        self.params = params or {}
        self.trace: Trace = scope.get(TRACE) or Trace.of(scope)
        self.options: dict[str, Option] = {}
        self._connection: Connection | None = scope.get(CONNECTION)

    # Reading.

    def read_head(self) -> None:
        """The options of the query, the media types of body and response, the deadline and the priority.

        Raises:
            ClientError: one of them is wrong.
        """
        form, trace = self.form, self.trace
        assert form is not None
        self.media_type = choose(trace.header(b"accept"), form.offers)
        self.options = from_query(self.scope["query_string"], form.options)
        if form.takes:
            self.kind, self.parameters = media_type(trace, form.takes)
        self.deadline, self.priority = deadline_and_priority(trace, self.limits)

    async def read_body(self, *, compressed: bool = False) -> bytes:
        """The body, whole; from here on the time counts as decoding.

        Raises:
            ClientError, ClientDisconnect: as `app.web.request.body.read_body`.
        """
        body = await read_body(self.scope, self.receive, self.limits, compressed=compressed)
        self._started = perf_counter()
        return body

    async def read(self) -> Payload:
        """Head and body, taken apart; its rows are still as they came.

        Raises:
            ClientError, ClientDisconnect: as `read_head`, `read_body` and `app.web.request.payload.parse`.
        """
        self.read_head()
        body = await self.read_body()
        form, kind, max_rows = self.form, self.kind, self.limits.max_rows
        assert form is not None
        values = fields = 0
        if kind == JSON and len(body) > SMALL_BYTES:
            values, fields = bounds_for(self.context.registry.catalog.models, max_rows)
        work = partial(
            parse, kind, self.parameters, body,
            query=self.options, form=form, max_rows=max_rows, max_values=values, max_fields=fields,
        )  # fmt: skip
        inline = len(body) <= SMALL_BODY or kind not in (JSON, FORM)
        payload = await self.offload(work, size=len(body), inline=inline, doing="the body was being read")
        self.options = payload.options
        return payload

    async def decode(self, payload: Payload, work: Callable[[Payload, int], T], *, max_pixels: int) -> list[T]:
        """What `work` makes of a payload's pictures, given some of them and the most pixels that one may have: at once
        where these are few, else in a thread, a part after the other, so that others have their turns.

        Raises:
            ClientError: as `work`.
            Busy, TooLate, ClientDisconnect: as `offload`.
        """
        if payload.small:
            try:
                return [work(payload, min(SMALL_PIXELS, max_pixels))]
            except TooLarge:  # few bytes, many pixels
                pass
        doing = "pictures were being read"
        if not payload.items:
            size = len(payload.rows or b"")
            return [await self.offload(partial(work, payload, max_pixels), size=size, doing=doing)]
        found = []
        look = partial(images.parts, payload, most=LIGHT, max_pixels=max_pixels)
        few = len(payload.items) <= SMALL_ITEMS and not payload.json_bytes
        for part, size in await self.offload(look, size=payload.came_bytes, inline=few, doing=doing):
            found.append(await self.offload(partial(work, part, max_pixels), size=size, doing=doing))
        return found

    async def size_of(self, *files: RawFile) -> int:
        """Pixels of pictures or clips in all their frames, by their headers: `app.web.request.images.size_of`.

        Raises:
            Busy, TooLate, ClientDisconnect: as `offload`.
        """
        came = sum(len(file) for file in files if isinstance(file, bytes | str))
        return await self.offload(partial(images.size_of, files), size=came, inline=came <= SMALL_BODY)

    async def decode_rows(self, payload: Payload, graph: str, picture: Picture | None = None) -> NDArray[Any]:
        """The rows of one graph of the leased model.

        Args:
            picture: how a picture becomes a row of that graph; the model's own where none is given.

        Raises:
            ClientError, Busy, TooLate, ClientDisconnect: as `decode`.
        """
        manifest, max_rows = self.model.manifest, self.limits.max_rows
        picture, spec = picture or manifest.picture, manifest.graphs[graph].inputs[0]

        def work(part: Payload, max_pixels: int) -> NDArray[Any]:
            return images.decode(part, picture, spec, max_rows=max_rows, max_pixels=max_pixels)

        parts = await self.decode(payload, work, max_pixels=self.limits.max_pixels)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def decode_recordings(self, payload: Payload, sound: Sound) -> list[Clip]:
        """A payload's recordings as a model takes them, read in a thread.

        Raises:
            ClientError, TooLate: as `decode`.
        """
        limits = self.limits

        def work() -> list[Clip]:
            return sounds.recordings(payload, sound, max_rows=limits.max_rows, max_s=limits.max_seconds)

        return await self.offload(
            work, size=payload.came_bytes * SOUND, inline=payload.small, doing="sound was being read"
        )

    def decoded(self, rows: int) -> None:
        """So many rows are ready to be run."""
        self.decode_s += perf_counter() - self._started
        self.trace.model, self.trace.rows = self.model.name, rows

    # The model.

    def choose_model(self, task: Task, modality: Modality | None) -> Model:
        """The model that the options name, else the task's default: `app.web.request.model_choice.choose_model`."""
        return choose_model(self.options, self.context.registry, task, modality)

    def lease(self, model: Model, *graphs: str) -> Self:
        """`with call.lease(model, *graphs):` without an `await` since the model was chosen: one that is replaced or
        unloaded meanwhile goes on answering until the block ends. When the client hangs up, what the block awaits is
        cancelled, so that its rows leave the queue before they are run.

        Raises:
            Busy: the queue of one of the graphs is full.
            ClientDisconnect: the client hung up.
        """
        for graph in graphs:
            model.check_room(graph, self.priority)
        self.model = model
        return self

    def __enter__(self) -> Self:
        self._lease = self.model.lease()
        self._lease.__enter__()
        if self._connection is not None:
            self._connection.waiting = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.__exit__(kind, error, trace)
        if self._connection is not None:
            end_wait(self._connection, kind)

    async def run(self, graph: str, tensors: Tensors) -> Tensors:
        """One run of a graph: its outputs.

        Raises:
            Busy, Unavailable, TooLate, InferenceFailed: as `Batcher.submit`.
        """
        return self._count(await self.model.run(graph, tensors, **self._terms()))

    async def run_each(self, graph: str, rows: Sequence[Tensors]) -> list[Tensors]:
        """Runs of a graph, each queued by itself: rows of different lengths share runs as far as that is worth it.

        Raises:
            Busy, Unavailable, TooLate, InferenceFailed: as `run`; the others are cancelled.
        """
        return await together([self.run(graph, tensors) for tensors in rows])

    async def sample(self, graph: str, sampler: Sampler, on_step: OnStep | None = None) -> Tensors:
        """A sampler on a graph to its end: its result.

        Raises:
            Busy, Unavailable, TooLate, InferenceFailed: as `Batcher.sample`.
        """
        answer = await self.model.sample(graph, sampler, on_step=on_step, **self._terms())
        return self._count(answer)

    def _terms(self) -> dict[str, Any]:
        """Of the next run; those after a request's first one are owed to it."""
        owed, self._admitted = self._admitted, True
        return {"deadline": self.deadline, "priority": self.priority, "of": self.trace.rows or 0, "owed": owed}

    def _count(self, answer: Answer) -> Tensors:
        begin = max(answer.queued_at, self._counted_until)
        if answer.ended_at > begin:
            waited = max(0.0, answer.queued_at + answer.queue_s - begin)
            self.queue_s += waited
            self.run_s += min(answer.run_s, answer.ended_at - begin - waited)
            self._counted_until = answer.ended_at
        self.batch_rows = max(self.batch_rows, answer.batch_rows)
        return answer.tensors

    # Other work, and the response.

    async def offload(
        self, work: Callable[[], T], *, size: int = 0, inline: bool = False, doing: str = "", owed: bool = False
    ) -> T:
        """`work()`, in a thread unless it is quick enough to be done `inline`, on the event loop.

        Args:
            size: pixels, values or bytes that it goes through, of what is not done inline.
            doing, owed: as in `WorkPool.run`.

        Raises:
            Busy: more such work waits than the server holds.
            TooLate: the deadline passed first.
            ClientDisconnect: the client hung up.
        """
        if inline:
            return work()
        with cancelled_with_client(self._connection):
            return await self.context.pool.run(work, size=size, deadline=self.deadline, doing=doing, owed=owed)

    async def prepare(self, work: Callable[[], T], size: int) -> T:
        """`work()` on what the request brought, in a thread; its time counts as decoding.

        Raises:
            Busy, TooLate, ClientDisconnect: as `offload`.
        """
        started = perf_counter()
        done = await self.offload(work, size=size, doing="pictures were being read")
        self.decode_s += perf_counter() - started
        return done

    async def encode(self, write: Callable[[], T], graph: str, *, size: int = 0, inline: bool) -> T:
        """What `write` makes of the outputs, and the end of the call's time.

        Args:
            graph: to which the time of reading and writing is attributed.
            size: as in `offload`.
        """
        started = perf_counter()
        content = await self.offload(write, size=size, inline=inline, doing="the answer was being written", owed=True)
        self.encode_s = perf_counter() - started
        self.observe(graph)
        return content

    def observe(self, graph: str) -> None:
        """Report the seconds of each stage, once."""
        self.context.stages.observe(
            self.trace,
            self.model,
            graph,
            decode_s=self.decode_s,
            queue_s=self.queue_s,
            run_s=self.run_s,
            encode_s=self.encode_s,
        )

    async def respond(
        self,
        write: Callable[[], bytes],
        graph: str,
        *,
        size: int = 0,
        inline: bool,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> EncodedResponse:
        """200 with what `write` makes, and with the headers of every task.

        Args:
            size: as in `offload`. headers: further ones, in lower case.
        """
        content = await self.encode(write, graph, size=size, inline=inline)
        model = self.model
        head = (
            f"content-type: {self.media_type}\r\n"
            f"server-timing: decode;dur={self.decode_s * 1e3:.3f}, queue;dur={self.queue_s * 1e3:.3f}, "
            f'run;dur={self.run_s * 1e3:.3f}, rows;desc="batch of {self.batch_rows}"\r\n'
            f"x-model: {model.name}/{model.version}\r\nx-device: {model.device}\r\n"
        ).encode("ascii")
        return EncodedResponse(content, head + b"".join([b"%b: %b\r\n" % header for header in headers]))
