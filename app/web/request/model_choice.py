"""Which model answers a request, and whether its options are within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.core.errors import ClientError, Conflict, TooLarge, invalid
from app.core.manifest import Modality, Picture, Task
from app.core.manifest.latent import Latent
from app.engine.catalog import Catalog
from app.engine.model import Model
from app.engine.registry import Registry
from app.web.request.limits import Limits

AS_JSON: Final = "take its answer as application/json"
MAX_OUTPUT_PIXELS: Final = 4 << 20
"""Of all pictures in one response: in colour, and as numbers, they are 48 MiB."""


def choose_model(options: Mapping[str, Any], registry: Registry, task: Task, modality: Modality | None) -> Model:
    """The model that the options `model` and `version` name; the task's default where they name none.

    Raises:
        NotFound: there is no such model or version.
        Unprocessable: it does something else.
    """
    name, version = options.get("model"), options.get("version")
    if name is None:
        model = registry.catalog.default(task, modality)
        if version is not None:
            model = registry.catalog.get(model.name, version)
    else:
        model = registry.catalog.get(name, version)
    tasks = model.tasks
    if task not in tasks:
        raise invalid(
            "model",
            expected=f"a model of the task {task}",
            got=f"'{model.name}', a model of the task {tasks[0]}",
            detail=f"model '{model.name}' is made to {' and '.join(tasks)}, not to {task}",
        )
    return model


def check_within(name: str, value: int, least: int, most: int, why: str = "") -> None:
    """Raises Unprocessable where an option is not from `least` to `most`; `why` ends the message."""
    if not least <= value <= most:
        raise invalid(name, expected=f"{least} to {most}", got=str(value), why=why)


def check_dimension(name: str, value: int, model: Model) -> None:
    """Raises Unprocessable where the model's latent has no such dimension."""
    size = latent_of(model).size
    check_within(name, value, 0, size - 1, f": model '{model.name}' has a latent of {size}")


def latent_of(model: Model) -> Latent:
    """The latent of a model that has one, as every model of the task reconstruct has."""
    assert model.manifest.latent is not None
    return model.manifest.latent


def most_pictures(model: Model, limits: Limits) -> int:
    """How many pictures of the model's own size one response may have."""
    picture = model.manifest.picture
    assert picture is not None
    return min(limits.max_rows, _most_pixels(limits) // (picture.height * picture.width))


def check_output_size(
    n: int, model: Model, limits: Limits, *, subject: str, of: str = "", picture: Picture | None = None
) -> None:
    """Bound the response that a small request can cause.

    Args:
        n: pictures in the response.
        picture: what they are; of the model's own size where that is not given.
        of: how they come to be so many, for the message, e.g. "16 x 16".

    Raises:
        TooLarge: more pictures than the limits, or more pixels of them all than these or MAX_OUTPUT_PIXELS.
    """
    picture = picture or model.manifest.picture
    assert picture is not None
    for got, most, unit in (
        (n, limits.max_rows, "pictures"),
        (n * picture.height * picture.width, _most_pixels(limits), "pixels"),
    ):
        if got > most:
            counted = f"{of} = {got}" if of and unit == "pictures" else str(got)
            raise invalid(
                subject,
                expected=f"at most {most} {unit}",
                got=f"{got} {unit}",
                detail=f"{subject} asks for {counted} {unit}, at most {most} are made in one request",
                error=TooLarge,
            )


def _most_pixels(limits: Limits) -> int:
    """Of all pictures of one response."""
    return min(limits.max_pixels, MAX_OUTPUT_PIXELS)


def streaming_twin(options: Mapping[str, Any], catalog: Catalog, model: Model, twin: str | None, task: Task) -> Model:
    """The model's twin that streams, if it is loaded and the request named no model; else the model."""
    if {"model", "version"} & set(options) or twin is None or not _is_loaded(catalog, twin):
        return model
    found = catalog.get(twin, None)
    return found if task in found.tasks else model


def no_stream(catalog: Catalog, model: Model, twin: str | None, *, whole: str, instead: str) -> ClientError:
    """The error for a model that does not stream.

    Args:
        twin: the model that the manifest names as the one that does; it may not be loaded.
        whole: what the model needs, e.g. "the whole recording".
        instead: what the client can do with it.
    """
    if twin is not None and _is_loaded(catalog, twin):
        instead = f"ask '{twin}', which streams"
    elif twin is not None:
        instead = f"'{twin}', which streams, is not loaded here; {instead}"
    return invalid(
        "model",
        expected=f"'{twin}'" if twin else "a model that streams",
        got=f"'{model.name}'",
        detail=f"model '{model.name}' needs {whole} and cannot stream: {instead}",
        error=Conflict,
    )


def _is_loaded(catalog: Catalog, name: str) -> bool:
    return name in {model.name for model in catalog.models}
