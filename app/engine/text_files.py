"""The files of a model's folder that are no graphs: tokenizers and lists of words, read and proved at load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from app.codecs.text.reading import Reader
from app.codecs.text.tokenizer import Tokenizer
from app.codecs.text.words import read_words
from app.core.errors import InferenceFailed, LoadRefused
from app.core.manifest import Graph, Manifest, Tensors, TextFile, numpy_dtype
from app.engine.session import Session


@dataclass(frozen=True)
class TextFiles:
    """What a model reads text with, and writes it with; None where it does not."""

    reader: Reader | None = None
    writer: Tokenizer | None = None

    @classmethod
    def of(cls, manifest: Manifest, data: Mapping[TextFile, bytes], where: str) -> Self:
        """From the bytes of the files that the manifest names.

        Raises:
            LoadRefused: one of them is no tokenizer, or no list of words.
        """
        text, writing, read = manifest.text, manifest.writing, dict[TextFile, Tokenizer]()
        for file in (*(() if text is None else (text.tokenizer,)), *(() if writing is None else (writing.tokenizer,))):
            if file not in read:
                read[file] = _tokenizer(data[file], f"{where}/{file.file}")
        words = None if text is None or text.words is None else text.words
        known = None if words is None else _words(data[words], f"{where}/{words.file}")
        reader = None if text is None else Reader(text, read[text.tokenizer], known)
        return cls(reader, None if writing is None else read[writing.tokenizer])

    def check_ids(self, manifest: Manifest, sessions: Mapping[str, Session], where: str) -> None:
        """Run each graph that takes ids with the highest: of a tokenizer with more ids than the graph has the runtime
        would refuse rows that passed every check.

        Raises:
            LoadRefused: the graph does not take it, or the tokenizer lacks an id that the manifest names.
        """
        text, writing = manifest.text, manifest.writing
        if text is not None and self.reader is not None:
            key = next(key for key, graph in manifest.graphs.items() if graph.inputs[0].name == "tokens")
            rows = _zeros(manifest.graphs[key]) | {"length": np.ones(1, np.int64)}
            _check_highest(self.reader.tokenizer, "tokens", rows, sessions[key], where, text.tokenizer.file)
        if writing is not None and self.writer is not None:
            if max(writing.start, writing.end) >= self.writer.size:
                ids = f"writing: start {writing.start} and end {writing.end}"
                raise LoadRefused(f"{where}: {ids}, {writing.tokenizer.file} has ids to {self.writer.size - 1}")
            rows = _zeros(manifest.graphs["step"])
            rows |= {"length": np.ones(1, np.int64)} if "length" in rows else {}
            _check_highest(self.writer, "token", rows, sessions["step"], where, writing.tokenizer.file)


def _zeros(graph: Graph) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """One row of a graph's inputs, variable axes of size 1."""
    return {
        spec.name: np.zeros((1, *(n if isinstance(n, int) else 1 for n in spec.shape[1:])), numpy_dtype(spec.dtype))
        for spec in graph.inputs
    }


def _check_highest(tokenizer: Tokenizer, name: str, rows: Tensors, session: Session, where: str, file: str) -> None:
    highest = tokenizer.size - 1
    try:
        session.run({**rows, name: np.full_like(rows[name], highest)})
    except InferenceFailed as error:
        raise LoadRefused(
            f"{where}/{file}: its highest id is {highest}, which {session.where} does not take",
            subject=f"{where}/{file}",
            expected="ids that the graph takes",
            got=str(highest),
        ) from error


def _tokenizer(data: bytes, where: str) -> Tokenizer:
    try:
        return Tokenizer(data)
    except ValueError as error:
        message = f"{where}: expected a tokenizer, got {len(data)} bytes that are none: {error}"
        raise LoadRefused(message, subject=where) from error


def _words(data: bytes, where: str) -> frozenset[str]:
    try:
        return read_words(data)
    except ValueError as error:
        message = f"{where}: expected words, one a line, in UTF-8, got {len(data)} bytes that are not: {error}"
        raise LoadRefused(message, subject=where) from error
