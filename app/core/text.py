"""Names and values from a client, in the words of an error."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final

from app.core.errors import ClientError, invalid, shown

LISTED: Final = 40
_COMPARED: Final = 2000  # names; more would take the event loop longer than a hint is worth
_LONGEST: Final = 100


def described(value: object) -> str:
    """A value from a client in a few words, without writing all of it out."""
    match value:
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)} fields"
        case str() if len(value) > 60:
            return f"a text of {len(value)} characters"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 10**40:
            return "an integer of more than 40 digits"
        case _:
            return shown(value)


def listed(names: Collection[str]) -> str:
    """The names with commas between; of many the first, and how many there are."""
    text = ", ".join(islice(names, LISTED))
    return text if len(names) <= LISTED else f"{text}, ... ({len(names)} in all)"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'hours'?)` where one of the names is near; else nothing.

    A name that differs only in capitals and spaces is nearest.
    """
    import difflib  # only here: a slip of the pen is rare, start-up is not

    known = list(islice(names, _COMPARED))
    bare = _bare(name)
    near = [k for k in known if _bare(k) == bare] or difflib.get_close_matches(name[:_LONGEST], known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def unknown(what: str, name: str, known: Collection[str], *, subject: str) -> ClientError:
    """The error for a name that nothing has, with the names that exist.

    Args:
        what: the kind of thing that is named, e.g. "query parameter".
        name: as the client wrote it.
        known: in the order in which they are listed.
    """
    there, got = listed(known), shown(name)
    detail = f"unknown {what} {got}{did_you_mean(name, known)}, there are: {there}"
    return invalid(subject, expected=there, got=got, detail=detail)


def _bare(name: str) -> str:
    return "".join(name[: 2 * _LONGEST].split()).casefold()
