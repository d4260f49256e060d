"""How people write what is in a cell: numbers, nothing, yes and no. Training and the server read by this alone.

"1,530" is 1530 or 1.53, and no cell tells which. So a numeral has both values, `settled` looks at all cells of a
column, and what stays open is for the caller: other columns of the file tell, or the model's manifest, or nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

_MISSING: Final = (
    "|na|n/a|n.a.|n.a|#n/a|#na|#n/a n/a|<na>|nan|-nan|+nan|1.#ind|-1.#ind|1.#qnan|-1.#qnan|nat|none|null|(null)|<null>"
    "|0000-00-00|0000-00-00 00:00:00"
    "|[null]|nil|\\n|?|??|-|--|---|\u2013|\u2014|.|..|...|#div/0!|#value!|#ref!|#num!|#null!|#name?|missing"
    "|not available|no data|(blank)"
)
_YES: Final = "true|t|yes|y|1|1.0|on|ja|j|oui|si|s\u00ed|sim|s|verdadeiro|verdadero|vrai|wahr|vero"
_NO: Final = "false|f|no|n|0|0.0|off|nein|non|n\u00e3o|nao|falso|faux|falsch"
MISSING: Final = frozenset(_MISSING.split("|"))
"""Texts that stand for no value, capitals or not; those of spreadsheets, databases and statistics programs."""
YES: Final = frozenset(_YES.split("|"))
NO: Final = frozenset(_NO.split("|"))
LONGEST: Final = 100
"""Characters of a text that is looked into: of a megabyte, Unicode's rules take seconds."""

_OTHERS: Final = {ord("\u066b"): ".", ord("\u066c"): "'"}  # Arabic's signs before decimals and between thousands
_DASHES: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u207b\u02d7\ufe58"), "-")
_QUOTES: Final = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\u00b4`\u2032"), "'")
_CURRENCIES: Final = "".join(chr(i) for i in range(0x10000) if unicodedata.category(chr(i)) == "Sc")
_CODES: Final = (  # of ISO 4217: any three letters could be those of a part's number
    "AED|ARS|AUD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NOK|NZD|PEN|PHP|PLN|RON|RUB"
    "|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
_MONEY: Final = rf"[^\W\d_]{{0,3}}[{re.escape(_CURRENCIES)}]|(?:{_CODES})|Rs\.?|[Kk]r\.?"
_CORE: Final = r"(?:[0-9](?:[0-9.,'_ ]*[0-9])?[.,]?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
_UNIT: Final = rf"(?:[^\W\d_]|[{re.escape(_CURRENCIES)}%‰°\"″]).{{0,39}}"
_WRITTEN: Final = re.compile(
    rf"(?P<sign>[+-])?\s*(?P<money>{_MONEY})?\s*(?P<inner>[+-])?\s*(?P<core>{_CORE})\s*(?P<behind>--?)?\s*(?P<unit>{_UNIT})?",
    re.DOTALL,
)
_BRACKETS: Final = re.compile(r"(?P<before>[^\d()+-]*)\((?P<inside>[^()+-]*\d[^()+-]*)\)(?P<after>[^\d()+-]*)")
_EXPONENT: Final = r"(?:[eE][+-]?[0-9]+)?"
_PLAIN: Final = re.compile(rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+){_EXPONENT}")
_READ: Final = {
    decimal: re.compile(
        rf"(?:(?:[0-9]+{d}?[0-9]*|{d}[0-9]+){_EXPONENT}"
        rf"|[1-9][0-9]{{0,2}}(?:{t}[0-9]{{3}})+(?:{d}[0-9]*)?"
        rf"|[1-9][0-9]{{0,2}}(?:(?P<group>['_ ])[0-9]{{3}})(?:(?P=group)[0-9]{{3}})*(?:{d}[0-9]*)?"
        rf"|[1-9][0-9]?(?:{t}[0-9]{{2}})+{t}[0-9]{{3}}(?:{d}[0-9]*)?)"
    )
    for decimal, d, t in ((".", r"\.", ","), (",", ",", r"\."))
}
_GROUPED_POINT: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")


@dataclass(frozen=True, slots=True)
class Numeral:
    """What a text says: its value where decimals stand behind a point, and where they stand behind a comma, None where
    it cannot be read so; and its unit or currency, empty where it has none."""

    point: float | None
    comma: float | None
    unit: str = ""

    def value(self, decimal: str) -> float | None:
        return self.point if decimal == "." else self.comma


class Decimal(Enum):
    """What the cells of a column say about the sign that decimals stand behind."""

    POINT = "."
    COMMA = ","
    EITHER = "either"  # every cell means the same both ways
    OPEN = "open"  # some cell means another number
    NEITHER = "neither"  # no sign suits all


def is_missing(text: str) -> bool:
    """Whether a text stands for no value."""
    return len(text) <= LONGEST and text.strip().casefold() in MISSING


def truth(word: str) -> bool | None:
    """What a word for yes or no says; None where it is none."""
    folded = word.strip().casefold() if len(word) <= LONGEST else ""
    return True if folded in YES else False if folded in NO else None


def numeral(text: str) -> Numeral | None:
    """The number that a text is, None where it is none.

    Signs of every kind, also behind the number; brackets for what is negative; points, commas, apostrophes, spaces and
    underscores between thousands, in India's groups too; a currency before it or a unit behind.
    """
    if len(text) > LONGEST:
        return None
    if _PLAIN.fullmatch(text):
        plain = float(text)
        if "." not in text:
            return Numeral(plain, plain)
        return Numeral(plain, float(text.replace(".", "")) if _GROUPED_POINT.fullmatch(text) else None)
    text = _in_ascii(text)
    negative = False
    if brackets := _BRACKETS.fullmatch(text):
        text, negative = "".join(brackets.groups()), True
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return None
    if found["behind"] and found["core"][-1] in ".,":  # "5,-" is a whole amount
        found = _WRITTEN.fullmatch(text.replace(found["core"] + found["behind"], found["core"][:-1]))
        if found is None:
            return None
    signs = [found[name] for name in ("sign", "inner", "behind") if found[name]]
    if len(signs) > (0 if negative else 1) or (found["money"] and found["unit"]):
        return None
    factor = -1.0 if negative or "-" in signs else 1.0
    point, comma = _value(found["core"], ".", factor), _value(found["core"], ",", factor)
    if point is None and comma is None:
        return None
    return Numeral(point, comma, (found["money"] or found["unit"] or "").strip())


def settled(numerals: Iterable[Numeral]) -> Decimal:
    """What all cells of a column say together."""
    point = comma = True
    differ = False
    for one in numerals:
        point &= one.point is not None
        comma &= one.comma is not None
        differ |= one.point != one.comma
    if point and comma:
        return Decimal.OPEN if differ else Decimal.EITHER
    return Decimal.POINT if point else Decimal.COMMA if comma else Decimal.NEITHER


def same_unit(one: str, other: str) -> bool:
    """Whether two units are, whatever their signs are made of: the two Greek letters mu, a raised 2."""
    return _as_written(one) == _as_written(other)


def _as_written(unit: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", unit).split())


def _value(core: str, decimal: str, factor: float) -> float | None:
    if not _READ[decimal].fullmatch(core):
        return None
    bare = core.translate({ord(sign): None for sign in "'_ "})
    bare = bare.replace(",", "") if decimal == "." else bare.replace(".", "").replace(",", ".")
    return factor * float(bare)


def _in_ascii(text: str) -> str:
    """Digits, spaces, dashes and quotes of every kind as those of ASCII."""
    text = text.strip()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_OTHERS | _DASHES | _QUOTES))
        text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    return " ".join(text.split()) if not text.isprintable() or "  " in text else text
