"""Command-line flags made from a dataclass's fields, so that each is declared once."""

from __future__ import annotations

import argparse
from dataclasses import field, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from training.data.csv_values import Reading

T = TypeVar("T")


def described(default: Any, text: str) -> Any:
    """A dataclass field with a default and the words that `--help` shows."""
    return field(default=default, metadata={"help": text})


def add_flags(parser: argparse._ActionsContainer, declared: Any) -> None:
    """One flag per field of the dataclass: int, float, str, bool, or a tuple of ints as `64,256,256`.

    Args:
        declared: the dataclass; or one of it, where `--help` is to show its values and not the class's defaults.
    """
    hints = get_type_hints(declared if isinstance(declared, type) else type(declared))
    for one in fields(declared):
        flag, kind = "--" + one.name.replace("_", "-"), hints[one.name]
        text = one.metadata.get("help", "")
        default = getattr(declared, one.name)
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default {shown})"
        if kind is bool:
            parser.add_argument(flag, dest=one.name, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif get_origin(kind) is Literal:
            parser.add_argument(flag, dest=one.name, choices=get_args(kind), help=text)
        elif get_origin(kind) is tuple:
            parser.add_argument(flag, dest=one.name, type=integers, metavar="N,N,...", help=text)
        else:
            parser.add_argument(flag, dest=one.name, type=kind, metavar=kind.__name__.upper(), help=text)


def add_picture_data(parser: argparse.ArgumentParser) -> None:
    """`--data` and `--size` of what learns from labelled pictures."""
    parser.add_argument("--data", required=True, help="a data set of `python -m training list`, or a folder")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")


def add_reading(parser: argparse._ActionsContainer) -> None:
    """`--decimal` and `--dates` of what learns from a CSV file; `reading_of` takes them."""
    parser.add_argument(
        "--decimal", choices=(".", ","), help="what stands before decimals, where the file leaves it open"
    )
    parser.add_argument(
        "--dates",
        choices=("day-first", "month-first"),
        help="what stands first in 3/4/2024, where the file leaves it open",
    )


def reading_of(options: argparse.Namespace) -> Reading:
    """How cells are read that leave open what they mean."""
    first = None if options.dates is None else options.dates.partition("-")[0]
    return Reading(decimal=options.decimal, first=first)


def given(options: argparse.Namespace, defaults: T) -> T:
    """`defaults` with the fields that were given as flags."""
    named = {f.name: getattr(options, f.name) for f in fields(defaults)}  # type: ignore[arg-type]  # T is a dataclass
    return replace(defaults, **{k: v for k, v in named.items() if v is not None})  # type: ignore[type-var]


def integers(text: str) -> tuple[int, ...]:
    """`0,1,2` -> (0, 1, 2)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between them, got {text!r}") from None


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
