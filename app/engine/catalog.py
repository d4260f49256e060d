"""What is known of each model folder, and what of it is served: tables alone, no files, no threads, no event loop."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from app.core.errors import ClientError, NotFound, invalid, shown
from app.core.example_commands import answers_plainly
from app.core.manifest import Modality, Task
from app.core.text import did_you_mean
from app.engine.folders import Key, Refused, Signature, in_order
from app.engine.model import Model, now_in_words

log = logging.getLogger(__name__)

State = Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]

BY_HAND: Final = "unloaded by hand"
GONE: Final = "its folder is gone"


@dataclass(frozen=True)
class Indexed:
    """A folder that is known and how it stands with it; `reason` is why what lies there is not what is served. A
    refusal above the version folders has the version ""."""

    name: str
    version: str
    state: State
    reason: str


@dataclass(frozen=True)
class Default:
    """The version of a model that answers where none is asked for, and since when: ISO 8601, UTC."""

    model: Model
    since: str


@dataclass
class Entry:
    """A version folder.

    Attributes:
        tried: the signature of the files that were last loaded, refused or unloaded.
        reason: why these are not served; empty where they are.
        busy: while it is being loaded or unloaded.
    """

    model: Model | None = None
    tried: Signature | None = None
    reason: str = ""
    busy: State | None = None


class Catalog:
    """Used on the event loop alone, where each of its changes is seen whole or not at all.

    Attributes:
        models: what is served, by name and version.
        refused: folders that are not served as they are now, and why.
        generation: grows with every change of what is served, so that documents made from it can be kept until then.
        defaults: of each name the version that answers where none is asked for, by name.
        pinned: the default version of a model, by name; without one it is the latest that is loaded.
    """

    def __init__(self, *, defaults: Mapping[str, str] | None = None, pinned: Mapping[str, str] | None = None) -> None:
        self.models: tuple[Model, ...] = ()
        self.defaults: tuple[Model, ...] = ()
        self.refused: tuple[Refused, ...] = ()
        self.generation = 0
        self.pinned: Mapping[str, str] = pinned or {}
        self._task_defaults = defaults or {}
        self._entries: dict[Key, Entry] = {}
        self._around: tuple[Refused, ...] = ()
        self._versions: dict[str, dict[str, Model]] = {}
        self._default_versions: dict[str, Default] = {}
        self._candidates: dict[tuple[Task, Modality | None], list[str]] = {}

    def get(self, name: str, version: str | None = None) -> Model:
        """The model of that name; where no version is asked for the pinned one, else the latest.

        Raises:
            NotFound: naming what there is, and why a pinned version is not there.
        """
        if version is None:
            default = self._default_versions.get(name)
            if default is not None:
                return default.model
            if name in self.pinned:
                wanted = self.pinned[name]
                raise invalid(
                    "version", expected=wanted, got="not loaded", detail=self.why_not_pinned(name), error=NotFound
                )
        versions = self._versions.get(name)
        if versions is None:
            raise not_found("model", name, self._versions)
        assert version is not None  # what is loaded and not pinned has a default
        model = versions.get(version)
        if model is None:
            raise not_found(f"version of model '{name}'", version, versions)
        return model

    def default(self, task: Task, modality: Modality | None = None) -> Model:
        """The model for a request that names none, in its default version: the configured one, else the first by name
        that answers the task's plain request.

        Args:
            modality: what the request has brought; of one configured for the task alone it may be another.

        Raises:
            NotFound: no such model is loaded, or the configured one is not, or is of another task.
        """
        names = self.names_for(task, modality)
        name = self._task_defaults.get(f"{task}.{modality}")
        if name is None:
            name = self._task_defaults.get(task)
            if name is None or (name not in names and name in self.names_for(task)):
                able = (n for n in names if (d := self.default_version(n)) and answers_plainly(d.model.manifest, task))
                name = next(able, names[0] if names else None)
        if name is None:
            what = task if modality is None else f"{task} with {modality} input"
            raise invalid(
                "model",
                expected=f"a model for {what}",
                detail=f"no model for the task '{what}' is loaded",
                error=NotFound,
            )
        if name not in names:
            raise not_found(f"default model for the task '{task}'", name, names)
        return self.get(name)

    def names_for(self, task: Task, modality: Modality | None = None) -> list[str]:
        """The loaded models that can be asked for a task, of one modality or of any."""
        key = (task, modality)
        if key not in self._candidates:
            # By name, whichever version: one that is pinned to a version that is not there is told so by `get`.
            found = (m.manifest for m in self.models if task in m.manifest.tasks)
            self._candidates[key] = list(dict.fromkeys(m.name for m in found if modality in (None, m.modality)))
        return self._candidates[key]

    def default_version(self, name: str) -> Default | None:
        """What `get(name)` gives, and since when; None where it gives nothing."""
        return self._default_versions.get(name)

    def index(self) -> tuple[Indexed, ...]:
        """Every folder that is known, by name and version: served, refused, unloaded, on its way."""
        around = [Indexed(refusal.folder, "", "UNAVAILABLE", refusal.reason) for refusal in self._around]
        entries = [
            Indexed(*key, "READY" if entry.model else entry.busy or "UNAVAILABLE", entry.reason)
            for key, entry in self._entries.items()
        ]
        return tuple(sorted(around + entries, key=lambda known: (known.name, in_order(known.version))))

    def why_not_pinned(self, name: str) -> str:
        """Why the pinned version of this name is not there."""
        version = self.pinned[name]
        entry = self._entries.get((name, version))
        why = (entry.reason if entry else "") or f"there is no folder {name}/{version}"
        there_is = ", ".join(self._versions.get(name, ())) or "none"
        return f"model '{name}' is pinned to version {version}, which is not loaded, there is {there_is}: {why}"

    def _publish(self) -> None:
        """Let requests see what the entries have now, all of it at once."""
        versions: dict[str, dict[str, Model]] = {}
        for (name, version), entry in self._in_order():
            if entry.model is not None:
                versions.setdefault(name, {})[version] = entry.model
        defaults = {}
        for name, there in versions.items():
            model = there.get(self.pinned.get(name, next(reversed(there))))
            if model is not None:
                before = self._default_versions.get(name)
                defaults[name] = before if before and before.model is model else Default(model, now_in_words())
        self.models = tuple(model for there in versions.values() for model in there.values())
        self.defaults = tuple(default.model for default in defaults.values())
        self._versions, self._default_versions = versions, defaults
        self._candidates = {}
        self.generation += 1

    def _refuse(self, key: Key, reason: str) -> None:
        """What lies there is not served; what is served of it, if anything, goes on."""
        entry = self._entries[key]
        entry.reason = reason
        goes_on = f"; the one loaded at {entry.model.loaded_at} goes on" if entry.model else ""
        log.error("refused %s/%s: %s%s", *key, reason, goes_on)
        self._show_refused()

    def _refuse_around(self, refused: tuple[Refused, ...]) -> None:
        """All refusals above the version folders; each is logged once."""
        for refusal in refused:
            if refusal not in self._around:
                log.error("refused %s: %s", refusal.folder, refusal.reason)
        self._around = refused
        self._show_refused()

    def _show_refused(self) -> None:
        told = ((key, entry.reason) for key, entry in self._in_order() if entry.reason not in ("", BY_HAND, GONE))
        self.refused = (*self._around, *(Refused("/".join(key), reason) for key, reason in told))

    def _in_order(self) -> list[tuple[Key, Entry]]:
        return sorted(self._entries.items(), key=lambda item: (item[0][0], in_order(item[0][1])))


def not_found(what: str, name: str, known: Iterable[str]) -> ClientError:
    there = list(known)
    names, hint = ", ".join(there), did_you_mean(name, there) if what == "model" else ""
    return invalid(
        what.split()[0],
        expected=names or None,
        got=shown(name),
        detail=f"no {what} is called {shown(name)}{hint}: there is {names or 'none'}",
        error=NotFound,
    )
