"""Options of a request, wherever they stand: in the query, in a JSON body, in fields of a form. Each has one value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from app.core.errors import ClientError, invalid, shown
from app.core.text import unknown

Option = str | int | float
Known = Mapping[str, type[str] | type[int] | type[float] | type[bool]]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_MAX_PAIRS = 100


def in_words(message: str) -> str:
    """What pydantic's message says is expected."""
    message = re.sub(
        r"^(List|Tuple|Set|Value) should have (at .* items?) after validation, not .*", r"a list of \2", message
    )
    message = re.sub(r"^(String|Value) should have (at .* characters?)$", r"a text of \2", message)
    wanted = re.sub(r"^(Input|String|Value|List|Number) (should be|should have|error,) ?", "", message)
    words = {"valid array": "list", "valid object": "object", "valid integer": "integer", "valid string": "text"}
    for theirs, ours in words.items():
        wanted = wanted.replace(theirs, ours)
    return re.sub(r"\ba (integer|object)", r"an \1", wanted).partition(", unable to")[0]


def from_texts(pairs: Iterable[tuple[str, str]], known: Known, *, where: str, what: str) -> dict[str, Option]:
    """Options that came as text. In a form one without a text is not given: browsers send those that nobody filled in.

    Args:
        pairs: names and texts, as they came.
        known: the options that exist, and their types.
        where: "query" or "form".
        what: "query parameter" or "form field".

    Raises:
        Unprocessable: an unknown name, one given twice with two values, or a text that is not of its type.
    """
    options: dict[str, Option] = {}
    for name, text in pairs:
        if name not in known:
            raise unknown(what, name, sorted(known), subject=f"{where}.{name[:100]}")
        if not text and where == "form":
            continue
        before = options.get(name)
        if known[name] is int:
            if not _INTEGER.fullmatch(text):
                raise _wrong(f"{where}.{name}", "a whole number", text)
            options[name] = int(text)
        elif known[name] is float:
            if not _DECIMAL.fullmatch(text):
                raise _wrong(f"{where}.{name}", "a decimal number", text)
            options[name] = float(text)
        elif known[name] is bool:
            if text.lower() not in _BOOLEANS:
                raise _wrong(f"{where}.{name}", "true or false", text)
            options[name] = _BOOLEANS[text.lower()]
        else:
            options[name] = text
        if before is not None and options[name] != before:
            raise twice(name, f"{where}.{name}")
    return options


def _wrong(subject: str, expected: str, text: str) -> ClientError:
    got = shown(text)
    return invalid(subject, expected=expected, got=got)


def from_query(query: bytes, known: Known) -> dict[str, Option]:
    """Options of a query string.

    Raises:
        Unprocessable: as `from_texts`; or more pairs than anyone means.
    """
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PAIRS)
    except ValueError:
        raise invalid(
            "query",
            expected=", ".join(sorted(known)),
            got=f"more than {_MAX_PAIRS} parameters",
            detail=f"the query has more than {_MAX_PAIRS} parameters",
        ) from None
    return from_texts(pairs, known, where="query", what="query parameter")


def twice(name: str, subject: str) -> ClientError:
    """The error for a name with two values."""
    return invalid(subject, expected="one value", got="more than one", detail=f"'{name}' is given more than once")


def merged(query: dict[str, Option], body: dict[str, Option], *, where: str) -> dict[str, Option]:
    """Options of the query and of the body.

    Raises:
        Unprocessable: one stands in both with two values.
    """
    if not query:
        return body
    for name in body:
        if name in query and query[name] != body[name]:
            raise twice(name, f"{where}.{name}")
    return query | body
