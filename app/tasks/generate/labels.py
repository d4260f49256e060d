"""Labels of a request: by name or by index, one for all pictures or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import ClientError, invalid
from app.core.sampling.latents import sample_labels
from app.core.text import described, did_you_mean, listed
from app.engine.model import Model
from app.web.request.limits import Limits
from app.web.request.model_choice import check_output_size, check_within

Labels = NDArray[np.int64]
"""(N,): indices of the manifest's list."""


def count(options: Mapping[str, Any], model: Model, limits: Limits) -> int:
    """How many pictures to generate: `n`, or one for each of the labels, else one.

    Raises:
        Unprocessable: both, and they are not the same; no picture at all.
        TooLarge: more pictures than the limits.
    """
    n, labels = options.get("n"), options.get("labels")
    if n is not None:
        check_within("n", n, 1, limits.max_rows)
    if labels is not None and n not in (None, len(labels)):
        raise _wrong_length(labels, n, "n is")
    pictures = (n or 1) if labels is None else len(labels)
    check_output_size(pictures, model, limits, subject="n" if labels is None else "labels")
    return pictures


def chosen(options: Mapping[str, Any], n: int, model: Model) -> Labels | None:
    """A label for each of n pictures: (n,); None where the request names none.

    Raises:
        Unprocessable: `label` and `labels`; not as many as pictures; one that the model does not have.
    """
    one, each = options.get("label"), options.get("labels")
    known = model.manifest.drawn_labels
    if one is not None and each is not None:
        raise invalid(
            "labels",
            expected="label or labels",
            got="both",
            detail="label is for all pictures and labels for each, the request has both",
        )
    if one is not None:
        return np.full(n, _index(one, known, "label", model), np.int64)
    if each is None:
        return None
    if len(each) != n:
        raise _wrong_length(each, n, "the pictures asked for are")
    return np.array([_index(label, known, f"labels[{i}]", model) for i, label in enumerate(each)], np.int64)


def sampled(n: int, model: Model, seed: int) -> Labels | None:
    """A label for each of n pictures by the seed, each equally likely; None for a model that has none."""
    known = len(model.manifest.drawn_labels)
    return sample_labels(n, known, seed) if known else None


def nothing(n: int, model: Model) -> Labels | None:
    """The index after the last for each of n pictures, which stands for no label; None for a model that has none."""
    known = len(model.manifest.drawn_labels)
    return np.full(n, known, np.int64) if known else None


def required(options: Mapping[str, Any], n: int, model: Model, mode: str) -> Labels | None:
    """As `chosen`, where a model with labels cannot do without; None for a model that has none."""
    found = chosen(options, n, model)
    if found is None and model.manifest.drawn_labels:
        raise invalid(
            "label",
            expected=listed(model.manifest.drawn_labels),
            got="none",
            detail=f"model '{model.name}' makes pictures of a label: {mode} takes a label as well, "
            f"one of {listed(model.manifest.drawn_labels)}",
        )
    return found


def names(labels: Labels | None, model: Model) -> Sequence[str | None]:
    """What the answer calls them; None for the index after the last, which stands for no label."""
    known = (*model.manifest.drawn_labels, None)
    return () if labels is None else [known[index] for index in labels.tolist()]


def _index(label: Any, known: Sequence[str], subject: str, model: Model) -> int:
    if isinstance(label, str) and label in known:
        return known.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(known):
        return label
    hint = did_you_mean(label, known) if isinstance(label, str) else ""
    got = described(label)
    raise invalid(
        subject,
        expected=f"{listed(known)}, or a number from 0 to {len(known) - 1}",
        got=got,
        detail=f"{subject} is {got}{hint}, model '{model.name}' has {listed(known)}, as numbers 0 to {len(known) - 1}",
    )


def _wrong_length(labels: Sequence[Any], n: int | None, what: str) -> ClientError:
    return invalid(
        "labels",
        expected=f"{n} labels",
        got=f"{len(labels)} labels",
        detail=f"labels has {len(labels)}, {what} {n}: one for each picture",
    )
