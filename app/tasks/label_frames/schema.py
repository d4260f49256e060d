"""The JSON of POST /v1/label-frames: its request and its response."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from app.web.openapi.schemas import ModelAnswer, PictureRequest

# As a picture in JSON: the codec checks it, which knows the model.
CLIP_SCHEMA: Final[dict[str, Any]] = {
    "description": "A clip as base64 (a `data:` URL is taken too): animated AVIF, WebP, GIF or PNG; MP4 or WebM where "
    "this server has PyAV.",
    "type": "string",
    "contentEncoding": "base64",
}
Seconds = Annotated[float, Field(ge=0, description="seconds from the beginning of the clip")]
Probability = Annotated[float, Field(ge=0, le=1)]


class LabelFramesRequest(PictureRequest):
    """The JSON form of a request: one clip as `video`, or its frames as `images`."""

    video: Annotated[Any, Field(json_schema_extra=CLIP_SCHEMA)] = None


class FrameLabel(BaseModel):
    """One frame at the model's rate, and its most probable label."""

    index: Annotated[int, Field(ge=0)]
    time_s: Seconds
    label: str
    probability: Probability


class Segment(BaseModel):
    """Neighbouring frames of one label, and its mean probability in them."""

    label: str
    start_s: Seconds
    end_s: Seconds
    probability: Probability


class LabelFramesAnswer(ModelAnswer):
    """Who answered, and what is in each frame and each part of the clip."""

    frames: list[FrameLabel]
    segments: Annotated[
        list[Segment],
        Field(description="without the background; by the grammar of a model that has one, else of the frames' labels"),
    ]
    text: Annotated[str | None, Field(description="the sentence by the model's grammar; null where it has none")]
    duration_s: Annotated[float, Field(ge=0, description="sum of the times for which the frames that came are shown")]
    frames_in: Annotated[int, Field(ge=1, description="frames that came, before they were brought to the model's rate")]
