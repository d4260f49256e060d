"""Texts that a model translates: what the task and protocols share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.codecs.text.reading import Reading
from app.codecs.text.tokenizer import Encoded
from app.core.decoding.writing import Hypothesis, joined
from app.core.errors import ClientError, invalid, shown
from app.core.manifest import Languages
from app.core.text import did_you_mean
from app.engine.model import Model
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.openapi.operation import shown_for
from app.web.prediction import of_another_kind
from app.web.request.payload import Payload
from app.web.request.texts import as_row
from app.web.waiting import together
from app.web.writing import Plan, Progress, encode, search, writer_of


@dataclass(frozen=True, slots=True)
class Translation:
    """A text as it was translated, and its tokens, which are those of all its sentences."""

    text: str
    tokens: Hypothesis


async def translate(
    call: Call, text: Reading, searched: Plan, progress: Progress | None = None, on_step: OnStep | None = None
) -> list[Translation]:
    """The likeliest translations of one text by the leased model, best first: the k-th has the k-th of each sentence,
    or its last.

    Args:
        progress: of a text that is watched; its sentences are then translated one after the other.

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.run` and `Call.sample`.
    """

    async def one(part: Encoded) -> list[Hypothesis]:
        memory = await encode(call, as_row(part))
        return await search(call, memory, searched.beam, progress=progress, on_step=on_step)

    places = [len(part.ids) for part in text.parts]
    if progress is None:
        found = await together([one(part) for part in text.parts])
    else:
        found, progress.places = [], places
        for part in text.parts:
            found.append(await one(part))
            progress.done.append(found[-1][0])
            progress.search = None
    count = min(searched.n_best, max(map(len, found)))
    chosen = [[own[min(k, len(own) - 1)] for own in found] for k in range(count)]
    return [Translation(_text_of(call.model, text, parts), joined(parts, places)) for parts in chosen]


def choose_translator(call: Call, payload: Payload) -> Model:
    """The model of texts that `model`, `version`, `from` and `to` mean: without a name the task's default if it has
    these languages, else the first by name that has them.

    Raises:
        NotFound: no such model or version, or none that translates texts.
        Unprocessable: none of these languages; those that there are are listed.
    """
    options = call.options
    model = call.choose_model("translate", "text")
    if model.manifest.text is None:
        raise of_another_kind(payload, model)
    models = [model]
    if "model" not in options and "version" not in options:
        models += [one for one in translators(call) if one is not model]
    source, target = (str(options[name]) if name in options else None for name in ("from", "to"))
    for one in models:
        if _fits(languages_of(one), source, target):
            return one
    raise _no_language(source, target, models)


def translators(call: Call) -> Iterable[Model]:
    """The newest version of each model that translates texts, by name."""
    return (one for one in shown_for(call.context.registry, "translate") if one.manifest.text is not None)


def languages_of(model: Model) -> Languages:
    """From which language and to which a model of texts translates."""
    assert model.manifest.languages is not None
    return model.manifest.languages


def _text_of(model: Model, text: Reading, parts: Sequence[Hypothesis]) -> str:
    """What was written, its sentences with the line ends between them that were between those of the text."""
    writer, written, before = writer_of(model), "", None
    for part, one in zip(text.parts, parts, strict=True):
        begin = part.offsets[0][0]
        if before is not None:
            space = text.text[before:begin]
            written += space if "\n" in space and space.isspace() else " "
        written += writer.decode(one.tokens).strip() if len(parts) > 1 else writer.decode(one.tokens)
        before = max(end for _, end in part.offsets)
    return written


def is_language(code: str | None, language: str) -> bool:
    """Whether a client's code means a model's language: in any case, and with a region where the model names none
    ("pt-BR" for "pt") or the other way round. None means any.
    """
    if code is None:
        return True
    asked, has = code.lower(), language.lower()
    return asked == has or (("-" in asked) != ("-" in has) and asked.split("-")[0] == has.split("-")[0])


def _fits(languages: Languages, source: str | None, target: str | None) -> bool:
    return is_language(source, languages.source) and is_language(target, languages.target)


def _no_language(source: str | None, target: str | None, models: Sequence[Model]) -> ClientError:
    pairs = [languages_of(one) for one in models]
    there = "; ".join(
        f"model '{one.name}' translates {pair.source} to {pair.target}" for one, pair in zip(models, pairs, strict=True)
    )
    for option, code, known in (
        ("from", source, sorted({pair.source for pair in pairs})),
        ("to", target, sorted({pair.target for pair in pairs})),
    ):
        if code is not None and not any(is_language(code, one) for one in known):
            hint = did_you_mean(code, known)
            detail = f"no text is translated {option} {shown(code)}{hint}; {there}"
            return invalid(option, expected=", ".join(known), got=shown(code), detail=detail)
    expected = " or ".join(f"{pair.source} to {pair.target}" for pair in pairs)
    got = f"{source} to {target}"
    return invalid(
        "to", expected=expected, got=got, detail=f"nothing translates from '{source}' to '{target}'; {there}"
    )
