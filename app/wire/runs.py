"""One answer from several runs: what they took together, told in headers and figures."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.manifest import Tensors
from app.engine.model import Model
from app.engine.runner import Answer
from app.wire.context import Context, Trace


@dataclass(slots=True)
class Took:
    """Seconds; rows of the largest run that was shared."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    run_s: float = 0.0
    encode_s: float = 0.0
    batch_rows: int = 0

    def add(self, got: Answer) -> Tensors:
        """One run more; its outputs."""
        self.queue_s += got.queue_s
        self.run_s += got.run_s
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
