"""Text in a manifest: how it becomes a graph's token ids, and how the ids that a graph writes become text."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from app.core.manifest.graph import FileName, Sha256
from app.core.manifest.part import ManifestPart

PADDING = 0
"""The id behind the end of a shorter row, in every tokenizer."""

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(?:-[A-Za-z0-9]{1,8})*$")]
"""BCP 47: "en", "pt", "pt-BR"."""


class TextFile(ManifestPart):
    """A file of the model's folder, read and hashed at load as the graphs are."""

    file: FileName
    sha256: Sha256


class Text(ManifestPart):
    """How text becomes one row of int64 ids. Whatever it needs stands in the tokenizer: normalising, splitting, tokens
    at the start and the end.

    Attributes:
        tokenizer: JSON of Hugging Face's `tokenizers`; id 0 is padding.
        max_tokens: of the longest row that the model was made for.
        max_characters: of a text; a longer one is refused without being read.
        example: a text of the kind that the model was made for; model cards and /docs show it.
        words: every word of the training texts, one a line, as `app/codecs/text/words.py` writes it. Where it is there,
            a word that is not in it is unknown; else one with a part that the tokenizer does not know.
        sentences: the model reads one at a time; a text is divided into them, and `max_tokens` is of each.
    """

    tokenizer: TextFile
    max_tokens: Annotated[int, Field(ge=1, le=4096)]
    max_characters: Annotated[int, Field(ge=1, le=100_000)]
    example: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    words: TextFile | None = None
    sentences: bool = False


class Writing(ManifestPart):
    """How a graph's ids become text.

    Attributes:
        tokenizer: as in `Text`; it may be the same file.
        start, end: the id before the first token, and the one after the last.
        max_tokens: of the longest text that is written, the end left out.
        best: how many tokens a step of the graph answers with, the likeliest first; of equal ones the lower id.
        beam: hypotheses that the search keeps where a request does not say; 1 is greedy.
        penalty: they are ranked by log p / length ** penalty.
        grid: rows and columns of the cells into which a picture's memory is divided; None where text is read.
        blank: grey level of a picture that shows nothing, against which the evidence for a caption is measured.
    """

    tokenizer: TextFile
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    max_tokens: Annotated[int, Field(ge=1, le=1024)]
    best: Annotated[int, Field(ge=1, le=1024)]
    beam: Annotated[int, Field(ge=1, le=8)] = 1
    penalty: Annotated[float, Field(ge=0, le=2)] = 0.0
    grid: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] | None = None
    blank: Annotated[int, Field(ge=0, le=255)] = 0

    @model_validator(mode="after")
    def _tokens_differ(self) -> Self:
        if len({PADDING, self.start, self.end}) != 3:
            raise ValueError(
                f"writing: start {self.start} and end {self.end} differ, and neither is {PADDING}, padding"
            )
        return self


class Languages(ManifestPart):
    """Of a model that translates text: from `source` to `target`."""

    source: Language
    target: Language

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"languages: source and target are both '{self.source}'")
        return self
