"""Models that read or write text, as BYTES tensors: `name.text` beside the graphs, whose tensors are token ids.

classify      text -> label, probabilities
translate     text -> text, log_probability
caption       image -> text, log_probability
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.open_inference import Tensor, TextTensor
from app.codecs.text.reading import Reading
from app.core.decoding.writing import Hypothesis
from app.core.manifest import ROWS, Manifest, Tensors, TensorSpec
from app.engine.model import Model
from app.web.call import Call
from app.web.request.payload import SMALL_TEXT
from app.web.request.texts import as_row
from app.web.translation import translate
from app.web.waiting import together
from app.web.work_pool import CHARACTER
from app.web.writing import ENCODER, encode, plan, search, writer_of

GRAPH: Final = "text"
_CLASSIFIER: Final = "classifier"
_WRITTEN: Final = (TextTensor("text"), TensorSpec(name="log_probability", dtype="float32", shape=(ROWS,)))


@dataclass(frozen=True, slots=True)
class TextTensors:
    """The tensors of `name.text`, and the file of the graph that is run first."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    file: str


def has_texts(manifest: Manifest) -> bool:
    """Whether there is a `name.text`."""
    return "text" not in manifest.graphs and (manifest.text is not None or manifest.writing is not None)


def first_graph(model: Model, graph: str) -> str:
    """Of `name.text` the graph that is run first, whose queue and figures count; of any other it is itself."""
    if graph != GRAPH or not has_texts(model.manifest):
        return graph
    return _CLASSIFIER if model.manifest.writing is None else ENCODER


def tensors_of(model: Model) -> TextTensors:
    """As the protocol sees them."""
    manifest = model.manifest
    graph = manifest.graphs[first_graph(model, GRAPH)]
    inputs: tuple[Tensor, ...] = graph.inputs if manifest.text is None else (TextTensor("text"),)
    outputs: tuple[Tensor, ...] = (TextTensor("label"), *graph.outputs) if manifest.writing is None else _WRITTEN
    return TextTensors(inputs, outputs, graph.file)


async def run(call: Call, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """The outputs of the leased model by name, rows in their order.

    Raises:
        ClientError: a text that the model does not take.
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.run`.
    """
    manifest = call.model.manifest
    if manifest.text is None:
        return await _captioned(call, *next(iter(inputs.items())))
    texts = inputs["text"].tolist()
    writes = manifest.writing is not None
    read = await _read(call, texts, truncate=not writes)
    if writes:
        return await _translated(call, read)
    found = await call.run_each(_CLASSIFIER, [as_row(text.encoded) for text in read])
    probabilities = np.concatenate([outputs["probabilities"] for outputs in found])
    labels = [manifest.labels[k] for k in probabilities.argmax(axis=1).tolist()]
    return {"label": np.array(labels, object), "probabilities": probabilities}


async def _read(call: Call, texts: Sequence[str], *, truncate: bool) -> list[Reading]:
    reader = call.model.text_files.reader
    assert reader is not None

    def work() -> list[Reading]:
        return [reader.read(text, f"input 'text'[{i}]", truncate=truncate) for i, text in enumerate(texts)]

    size = sum(map(len, texts))
    doing = "texts were being read"
    return await call.offload(work, size=CHARACTER * size, inline=size <= SMALL_TEXT, doing=doing)


async def _translated(call: Call, read: Sequence[Reading]) -> dict[str, NDArray[Any]]:
    rows = sum(len(text.parts) for text in read)
    searched = plan(call, call.model, rows, subject="the inputs")
    found = await together([translate(call, text, searched) for text in read])
    return _answer([best.text for best, *_ in found], [best.tokens for best, *_ in found])


async def _captioned(call: Call, name: str, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    model = call.model
    beam = plan(call, model, len(images), subject="the inputs").beam

    async def write(row: Tensors) -> Hypothesis:
        return (await search(call, await encode(call, row), beam))[0]

    found = await together([write({name: images[i : i + 1]}) for i in range(len(images))])
    return _answer([writer_of(model).decode(one.tokens) for one in found], found)


def _answer(texts: Sequence[str], found: Sequence[Hypothesis]) -> dict[str, NDArray[Any]]:
    log_probabilities = np.array([one.log_probability for one in found], np.float32)
    return {"text": np.array(texts, object), "log_probability": log_probabilities}
