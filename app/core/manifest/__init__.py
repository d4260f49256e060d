"""The contract between training and app: what `models/<name>/<version>/manifest.json` may say."""

from app.core.manifest.graph import ROWS, DType, Golden, Graph, Tensors, TensorSpec, numpy_dtype
from app.core.manifest.image import DigitPicture, Domain, PhotoPicture, Picture, PicturePart, Plane, Translation
from app.core.manifest.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Calibration,
    DataSource,
    Made,
    Manifest,
    Measure,
    Modality,
    Version,
)
from app.core.manifest.sound import Confidence, Sound, Transcription
from app.core.manifest.tasks import TASKS, Task
from app.core.manifest.text import Languages, Text, TextFile, Writing
from app.core.manifest.video import FrameLabels, Video

__all__ = [
    "MANIFEST_FILE",
    "ROWS",
    "SCHEMA_VERSION",
    "TASKS",
    "Calibration",
    "Confidence",
    "DType",
    "DataSource",
    "DigitPicture",
    "Domain",
    "FrameLabels",
    "Golden",
    "Graph",
    "Languages",
    "Made",
    "Manifest",
    "Measure",
    "Modality",
    "PhotoPicture",
    "Picture",
    "PicturePart",
    "Plane",
    "Sound",
    "Task",
    "TensorSpec",
    "Tensors",
    "Text",
    "TextFile",
    "Transcription",
    "Translation",
    "Version",
    "Video",
    "Writing",
    "numpy_dtype",
]
