"""One answer from several runs: what they took together, told in headers and figures."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.manifest import Tensors
from app.engine.model import Model
from app.engine.runner import Answer
from app.web.context import Context, Trace


@dataclass(slots=True)
class Took:
    """Seconds, each of which is counted once where runs overlap: as running if any was, else as waiting. Rows of the
    largest run that was shared."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    run_s: float = 0.0
    encode_s: float = 0.0
    batch_rows: int = 0
    _until: float = 0.0  # what was before is counted

    def add(self, got: Answer) -> Tensors:
        """One run more; its outputs."""
        begin = max(got.queued_at, self._until)
        if got.ended_at > begin:
            waited = max(0.0, got.queued_at + got.queue_s - begin)
            self.queue_s += waited
            self.run_s += min(got.run_s, got.ended_at - begin - waited)
            self._until = got.ended_at
        self.batch_rows = max(self.batch_rows, got.batch_rows)
        return got.tensors

    def observe(self, context: Context, trace: Trace, model: Model, graph: str) -> None:
        """Write it down, once for the request; `graph` is the one that is said to have been read for and written."""
        context.stages.observe(
            trace,
            model,
            graph,
            decode_s=self.decode_s,
            queue_s=self.queue_s,
            run_s=self.run_s,
            encode_s=self.encode_s,
        )

    def headers(self, form: str, model: Model) -> list[tuple[bytes, bytes]]:
        """Of the answer: its form, where the time went, who answered, and where."""
        timing = (
            f"decode;dur={self.decode_s * 1e3:.3f}, queue;dur={self.queue_s * 1e3:.3f}, "
            f'run;dur={self.run_s * 1e3:.3f}, rows;desc="batch of {self.batch_rows}"'
        )
        return [
            (b"content-type", form.encode("ascii")),
            (b"server-timing", timing.encode("ascii")),
            (b"x-model", f"{model.name}/{model.version}".encode("ascii")),
            (b"x-device", model.device.encode("ascii")),
        ]
