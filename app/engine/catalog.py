"""What is known of each model folder, what of it is served, and which model is the default.

Tables alone: no files, no threads, no event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, cast

from app.core.errors import ClientError, NotFound, invalid, shown
from app.core.manifest import TASKS, Modality, Task
from app.core.text import did_you_mean
from app.engine.folders import Key, Refused, Signature, in_order
from app.engine.model import Model, now_in_words

log = logging.getLogger(__name__)

State = Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]

BY_HAND: Final = "unloaded by hand"
GONE: Final = "its folder is gone"


@dataclass(frozen=True)
class FolderState:
    """A known folder and its state; `reason` is why its files are not served. A refusal above the version folders has
    the version ""."""

    name: str
    version: str
    state: State
    reason: str


@dataclass(frozen=True)
class DefaultVersion:
    """The version of a model that answers where a request names none, and since when: ISO 8601, UTC."""

    model: Model
    since: str


@dataclass
class VersionEntry:
    """A version folder.

    Attributes:
        model: what is served of it; None for nothing.
        tried: the signature of the files that were last loaded, refused or unloaded.
        reason: why these are not served; empty where they are.
        busy: while it is being loaded or unloaded.
    """

    model: Model | None = None
    tried: Signature | None = None
    reason: str = ""
    busy: State | None = None


class Catalog:
    """Changed on the event loop alone, where each change is seen whole or not at all. A page that is made of it in a
    thread meanwhile is made again: `generation` has grown.

    Args:
        defaults: names of models by task (`classify`), or by task and modality (`classify.table`); see `default`.
        defaults_required: whether these must be loaded. Those of an operator must; those that Lectern ships with give
            way to the first model that answers.
        pinned: the default version of a model, by name; without one it is the latest that is loaded.

    Attributes:
        models: what is served, by name and version.
        defaults: of each name the default version, by name.
        refused: folders that are not served as they are now, and why.
        generation: grows with every change of what is served, so that documents built from it can be kept until then.
        entries: every known version folder. Whoever changes one calls `publish` or `show_refused` after it.
        refused_above: refusals above the version folders.
    """

    def __init__(
        self,
        *,
        defaults: Mapping[str, str] | None = None,
        defaults_required: bool = True,
        pinned: Mapping[str, str] | None = None,
    ) -> None:
        self.models: tuple[Model, ...] = ()
        self.defaults: tuple[Model, ...] = ()
        self.refused: tuple[Refused, ...] = ()
        self.generation = 0
        self.pinned: Mapping[str, str] = pinned or {}
        self.entries: dict[Key, VersionEntry] = {}
        self.refused_above: tuple[Refused, ...] = ()
        self._wanted = defaults or {}
        self._wanted_must_be_loaded = defaults_required
        self._versions: dict[str, dict[str, Model]] = {}
        self._default_versions: dict[str, DefaultVersion] = {}
        self._default_models: dict[tuple[Task, Modality | None], Model] = {}  # chosen once for each generation

    def get(self, name: str, version: str | None = None) -> Model:
        """The model of that name; without a version the pinned one, else the latest.

        Raises:
            NotFound: naming what there is, and why a pinned version is not there.
        """
        if version is None:
            default = self._default_versions.get(name)
            if default is not None:
                return default.model
            if name in self.pinned:
                wanted, why = self.pinned[name], self.why_not_pinned(name)
                raise invalid("version", expected=wanted, got="not loaded", detail=why, error=NotFound)
        versions = self._versions.get(name)
        if versions is None:
            raise not_found("model", name, self._versions)
        assert version is not None  # what is loaded and not pinned has a default
        model = versions.get(version)
        if model is None:
            raise not_found(f"version of model '{name}'", version, versions)
        return model

    def default(self, task: Task, modality: Modality | None = None) -> Model:
        """The model of a request that names none, in its default version.

        It is the one wanted for the task and modality, else for the task. Where none is, or that of the task does not
        take the modality, it is the first by name that answers the task's plain request.

        Args:
            modality: of what the request has brought; None for any.

        Raises:
            NotFound: no model does the task, or the one that must be loaded is not, or does another task.
        """
        key, known = (task, modality), self._default_models
        model = known.get(key)
        if model is None:
            model = known[key] = self._choose_default(task, modality)
        return model

    def default_models(self, task: Task) -> dict[str, Model]:
        """The default models by what a request asks: `classify`, and `classify.table` where another one answers that.

        Those that must be loaded and are not are left out.
        """
        modalities = {model.manifest.modality for model in self.models if task in model.manifest.tasks}
        found: dict[str, Model] = {}
        for modality in (None, *sorted(modalities)):
            with suppress(NotFound):
                model = self.default(task, modality)
                if modality is None or found.get(task) is not model:
                    found[task if modality is None else f"{task}.{modality}"] = model
        return found

    def log_missing_defaults(self) -> None:
        """Log which wanted models are not loaded, and who answers in their place."""
        if self._wanted_must_be_loaded:
            names = sorted({model.name for model in self.models})
            for key, name in self._wanted.items():
                if name not in names:
                    there = ", ".join(names) or "none"
                    log.warning("default model %s=%s is not loaded, there is: %s", key, name, there)
            return
        answering = []
        for key, name in self._wanted.items():
            task, _, modality = key.partition(".")
            request = cast("Task", task), cast("Modality | None", modality or None)
            names = self._names_for(*request)
            if names and name not in names:
                with suppress(NotFound):
                    answering.append(f"{key}={self.default(*request).name} (not {name})")
        if answering:
            listed = ", ".join(answering)
            log.info("not all usual models are loaded; requests that name no model go to: %s", listed)

    def _choose_default(self, task: Task, modality: Modality | None) -> Model:
        names = self._names_for(task, modality)
        name = self._wanted_name(task, modality, names)
        if name is None:
            plainly = TASKS[task].answers_plainly
            able = (n for n in names if (d := self.default_version(n)) and plainly(d.model.manifest))
            name = next(able, names[0] if names else None)
        if name is None:
            what = task if modality is None else f"{task} with {modality} input"
            detail = f"no model for the task '{what}' is loaded"
            raise invalid("model", expected=f"a model for {what}", detail=detail, error=NotFound)
        if name not in names:
            raise not_found(f"default model for the task '{task}'", name, names)
        return self.get(name)

    def _wanted_name(self, task: Task, modality: Modality | None, names: Sequence[str]) -> str | None:
        """The model wanted for such requests, of `names` or one that must be loaded; None where none is."""
        for_modality, for_task = self._wanted.get(f"{task}.{modality}"), self._wanted.get(task)
        if not self._wanted_must_be_loaded:
            return next((name for name in (for_modality, for_task) if name in names), None)
        if for_modality is not None:
            return for_modality
        takes_another_modality = for_task not in names and for_task in self._names_for(task)
        return None if takes_another_modality else for_task

    def _names_for(self, task: Task, modality: Modality | None = None) -> list[str]:
        """The loaded models that do a task, of one modality or of any; whichever version, so that `get` says why a
        pinned one is not there."""
        found = (m.manifest for m in self.models if task in m.manifest.tasks)
        return list(dict.fromkeys(m.name for m in found if modality in (None, m.modality)))

    def default_version(self, name: str) -> DefaultVersion | None:
        """What `get(name)` returns, and since when; None where it raises."""
        return self._default_versions.get(name)

    def index(self) -> tuple[FolderState, ...]:
        """Every known folder by name and version: served, refused, unloaded, being loaded."""
        above = [FolderState(refusal.folder, "", "UNAVAILABLE", refusal.reason) for refusal in self.refused_above]
        entries = [
            FolderState(*key, "READY" if entry.model else entry.busy or "UNAVAILABLE", entry.reason)
            for key, entry in self.entries.items()
        ]
        return tuple(sorted(above + entries, key=lambda known: (known.name, in_order(known.version))))

    def why_not_pinned(self, name: str) -> str:
        """Why the pinned version of this name is not there."""
        version = self.pinned[name]
        entry = self.entries.get((name, version))
        why = (entry.reason if entry else "") or f"there is no folder {name}/{version}"
        there_is = ", ".join(self._versions.get(name, ())) or "none"
        return f"model '{name}' is pinned to version {version}, which is not loaded, there is {there_is}: {why}"

    def publish(self) -> None:
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
                defaults[name] = before if before and before.model is model else DefaultVersion(model, now_in_words())
        self.models = tuple(model for there in versions.values() for model in there.values())
        self.defaults = tuple(default.model for default in defaults.values())
        self._versions, self._default_versions = versions, defaults
        self._default_models = {}
        self.generation += 1

    def refuse(self, key: Key, reason: str) -> None:
        """Record and log that the files of an entry are not served; what was loaded of it goes on."""
        entry = self.entries[key]
        entry.reason = reason
        goes_on = f"; the one loaded at {entry.model.loaded_at} goes on" if entry.model else ""
        log.error("refused %s/%s: %s%s", *key, reason, goes_on)
        self.show_refused()

    def refuse_above(self, refused: tuple[Refused, ...]) -> None:
        """All refusals above the version folders; each is logged once."""
        for refusal in refused:
            if refusal not in self.refused_above:
                log.error("refused %s: %s", refusal.folder, refusal.reason)
        self.refused_above = refused
        self.show_refused()

    def show_refused(self) -> None:
        """Update `refused` from the entries, without those that somebody has taken out."""
        reasons = ((key, entry.reason) for key, entry in self._in_order() if entry.reason not in ("", BY_HAND, GONE))
        self.refused = (*self.refused_above, *(Refused("/".join(key), reason) for key, reason in reasons))

    def _in_order(self) -> list[tuple[Key, VersionEntry]]:
        return sorted(self.entries.items(), key=lambda item: (item[0][0], in_order(item[0][1])))


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
