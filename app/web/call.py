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

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.codecs.audio import Clip
from app.core.errors import TooLarge, TooLate
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
from app.web.request.payload import SMALL_BODY, Payload, parse
from app.web.request.trace import CONNECTION, TRACE, Trace
from app.web.response.encoded import EncodedResponse

T = TypeVar("T")


class Connection(Protocol):
    """A connection that cancels the task which answers a call, where it waits for a model, when its client hangs up.

    Attributes:
        waiting: set while it does; the connection takes it back as it cancels.
    """

    task: asyncio.Task[Any] | None
    waiting: bool


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
    deadline = 0.0
    priority = NORMAL
    decode_s = queue_s = run_s = encode_s = 0.0
    batch_rows = 0
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
        payload = await self.offload(work, inline=len(body) <= SMALL_BODY or kind not in (JSON, FORM))
        self.options = payload.options
        return payload

    async def decode(
        self, payload: Payload, work: Callable[[int], T], *, max_pixels: int, until_deadline: bool = True
    ) -> T:
        """What `work` makes of a payload's pictures, given the most pixels that it may decode: at once where these are
        few, else in a thread.

        Raises:
            ClientError: as `work`.
            TooLate: the deadline passed first, where `until_deadline`.
        """
        if payload.small:
            try:
                return work(min(SMALL_PIXELS, max_pixels))
            except TooLarge:  # few bytes, many pixels
                pass
        waits = "pictures were being read" if until_deadline else ""
        return await self.offload(partial(work, max_pixels), waits=waits)

    async def decode_rows(
        self, payload: Payload, graph: str, picture: Picture | None = None, *, until_deadline: bool = False
    ) -> NDArray[Any]:
        """The rows of one graph of the leased model.

        Args:
            picture: how a picture becomes a row of that graph; the model's own where none is given.

        Raises:
            ClientError, TooLate: as `decode`.
        """
        manifest, max_rows = self.model.manifest, self.limits.max_rows
        picture, spec = picture or manifest.picture, manifest.graphs[graph].inputs[0]

        def work(max_pixels: int) -> NDArray[Any]:
            return images.decode(payload, picture, spec, max_rows=max_rows, max_pixels=max_pixels)

        return await self.decode(payload, work, max_pixels=self.limits.max_pixels, until_deadline=until_deadline)

    async def decode_recordings(self, payload: Payload, sound: Sound) -> list[Clip]:
        """A payload's recordings as a model takes them, read in a thread.

        Raises:
            ClientError, TooLate: as `decode`.
        """
        limits = self.limits

        def work() -> list[Clip]:
            return sounds.recordings(payload, sound, max_rows=limits.max_rows, max_s=limits.max_seconds)

        return await self.offload(work, inline=payload.small, waits="sound was being read")

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
            model.check_room(graph)
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
        connection = self._connection
        if connection is None:
            return
        if connection.waiting:
            connection.waiting = False
            return
        task = connection.task
        assert task is not None
        # Whoever else cancelled the task meanwhile (a server that stops) is not kept from it.
        if task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientDisconnect from None

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
        return {"deadline": self.deadline, "priority": self.priority, "of": self.trace.rows or 0}

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

    async def offload(self, work: Callable[[], T], *, inline: bool = False, waits: str = "") -> T:
        """`work()`, in a thread unless it is quick enough to be done `inline`, on the event loop.

        Args:
            waits: ends the wait at the deadline, and says who was at what then.

        Raises:
            TooLate: the deadline passed first.
        """
        if inline:
            return work()
        loop, pool = asyncio.get_running_loop(), self.context.pool
        if not waits:
            return await loop.run_in_executor(pool, work)
        async with until(self.deadline, waits):
            return await loop.run_in_executor(pool, work)

    async def prepare(self, work: Callable[[], T]) -> T:
        """`work()` on what the request brought, in a thread; its time counts as decoding.

        Raises:
            TooLate: the deadline passed first.
        """
        started = perf_counter()
        done = await self.offload(work, waits="pictures were being read")
        self.decode_s += perf_counter() - started
        return done

    async def encode(self, write: Callable[[], T], graph: str, *, inline: bool) -> T:
        """What `write` makes of the outputs, and the end of the call's time.

        Args:
            graph: to which the time of reading and writing is attributed.
        """
        started = perf_counter()
        content = await self.offload(write, inline=inline)
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
        inline: bool,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> EncodedResponse:
        """200 with what `write` makes, and with the headers of every task.

        Args:
            headers: further ones, in lower case.
        """
        content = await self.encode(write, graph, inline=inline)
        model = self.model
        head = (
            f"content-type: {self.media_type}\r\n"
            f"server-timing: decode;dur={self.decode_s * 1e3:.3f}, queue;dur={self.queue_s * 1e3:.3f}, "
            f'run;dur={self.run_s * 1e3:.3f}, rows;desc="batch of {self.batch_rows}"\r\n'
            f"x-model: {model.name}/{model.version}\r\nx-device: {model.device}\r\n"
        ).encode("ascii")
        return EncodedResponse(content, head + b"".join([b"%b: %b\r\n" % header for header in headers]))


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in their order. What is left is cancelled where one raises, or the caller is cancelled."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@asynccontextmanager
async def until(deadline: float, what: str) -> AsyncIterator[None]:
    """Around waiting that is of no use after `deadline`, a `time.monotonic()`; `what` says who was at what then.

    Raises:
        TooLate: it has passed.
    """
    try:
        async with asyncio.timeout(deadline - monotonic()) as patience:
            yield
    except TimeoutError:
        if not patience.expired():
            raise
        raise TooLate(
            f"{what} until the deadline", subject="deadline", expected="an answer before it", got="none"
        ) from None
