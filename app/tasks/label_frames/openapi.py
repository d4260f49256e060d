"""POST /v1/label-frames in the OpenAPI document."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.video import encode_png
from app.core.manifest import Video
from app.engine.model import Model
from app.engine.registry import Registry
from app.tasks.label_frames.schema import CLIP_SCHEMA, FrameLabel, LabelFramesAnswer, LabelFramesRequest
from app.web.openapi.forms import files_schema, form_schema
from app.web.openapi.golden import as_base64, as_picture, golden_rows, stroke
from app.web.openapi.operation import (
    FILE,
    PROBLEM,
    Operation,
    events_schema,
    file_schema,
    fitting,
    model_options,
    models_for,
    shown_for,
)
from app.web.openapi.pictures import picture_inputs
from app.web.request.limits import Limits
from app.web.request.media_types import EVENT_STREAM, FORM, NPY, VIDEOS, VTT

SHOWN_FRAMES: Final = 8  # of a longer clip only the beginning: the document holds it as base64


def describe(registry: Registry, limits: Limits) -> Operation:
    """From the models that are loaded."""
    models = models_for(registry, "label-frames")
    videos = [model.manifest.video for model in models if model.manifest.video is not None]
    # Of the model that takes most: what it answers, the document may not forbid.
    most = min(limits.max_rows, max((video.max_frames for video in videos), default=limits.max_rows))
    options = model_options(models, LabelFramesRequest)
    return Operation(
        about="A label for each frame of one clip, and the parts of the clip that have one label; as JSON, numbers or "
        "subtitles.",
        options=options,
        body="LabelFramesRequest",
        inputs={"video": CLIP_SCHEMA, **picture_inputs(most)},
        one_of=("video", "image", "images"),
        takes={
            FORM: form_schema(
                {"video": FILE | {"description": "one clip"}, "image": files_schema("image files, a frame each", most)},
                fitting(options, registry, "label-frames", ("video",)),
            ),
            **{kind: file_schema(kind) for kind in VIDEOS},
            NPY: file_schema(NPY, "uint8 frames (T, height, width) or (T, height, width, channels)"),
        },
        gives={
            NPY: file_schema(NPY, "float32 probabilities (frames, labels)"),
            VTT: {"type": "string", "description": "the segments as WebVTT"},
            EVENT_STREAM: events_schema(
                "by a model that streams: an event `frame` for each frame, as in `frames`; in the end `final`, the "
                "answer as JSON, or `error`, a problem",
                {"frame": FrameLabel, "final": LabelFramesAnswer, "error": PROBLEM},
            ),
        },
        errors=(409,),
        requests=_example_requests(shown_for(registry, "label-frames")),
    )


def _example_requests(models: Sequence[Model]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        video = model.manifest.video
        assert video is not None
        frames = _example_frames(model, video)
        found[f"{model.name}: a clip as base64"] = {"video": _clip(frames, video.rate), "model": model.name}
        found[f"{model.name}: frames as base64"] = {"images": [as_base64(f) for f in frames[:2]], "model": model.name}
    return found or {"a clip as base64": {"video": _clip([stroke(32, 32), stroke(32, 32).T], 25.0)}}


def _example_frames(model: Model, video: Video) -> list[NDArray[np.uint8]]:
    """The beginning of its first golden clip, (H, W) or (H, W, 3) each; two strokes where it has none."""
    picture = video.picture
    golden = golden_rows(model)
    clip = golden["video"][0] if "video" in golden else ()
    frames = [as_picture(frame, picture) for frame in clip[: min(SHOWN_FRAMES, video.max_frames)]]
    return frames or [stroke(picture.height, picture.width, picture.channels)] * 2


def _clip(frames: Sequence[NDArray[np.uint8]], rate: float) -> str:
    pixels = np.stack(frames)
    return base64.b64encode(encode_png(pixels if pixels.ndim == 4 else pixels[..., None], rate)).decode("ascii")
