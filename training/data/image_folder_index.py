"""A folder of labelled pictures, looked at without opening a file: which file is of which class, in which part."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from training.data.base import DataError

MAX_LABEL_CHARACTERS = 200  # as the manifest has it
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"})
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
SIDE_CARS = frozenset(
    {".txt", ".xml", ".json", ".csv", ".tsv", ".md", ".html", ".yaml", ".yml", ".ini", ".db", ".log", ".xmp", ".aae"}
)
"""What programs that make, mark or sort pictures lay beside them."""
PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "held",
    "valid": "held",
    "validation": "held",
}

Classes = dict[str, list[Path]]
"""Label -> its files; both sorted."""


def find_files(root: Path) -> dict[str, Classes]:
    """The parts "train", "held" and "test" that the folder has; only "train" where it has no such sub-folders.

    Every part has the same classes, two or more, with at least one file each.

    Raises:
        DataError: anything else, in one line that names the folder or file at fault.
    """
    folders, files = _entries(root)
    parts = {PARTS[folder.name.casefold()]: folder for folder in folders if folder.name.casefold() in PARTS}
    # A class may be called "train" too; a part is known by the class folders in it.
    if not any(_entries(folder)[0] for folder in parts.values()):
        return {"train": _classes(root, folders, files)}
    if "train" not in parts:
        raise DataError(f"{root}: has {_names(parts)} with class folders in it, but no train/")
    if beside := [folder.name for folder in folders if folder not in parts.values()]:
        raise DataError(
            f"{root}: {_list(beside)} beside {_names(parts)}: a class folder, or a second part of that name?"
        )
    found = {part: _classes(folder, *_entries(folder)) for part, folder in sorted(parts.items())}
    for part in found.keys() - {"train"}:
        _check_same(root, {parts["train"].name: found["train"], parts[part].name: found[part]})
    return found


def side_cars(root: Path) -> int:
    """How many files of a folder were passed over as no pictures."""
    return sum(path.suffix.lower() in SIDE_CARS for path in root.rglob("*") if not path.name.startswith("."))


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """(sub-folders, files), hidden and system files left out; sorted by name."""
    folders: list[Path] = []
    files: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.startswith(".") or entry.name.casefold() in SYSTEM_FILES:
                    continue
                if not (entry.is_dir() or entry.is_file()):  # a pipe would block the reader for ever
                    raise DataError(f"{entry.path}: neither a file nor a folder (a broken link?)")
                (folders if entry.is_dir() else files).append(Path(entry.path))
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}") from error
    return folders, files


def _classes(root: Path, folders: list[Path], loose: list[Path]) -> Classes:
    if not folders:
        raise DataError(
            f"{root}: has no classes: expected one sub-folder per class, here are {len(loose)} files and no sub-folder"
        )
    if loose_pictures := [path.name for path in loose if path.suffix.lower() in PICTURE_SUFFIXES]:
        raise DataError(f"{root}: pictures beside the class folders belong to no class: {_list(loose_pictures)}")
    if len(folders) == 1:
        raise DataError(f"{root}: has one class, {folders[0].name!r}; a classifier needs two or more")
    classes: Classes = {}
    for folder in folders:
        label = _label(folder)
        if label in classes:
            raise DataError(f"{root}: two class folders are called {label!r}, written with different code points")
        inner, found = _entries(folder)
        classes[label] = [path for path in found if path.suffix.lower() not in SIDE_CARS]
        if inner:
            raise DataError(
                f"{inner[0]}: a folder inside the class {label!r}; pictures lie directly in their class's folder"
            )
    if empty := [label for label, files in classes.items() if not files]:
        raise DataError(f"{root}: no pictures in the class {_list(empty)}")
    return dict(sorted(classes.items()))


def _label(folder: Path) -> str:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{str(folder)!a}: the name is not UTF-8, so it cannot be a label") from error
    # macOS takes names apart (u + diaeresis), others do not: one word, one label.
    label = unicodedata.normalize("NFC", folder.name)
    if len(label) > MAX_LABEL_CHARACTERS:
        raise DataError(f"{folder}: the name is {len(label)} characters, a label has at most {MAX_LABEL_CHARACTERS}")
    return label


def _check_same(root: Path, parts: Mapping[str, Classes]) -> None:
    (a, a_classes), (b, b_classes) = parts.items()
    for here, there, missing in ((a, b, a_classes.keys() - b_classes), (b, a, b_classes.keys() - a_classes)):
        if missing:
            raise DataError(f"{root}: the class {_list(sorted(missing))} is in {here}/ but not in {there}/")


def _names(parts: Mapping[str, Path]) -> str:
    return ", ".join(f"{folder.name}/" for folder in parts.values())


def _list(names: list[str], shown: int = 5) -> str:
    return ", ".join(map(repr, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")
