"""One inference of the Open Inference Protocol: from the body's first byte to the answer's last."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Final, TypeVar, TypeVarTuple

import numpy as np
from fastapi import Request, Response

from app.codecs import open_inference as oip
from app.core.errors import NotFound, TooLarge, UnsupportedMedia, shown
from app.core.manifest import Graph, Manifest, Tensors
from app.engine.model import Model
from app.engine.queue import LAST
from app.web.context import Context, Limits, Trace
from app.web.disconnect import CancelOnDisconnect
from app.web.endpoint import Find, Short
from app.web.request.body import header, read_body
from app.web.request.deadline import deadline_and_priority
from app.web.request.json_size import check_json, parsing
from app.web.response.encoded import EncodedResponse

T = TypeVar("T")
Args = TypeVarTuple("Args")

BEFORE: Final = "/v2/models/"
AFTER: Final = "/infer"
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
    model = context.registry.catalog.get(base, version)
    graphs = model.manifest.graphs
    if not graph and len(graphs) == 1:
        return model, next(iter(graphs))
    if graph not in graphs:
        there = ", ".join(f"{base}.{g}" for g in graphs)
        raise NotFound(f"model '{base}' has the graphs {there}; {shown(name)} is none of them", subject="path")
    return model, graph


def short_way(context: Context) -> Find:
    """POST /v2/models/{name}[/versions/{version}]/infer, without the router."""

    def way(path: str) -> Short | None:
        if not path.startswith(BEFORE) or not path.endswith(AFTER):
            return None
        name, *versions = path[len(BEFORE) : -len(AFTER)].split("/")
        if not versions:
            return Short(f"{BEFORE}{{name}}{AFTER}", lambda request: answer(request, context, name, None))
        if len(versions) == 2 and versions[0] == "versions" and name and versions[1]:
            return Short(
                f"{BEFORE}{{name}}/versions/{{version}}{AFTER}",
                lambda request: answer(request, context, name, versions[1]),
            )
        return None

    return way


async def answer(request: Request, context: Context, name: str, version: str | None) -> Response:
    """One inference, from the body's first byte to the answer's last.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed.
    """
    model, graph = find(context, name, version)
    limits = context.limits
    spec = model.manifest.graphs[graph]
    with model.lease():
        deadline, priority = deadline_and_priority(request, limits)
        body = await read_body(request, limits, compressed=True)
        model.check_room(graph)
        began = perf_counter()
        compression = header(request, b"content-encoding")
        if compression is not None:
            body = await quickly(context, 16 * len(body), inflated, body, compression, limits)
        json_bytes_sent = header_length(request)
        raw = raw_form(model, graph)
        asked = raw.parse(body) if json_bytes_sent == 0 else None
        if asked is None:
            asked = await quickly(context, len(body), parsed, body, json_bytes_sent, spec)
        rows = check_rows(asked, spec, limits)
        if model.manifest.drawn_labels:
            check_labels(asked.inputs, model.manifest)
        if asked.parameters:
            deadline = min(deadline, monotonic() + within(asked.parameters.get("timeout"), limits.request_timeout_s))
            priority = ranked(asked.parameters.get("priority"), priority)
        decode_s = perf_counter() - began
        trace = Trace.of(request.scope)
        trace.model, trace.rows = model.name, rows
        with CancelOnDisconnect(request):
            got = await model.run(graph, asked.inputs, deadline=deadline, priority=priority)
    began = perf_counter()
    json_bytes: int | None
    made = raw.encode(name, model.version, got.tensors, asked)
    if made is not None:
        content, json_bytes = made
    else:
        head = {"model_name": name, "model_version": model.version}
        if asked.id is not None:
            head["id"] = asked.id
        size = sum(tensor.nbytes for tensor in got.tensors.values())
        content, json_bytes = await quickly(
            context, size, oip.encode, head, got.tensors, asked.outputs, model.manifest.labels
        )
    headers = [(b"content-type", b"application/json" if json_bytes is None else b"application/octet-stream")]
    if json_bytes is not None:
        headers.append((b"inference-header-content-length", b"%d" % json_bytes))
    encoding = accepted_encoding(header(request, b"accept-encoding"))
    if encoding:
        content = await quickly(context, len(content), squeezed, content, encoding)
        headers.append((b"content-encoding", encoding.encode("ascii")))
    encode_s = perf_counter() - began
    context.stages.observe(
        trace, model, graph, decode_s=decode_s, queue_s=got.queue_s, run_s=got.run_s, encode_s=encode_s
    )
    return EncodedResponse(content, headers)


async def quickly(context: Context, size: int, work: Callable[[*Args], T], *args: *Args) -> T:
    """Do it here where there are few bytes, else in a thread."""
    if size <= QUICK_BYTES:
        return work(*args)
    return await asyncio.get_running_loop().run_in_executor(context.pool, work, *args)


def parsed(body: bytes, json_bytes: int | None, spec: Graph) -> oip.InferRequest:
    check_json(body if json_bytes is None else body[:json_bytes])
    with parsing(body):
        return oip.parse(body, json_bytes, spec.inputs, spec.outputs)


def raw_form(model: Model, graph: str) -> oip.RawForm:
    key = f"oip {graph}"
    known = model.prepared.get(key)
    if known is None:
        spec = model.manifest.graphs[graph]
        known = model.prepared[key] = oip.RawForm(spec.inputs, spec.outputs)
    assert isinstance(known, oip.RawForm)
    return known


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


def check_labels(inputs: Tensors, manifest: Manifest) -> None:
    """Places of labels are of labels that there are; of a graph that is asked without one too, the place after them.

    Raises:
        Unprocessable: naming the first that is not.
    """
    places = inputs.get("label")
    if places is None:
        return
    most = len(manifest.drawn_labels) - (manifest.sampling is None)
    wrong = np.flatnonzero((places < 0) | (places > most))
    if len(wrong):
        at = int(wrong[0])
        raise oip.wrong(f"input 'label'[{at}]", f"a whole number from 0 to {most}", str(places[at]))


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


def ranked(priority: object, otherwise: int) -> int:
    """The protocol's `priority`, 1 the highest and 0 for no opinion, among ours."""
    if priority is None or priority == 0:
        return otherwise
    if type(priority) is not int or priority < 0:
        raise oip.wrong("parameters.priority", "a whole number, 1 the highest, 0 for the default", priority)
    return min(priority, LAST)


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


def squeezed(content: bytes, encoding: str) -> bytes:
    squeeze = zlib.compressobj(COMPRESS_LEVEL, wbits=WINDOW_BITS[encoding])
    return squeeze.compress(content) + squeeze.flush()


def accepted_encoding(accept: str | None) -> str | None:
    """gzip or deflate where the client takes it."""
    if accept is None:
        return None
    for part in accept.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in WINDOW_BITS and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip()
    return None
