"""Probabilities of frames as JSON values, as subtitles and as an array."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pydantic_core
from numpy.typing import NDArray

from app.codecs.npy import encode_npy
from app.codecs.video import Clip
from app.core.decoding.grammar import Grammar, Segment, segments
from app.core.decoding.subtitles import Cue, vtt
from app.core.manifest import Manifest
from app.engine.model import Model
from app.web.request.media_types import NPY, VTT

DIGITS: Final = 7  # of probabilities: what float32 holds near 1
DECIMALS: Final = 4  # of seconds


def frame_values(manifest: Manifest, probabilities: NDArray[Any], first: int = 0) -> list[dict[str, Any]]:
    """Each frame's most probable label, as JSON values.

    Args:
        probabilities: (K, labels).
        first: the index of their first frame.
    """
    assert manifest.video is not None
    best = probabilities.argmax(axis=1)
    values = np.round(np.clip(probabilities[np.arange(len(best)), best].astype(np.float64), 0, 1), DIGITS)
    return [
        {
            "index": first + i,
            "time_s": round((first + i) / manifest.video.rate, DECIMALS),
            "label": manifest.labels[label],
            "probability": value,
        }
        for i, (label, value) in enumerate(zip(best.tolist(), values.tolist(), strict=True))
    ]


def to_values(model: Model, clip: Clip, probabilities: NDArray[Any]) -> dict[str, Any]:
    """LabelFramesAnswer, as JSON values; `probabilities` (T, labels)."""
    manifest = model.manifest
    assert manifest.frame_labels is not None
    found = segments_of(manifest, clip, probabilities)
    return {
        "model": model.name,
        "version": model.version,
        "device": model.device,
        "frames": frame_values(manifest, probabilities),
        "segments": [
            {
                "label": manifest.labels[one.label],
                "start_s": round(one.start_s, DECIMALS),
                "end_s": round(one.end_s, DECIMALS),
                "probability": round(min(max(one.probability, 0.0), 1.0), DIGITS),
            }
            for one in found
        ],
        "text": " ".join([manifest.labels[one.label] for one in found]) if manifest.frame_labels.grammar else None,
        "duration_s": round(clip.duration_s, DECIMALS),
        "frames_in": clip.frames_in,
    }


def segments_of(manifest: Manifest, clip: Clip, probabilities: NDArray[Any]) -> list[Segment]:
    """Along the likeliest path through the grammar, where there is one; of the last frame as much as was shown."""
    assert manifest.frame_labels is not None
    assert manifest.video is not None
    grammar = Grammar.of(manifest.frame_labels, manifest.labels)
    times = np.minimum(np.arange(len(probabilities) + 1) / manifest.video.rate, clip.duration_s)
    return segments(grammar.path(probabilities), probabilities, times, grammar.background)


def written(form: str, model: Model, clip: Clip, probabilities: NDArray[np.float32]) -> bytes:
    """In the form of a media type."""
    if form == NPY:
        return encode_npy(probabilities)
    if form == VTT:
        labels, found = model.manifest.labels, segments_of(model.manifest, clip, probabilities)
        return vtt([Cue(labels[one.label], one.start_s, one.end_s) for one in found]).encode()
    content: bytes = pydantic_core.to_json(to_values(model, clip, probabilities))
    return content
