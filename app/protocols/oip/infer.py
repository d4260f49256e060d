"""One inference of the Open Inference Protocol: from the body's first byte to the answer's last."""

from __future__ import annotations

import asyncio
import zlib
from time import perf_counter
from typing import Final

from fastapi import Request, Response

from app.codecs import oip
from app.core.errors import NotFound, TooLarge, TooLate, UnsupportedMedia, shown
from app.core.manifest import Graph
from app.engine.registry import Model
from app.wire.body import header, read_body
from app.wire.context import Context, Limits, Trace
from app.wire.json_size import check_json
from app.wire.waiting import WhileConnected

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
QUICK_BYTES: Final = 64 << 10  # parsed where they arrived; more goes to a thread
WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
COMPRESS_LEVEL: Final = 1  # tensors hardly shrink further, and the time is the server's


def find(context: Context, name: str, version: str | None) -> tuple[Model, str]:
    """The model and which of its graphs is meant.

    Raises:
        NotFound: naming what there is.
    """
    base, _, graph = name.partition(".")
    model = context.registry.get(base, version)
    graphs = model.manifest.graphs
    if not graph and len(graphs) == 1:
        return model, next(iter(graphs))
    if graph not in graphs:
        there = ", ".join(f"{base}.{g}" for g in graphs)
        raise NotFound(f"model '{base}' has the graphs {there}; {shown(name)} is none of them", subject="path")
    return model, graph


async def answer(request: Request, context: Context, name: str, model: Model, graph: str) -> Response:
    """One inference, from the body's first byte to the answer's last.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed.
    """
    spec = model.manifest.graphs[graph]
    compression = header(request, b"content-encoding") or "identity"
    body = inflated(await read_body(request, context.limits, compressed=True), compression, context.limits)
    began = perf_counter()
    json_bytes_sent = header_length(request)
    check_json(body if json_bytes_sent is None else body[:json_bytes_sent])
    if len(body) <= QUICK_BYTES:
        asked = oip.parse(body, json_bytes_sent, spec.inputs, spec.outputs)
    else:
        in_thread = asyncio.get_running_loop().run_in_executor
        asked = await in_thread(context.pool, oip.parse, body, json_bytes_sent, spec.inputs, spec.outputs)
    rows = check_rows(asked, spec, context.limits)
    decode_s = perf_counter() - began
    trace = Trace.of(request.scope)
    trace.model, trace.rows = model.name, rows
    timeout_s = within(asked.parameters.get("timeout"), context.limits.request_timeout_s)
    try:
        with WhileConnected(request):
            async with asyncio.timeout(timeout_s):
                got = await model.run(graph, asked.inputs)
    except TimeoutError:
        raise TooLate(f"model '{name}' did not answer {rows} rows within {timeout_s:g} s") from None
    began = perf_counter()
    head = {"model_name": name, "model_version": model.version}
    content, json_bytes = oip.encode(
        head if asked.id is None else {**head, "id": asked.id}, got.tensors, asked.outputs, model.manifest.labels
    )
    headers = {}
    if json_bytes is not None:
        headers[HEADER_LENGTH] = str(json_bytes)
    encoding = accepted_encoding(header(request, b"accept-encoding"))
    if encoding:
        squeeze = zlib.compressobj(COMPRESS_LEVEL, wbits=WINDOW_BITS[encoding])
        content = squeeze.compress(content) + squeeze.flush()
        headers["Content-Encoding"] = encoding
    encode_s = perf_counter() - began
    context.stages.observe(model.name, decode_s=decode_s, queue_s=got.queue_s, run_s=got.run_s, encode_s=encode_s)
    kind = "application/json" if json_bytes is None else "application/octet-stream"
    return Response(content, media_type=kind, headers=headers)


def check_rows(asked: oip.InferRequest, spec: Graph, limits: Limits) -> int:
    """How many rows, the same for each input.

    Raises:
        Unprocessable: they differ.
        TooLarge: more than one request may have.
    """
    counts = {name: len(array) for name, array in asked.inputs.items()}
    rows = next(iter(counts.values()))
    if any(count != rows for count in counts.values()):
        raise oip.wrong("the first axis of the inputs", "one size for all", str(counts))
    if rows > limits.max_rows:
        raise TooLarge(
            f"input '{spec.inputs[0].name}' has {rows} rows, at most {limits.max_rows} are taken",
            subject=f"input '{spec.inputs[0].name}'",
            expected=f"at most {limits.max_rows} rows",
            got=str(rows),
        )
    return rows


def header_length(request: Request) -> int | None:
    """Bytes of JSON before the raw tensors; None where all is JSON."""
    text = header(request, b"inference-header-content-length")
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise oip.wrong(f"header.{HEADER_LENGTH.lower()}", "a whole number of bytes", text[:50])
    return int(text)


def within(timeout_us: object, limit_s: float) -> float:
    """The request's own `timeout`, in microseconds, where it is shorter than the server's. Seconds."""
    if timeout_us is None:
        return limit_s
    if type(timeout_us) is not int or timeout_us < 0:
        raise oip.wrong("parameters.timeout", "microseconds, a whole number", timeout_us)
    return min(limit_s, timeout_us / 1e6) if timeout_us else limit_s


def inflated(body: bytes, encoding: str, limits: Limits) -> bytes:
    """The body without its compression.

    Raises:
        UnsupportedMedia: a compression that is not taken, or bytes that are not of it.
        TooLarge: it unpacks to more than the limit.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in WINDOW_BITS:
        raise UnsupportedMedia(f"content-encoding {shown(encoding)} is not taken, send gzip, deflate or none")
    unpack = zlib.decompressobj(wbits=WINDOW_BITS[name])
    try:
        content = unpack.decompress(body, limits.max_body_bytes + 1)
    except zlib.error as error:
        raise UnsupportedMedia(f"the body is not {name}: {error}", subject="body", expected=name) from None
    if len(content) > limits.max_body_bytes:
        raise TooLarge(f"the body unpacks to more than {limits.max_body_bytes} bytes", subject="body")
    if not unpack.eof or unpack.unused_data:
        raise UnsupportedMedia(f"the body is not one whole {name} stream", subject="body", expected=name)
    return content


def accepted_encoding(accept: str | None) -> str | None:
    """gzip or deflate where the client takes it."""
    for part in (accept or "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in WINDOW_BITS and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip()
    return None
