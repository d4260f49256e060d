"""A column's header: its name, and its unit in brackets behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_UNIT: Final = re.compile(r"^(?P<name>.*\S)\s*(?:\[(?P<square>[^][]*)\]|\((?P<round>[^()]*)\))$", re.DOTALL)
LONGEST_UNIT: Final = 40


@dataclass(frozen=True)
class Header:
    """`weight [kg]` and `weight (kg)` are the name `weight` with the unit `kg`; `written` is the whole of it."""

    written: str
    name: str
    unit: str = ""

    @classmethod
    def of(cls, text: str) -> Header:
        written = " ".join(text.split())
        found = _UNIT.match(written)
        unit = (found["square"] if found["square"] is not None else found["round"]).strip() if found else ""
        if found is None or not unit or len(unit) > LONGEST_UNIT:
            return cls(written, written)
        return cls(written, found["name"].strip(), unit)
