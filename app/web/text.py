"""Texts that a model reads: what tasks and protocols share."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.codecs.text.reading import Reading
from app.codecs.text.tokenizer import Encoded
from app.codecs.text.words import Word
from app.core.errors import TooLarge, invalid
from app.core.manifest import Tensors
from app.web.call import Call
from app.web.request.payload import SMALL_TEXT, Payload
from app.web.request.texts import as_rows, readings
from app.web.work_pool import CHARACTER


async def read_texts(call: Call, payload: Payload, *, truncate: bool) -> list[Reading]:
    """A payload's texts as the leased model reads them: a few on the event loop, more in a thread.

    Raises:
        ClientError, TooLate: as `app.web.request.texts.readings`.
    """
    reader, max_rows = call.model.text_files.reader, call.limits.max_rows
    assert reader is not None

    def work() -> list[Reading]:
        return readings(payload, reader, max_rows=max_rows, truncate=truncate)

    size = CHARACTER * payload.came_bytes
    return await call.offload(work, size=size, inline=payload.small, doing="texts were being read")


async def explain(call: Call, read: Reading, graph: str) -> tuple[Tensors, list[dict[str, Any]]]:
    """A text and the same without each of its words, in one run: the text's own outputs, and what each word adds to the
    probability of the text's best label.

    Raises:
        TooLarge: more words than rows in one request.
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.run`.
    """
    reader, most = call.model.text_files.reader, call.limits.max_rows
    assert reader is not None
    if len(read.words) >= most:
        got = f"{len(read.words)} words"
        detail = f"explain leaves out one word after the other: the text has {got}, at most {most - 1} are taken"
        raise invalid("explain", expected=f"at most {most - 1} words", got=got, detail=detail, error=TooLarge)

    nothing = np.array([reader.tokenizer.unknown or 0], np.int64)
    unknown = Encoded(nothing, [""], [(0, 0)], 1)  # for what is left of a text of one word

    def without(word: Word) -> str:
        return read.text[: word.start] + read.text[word.end :]

    def work() -> dict[str, Any]:
        shorter = [reader.tokenizer.encode(without(word), reader.declared.max_tokens) for word in read.words]
        return dict(as_rows([read.encoded, *(one if len(one.ids) else unknown for one in shorter)]))

    size = len(read.text) * len(read.words)
    outputs = await call.run(graph, await call.offload(work, size=CHARACTER * size, inline=size <= SMALL_TEXT))
    probabilities = outputs["probabilities"].astype(np.float64)
    best = int(probabilities[0].argmax())
    weights = np.round(probabilities[0, best] - probabilities[1:, best], 7).tolist()
    words = [
        {"text": word.text, "start": word.start, "end": word.end, "weight": weight}
        for word, weight in zip(read.words, weights, strict=True)
    ]
    return {name: values[:1] for name, values in outputs.items()}, words
