"""Moving pictures in a manifest: how a clip becomes a graph's frames, and how labels of frames become a sentence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.core.manifest.image import Picture
from app.core.manifest.part import Label, ManifestPart


class Video(ManifestPart):
    """Frames at a fixed rate, each made as `picture` says.

    Attributes:
        rate: frames a second; a clip of another rate is resampled, each moment taking the frame shown then.
        max_frames: of the longest row.
    """

    picture: Picture
    rate: Annotated[float, Field(gt=0, le=240)]
    max_frames: Annotated[int, Field(ge=1, le=10_000)]


class FrameLabels(ManifestPart):
    """What the labels of frames are.

    Attributes:
        background: the label that is no event: silence.
        grammar: of each place of a sentence the labels that may stand there; empty where there is no grammar.
        twin: the model that does the same frame by frame, where this one needs the whole clip.
    """

    background: Label | None = None
    grammar: tuple[tuple[Label, ...], ...] = ()
    twin: str | None = None
