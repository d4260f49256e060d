"""The languages of the loaded models, as LibreTranslate lists them."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from pydantic import BaseModel

from app.engine.registry import Registry
from app.web.openapi.operation import shown_for

NAMES: Final = {
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "nl": "Dutch",
    "pt": "Portuguese",
}
"""English names by code (ISO 639-1); a code that is not here is its own name."""


class LibreLanguage(BaseModel):
    """A language that texts are translated from, and to which."""

    code: str
    name: str
    targets: list[str]


def listed_languages(registry: Registry) -> list[LibreLanguage]:
    """Those that models translate from, by code."""
    targets = defaultdict(set)
    for model in shown_for(registry, "translate"):
        if model.manifest.languages is not None:
            targets[model.manifest.languages.source].add(model.manifest.languages.target)
    return [
        LibreLanguage(code=code, name=NAMES.get(code, code), targets=sorted(those))
        for code, those in sorted(targets.items())
    ]
