"""Words of a streaming model while they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from app.codecs.audio import Clip
from app.core.decoding.streaming import stream
from app.core.decoding.tokens import Partial, Token
from app.core.manifest import Tensors
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.speech.recognize import OUTPUT, SEARCHING, STREAMER, beam, checked, chunk_of, first_states, late, steps_of
from app.web.speech.transcript import Piece, Transcript, transcript
from app.web.work_pool import SEARCHED


@dataclass(frozen=True, slots=True)
class Heard:
    """The words so far; those at the beginning that no longer change."""

    text: str
    stable: str


class Live:
    """One recording that is being heard by the leased model of a call.

    Args:
        n: readings in the transcript.
    """

    def __init__(self, call: Call, n: int) -> None:
        self._call = call
        self._manifest = call.model.manifest
        self._n = n
        self._beam = beam(self._manifest, n)
        self._waiting: list[NDArray[Any]] = []
        self._told = Heard("", "")
        self._searching = asyncio.Lock()  # the search is fed in threads, in order
        self.steps = 0
        """Outputs that came."""

    def add(self, log_probabilities: NDArray[Any]) -> None:
        """The next outputs (K, labels + 1), to be searched by `news` or `finish`."""
        self.steps += len(log_probabilities)
        self._waiting.append(log_probabilities)

    async def news(self) -> Heard | None:
        """The words so far; None where they are those that were told last.

        Raises:
            TooLate: the call's deadline passed first.
        """
        async with self._searching:
            waiting, self._waiting = self._waiting, []
            if not waiting:
                return None
            found = await self._call.offload(
                lambda: self._feed(waiting), size=SEARCHED * len(waiting), doing=SEARCHING, owed=True
            )
            assert found is not None
            heard = Heard(self._text(found.tokens), self._text(found.tokens[: found.stable]))
            if heard == self._told:
                return None
            self._told = heard
            return heard

    async def finish(self, duration_s: float) -> Transcript:
        """The transcript, once all outputs came; raises as `news`."""
        async with self._searching:
            waiting, self._waiting = self._waiting, []

            def work() -> Transcript:
                self._feed(waiting)
                piece = Piece(self._beam.finish(), 0.0, duration_s)
                return transcript([piece], self._manifest, duration_s=duration_s, n=self._n)

            return await self._call.offload(work, size=SEARCHED * len(waiting), doing=SEARCHING, owed=True)

    async def transcribe(self, clip: Clip, on_step: OnStep) -> Transcript:
        """A whole recording; `on_step` is called after each piece of it, when there may be news.

        Raises:
            Busy, Unavailable, TooLate, InferenceFailed: as `Call.sample`.
        """
        manifest = self._manifest
        wanted = steps_of(manifest, len(clip.samples))

        def add(step: int, outputs: Tensors) -> None:
            self.add(outputs[OUTPUT][0, : wanted - self.steps])
            on_step(step, outputs)

        sampler = stream(clip.samples, chunk=chunk_of(manifest), states=first_states(manifest), flush=late(manifest))
        await self._call.sample(STREAMER, sampler, add)
        return await self.finish(clip.duration_s)

    def _feed(self, waiting: Sequence[NDArray[Any]]) -> Partial | None:
        found = None
        for log_probabilities in waiting:
            found = self._beam.feed(checked(self._call.model, log_probabilities))
        return found

    def _text(self, tokens: Sequence[Token]) -> str:
        return " ".join([self._manifest.labels[token.label] for token in tokens])
