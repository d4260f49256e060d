"""Data sets as whole tensors. `load("mnist")`, `load("cifar10")`, `load("path/to/folder")`.

A file of this package with a `DESCRIPTION` is a data set of that name; anything else that is asked for is a folder.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from types import ModuleType

from app.core.manifest import Manifest
from training.data import folder
from training.data.base import DataError, ImageDataset

__all__ = ["DataError", "ImageDataset", "available", "dataset_of", "load"]


def load(spec: str, *, size: int | None = None) -> ImageDataset:
    """The data set of that name, or of the folder at that path.

    Args:
        spec: a name that `available()` lists, or a path; `./mnist` is the path where both would fit.
        size: side in pixels to which a folder's pictures are brought; the named data sets have their own.

    Raises:
        DataError: it cannot be had, or cannot be trained on.
    """
    sources = _sources()
    module = sources.get(spec)
    if module is None:
        if not os.path.lexists(spec):
            raise DataError(f"{spec}: no such folder, and no data set of that name; there are {', '.join(sources)}")
        dataset = folder.load(spec) if size is None else folder.load(spec, size=size)
    elif size is not None:
        raise DataError(f"{spec}: has its own picture size; `size` is for folders of pictures")
    else:
        dataset = module.load()
    assert isinstance(dataset, ImageDataset)
    return dataset


def dataset_of(manifest: Manifest, spec: str | None = None) -> ImageDataset:
    """The data set of that name or path, or the one that the model was made from; a folder's pictures in its size.

    Raises:
        DataError: as `load`.
    """
    spec = spec or manifest.data.spec
    size = manifest.picture.height if manifest.picture is not None and spec not in _sources() else None
    return load(spec, size=size)


def available() -> list[tuple[str, str, str]]:
    """(name, description, where it was found or how to get it), by name; last, how to name a folder."""
    rows = []
    for name, module in _sources().items():
        place = module.where()
        rows.append((name, module.DESCRIPTION, f"in {place}" if place else "fetched when first asked for"))
    rows.append(("path/to/folder", "your pictures: one sub-folder per class, or train/ and test/ above them", "yours"))
    return rows


def _sources() -> dict[str, ModuleType]:
    modules = {
        found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    }
    return {name: module for name, module in modules.items() if hasattr(module, "DESCRIPTION")}
