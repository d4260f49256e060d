"""One inference of the Open Inference Protocol: from the body's first byte to the answer's last."""

from __future__ import annotations

import zlib
from functools import partial
from time import monotonic, perf_counter
from typing import Final

import numpy as np
from starlette.responses import Response

from app.codecs import open_inference
from app.codecs.json_numbers import wrong
from app.codecs.turns import turn_to_parse
from app.core.errors import NotFound, TooLarge, UnsupportedMedia, shown
from app.core.manifest import ROWS, Graph, Manifest, Tensors
from app.engine.model import Model
from app.engine.queue import LAST
from app.engine.registry import Registry
from app.engine.text_files import TextFiles
from app.protocols.open_inference import texts
from app.protocols.open_inference.documents import InferResponse
from app.protocols.open_inference.errors import error_responses
from app.protocols.open_inference.models import names, tensors_of
from app.web.call import Call
from app.web.endpoint import Endpoint
from app.web.request.head import deadline_and_priority
from app.web.request.json_size import check_json
from app.web.request.limits import Limits
from app.web.request.trace import Trace
from app.web.response.encoded import EncodedResponse

PATH: Final = "/v2/models/{name}/infer"
VERSION_PATH: Final = "/v2/models/{name}/versions/{version}/infer"
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
QUICK_BYTES: Final = 64 << 10  # parsed where they arrived; more goes to a thread
WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
LENGTH: Final = "length"  # the input that says how much of each row is real
COMPRESS_LEVEL: Final = 1  # tensors hardly shrink further, and the time is the server's


def find(registry: Registry, name: str, version: str | None) -> tuple[Model, str]:
    """The model and which of its graphs is meant.

    Raises:
        NotFound: naming what there is.
    """
    base, _, graph = name.partition(".")
    model = registry.catalog.get(base, version)
    graphs = model.manifest.graphs
    if not graph and len(graphs) == 1:
        return model, next(iter(graphs))
    if graph not in graphs and not (graph == texts.GRAPH and texts.has_texts(model.manifest)):
        there = ", ".join(names(model))
        raise NotFound(f"model '{base}' has the graphs {there}; {shown(name)} is none of them", subject="path")
    return model, graph


async def infer(call: Call) -> Response:
    """One inference, from the body's first byte to the response's last.

    Raises:
        ClientError, Busy, Unavailable, TooLate, InferenceFailed.
    """
    name = call.params["name"]
    model, graph = find(call.context.registry, name, call.params.get("version"))
    limits, trace = call.limits, call.trace
    spec, first = tensors_of(model, graph), texts.first_graph(model, graph)
    with call.lease(model):
        call.deadline, call.priority = deadline_and_priority(trace, limits)
        body = await call.read_body(compressed=True)
        model.check_room(first, call.priority)
        compression = trace.header(b"content-encoding")
        if compression is not None:
            inflate = partial(inflated, body, compression, limits)
            body = await call.offload(inflate, size=16 * len(body), inline=16 * len(body) <= QUICK_BYTES)
        json_bytes_sent = header_length(trace)
        raw = raw_form(model, graph)
        request = raw.parse(body) if json_bytes_sent == 0 else None
        if request is None:
            parse = partial(parsed, body, json_bytes_sent, spec)
            request = await call.offload(parse, size=len(body), inline=len(body) <= QUICK_BYTES)
        rows = check_rows(request, spec, limits)
        if model.manifest.drawn_labels:
            check_labels(request.inputs, model.manifest)
        if model.manifest.text_files:
            check_tokens(request.inputs, model.text_files)
        if isinstance(spec, Graph) and LENGTH in request.inputs:
            check_lengths(request.inputs, spec)
        if request.parameters:
            limit_s = within(request.parameters.get("timeout"), limits.request_timeout_s)
            call.deadline = min(call.deadline, monotonic() + limit_s)
            call.priority = ranked(request.parameters.get("priority"), call.priority)
        call.decoded(rows)
        outputs = await (call.run(graph, request.inputs) if first == graph else texts.run(call, request.inputs))
    started = perf_counter()
    content, json_bytes = raw.encode(name, model.version, outputs, request) or (b"", None)
    if not content:
        head = {"model_name": name, "model_version": model.version}
        if request.id is not None:
            head["id"] = request.id
        size = sum(tensor.nbytes for tensor in outputs.values())
        write = partial(open_inference.encode, head, outputs, request.outputs, model.manifest.labels)
        content, json_bytes = await call.offload(write, size=size, inline=size <= QUICK_BYTES, owed=True)
    if json_bytes is None:
        headers = b"content-type: application/json\r\n"
    else:
        headers = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % json_bytes
    encoding = accepted_encoding(trace.header(b"accept-encoding"))
    if encoding:
        squeeze, size = partial(squeezed, content, encoding), len(content)
        content = await call.offload(squeeze, size=size, inline=size <= QUICK_BYTES, owed=True)
        headers += b"content-encoding: %b\r\n" % encoding.encode("ascii")
    call.encode_s = perf_counter() - started
    call.observe(first)
    return EncodedResponse(content, headers)


def parsed(body: bytes, json_bytes: int | None, spec: Graph | texts.TextTensors) -> open_inference.InferRequest:
    text = body[:json_bytes]
    mark = len(text) - len(check_json(text))
    with turn_to_parse(len(body)):
        length = None if json_bytes is None else json_bytes - mark
        return open_inference.parse(body[mark:], length, spec.inputs, spec.outputs)


def raw_form(model: Model, graph: str) -> open_inference.RawForm:
    key = f"open inference {graph}"
    known = model.prepared.get(key)
    if known is None:
        spec = tensors_of(model, graph)
        known = model.prepared[key] = open_inference.RawForm(spec.inputs, spec.outputs)
    assert isinstance(known, open_inference.RawForm)
    return known


def check_rows(request: open_inference.InferRequest, spec: Graph | texts.TextTensors, limits: Limits) -> int:
    """How many rows, the same for each input.

    Raises:
        Unprocessable: they differ.
        TooLarge: more than one request may have.
    """
    counts = {name: len(array) for name, array in request.inputs.items()}
    rows = next(iter(counts.values()))
    if len(counts) > 1 and any(count != rows for count in counts.values()):
        raise wrong("the first axis of the inputs", "one size for all", str(counts))
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
    beyond = np.flatnonzero((places < 0) | (places > most))
    if len(beyond):
        at = int(beyond[0])
        raise wrong(f"input 'label'[{at}]", f"a whole number from 0 to {most}", str(places[at]))


def check_tokens(inputs: Tensors, files: TextFiles) -> None:
    """Ids of tokens are of the tokenizer: no other ones does a graph know.

    Raises:
        Unprocessable: naming the first that is not.
    """
    reader = None if files.reader is None else files.reader.tokenizer
    for name, tokenizer in (("tokens", reader), ("token", files.writer)):
        ids = inputs.get(name)
        if ids is None or tokenizer is None:
            continue
        beyond = np.argwhere((ids < 0) | (ids >= tokenizer.size))
        if len(beyond):
            at = tuple(map(int, beyond[0]))
            subject = f"input '{name}'[{', '.join(map(str, at))}]"
            raise wrong(subject, f"a whole number from 0 to {tokenizer.size - 1}", str(ids[at]))


def check_lengths(inputs: Tensors, spec: Graph) -> None:
    """Rows of different length are as long as they came, or shorter: of what lies behind them a graph must not know,
    for it is another row's in a shared run.

    Raises:
        Unprocessable: naming the first that is not.
    """
    axes = ((one.name, axis, size) for one in spec.inputs for axis, size in enumerate(one.shape))
    free = [(name, axis) for name, axis, size in axes if isinstance(size, str) and size != ROWS]
    if not free:
        return
    name, axis = free[0]
    lengths, most = inputs[LENGTH], inputs[name].shape[axis]
    beyond = np.argwhere((lengths < 1) | (lengths > most))
    if len(beyond):
        at = tuple(map(int, beyond[0]))
        subject = f"input '{LENGTH}'[{', '.join(map(str, at))}]"
        raise wrong(subject, f"a whole number from 1 to {most}", str(lengths[at]))


def header_length(trace: Trace) -> int | None:
    """Bytes of JSON before the raw tensors; None where all is JSON."""
    text = trace.header(b"inference-header-content-length")
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise wrong(f"header.{HEADER_LENGTH.lower()}", "a whole number of bytes", text[:50])
    return int(text)


def within(timeout_us: object, limit_s: float) -> float:
    """The request's own `timeout`, in microseconds, where it is shorter than the server's. Seconds."""
    if timeout_us is None:
        return limit_s
    if type(timeout_us) is not int or timeout_us < 0:
        raise wrong("parameters.timeout", "microseconds, a whole number", timeout_us)
    return min(limit_s, timeout_us / 1e6) if timeout_us else limit_s


def ranked(priority: object, otherwise: int) -> int:
    """The protocol's `priority`, 1 the highest and 0 for no opinion, among ours."""
    if priority is None or priority == 0:
        return otherwise
    if type(priority) is not int or priority < 0:
        raise wrong("parameters.priority", "a whole number, 1 the highest, 0 for the default", priority)
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


def _endpoint(path: str, name: str, of: str) -> Endpoint:
    return Endpoint(
        path=path,
        name=name,
        summary=f"Ask a model{of}",
        handler=infer,
        response=InferResponse,
        responses=error_responses(400, 404, 500, 503),
    )


INFER: Final = _endpoint(PATH, "oip_infer", "")
INFER_VERSION: Final = _endpoint(VERSION_PATH, "oip_version_infer", " in one version")
