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
from app.core.manifest.tasks import TASKS, Task

__all__ = [
    "MANIFEST_FILE",
    "ROWS",
    "SCHEMA_VERSION",
    "TASKS",
    "Calibration",
    "DType",
    "DataSource",
    "DigitPicture",
    "Domain",
    "Golden",
    "Graph",
    "Made",
    "Manifest",
    "Measure",
    "Modality",
    "PhotoPicture",
    "Picture",
    "PicturePart",
    "Plane",
    "Task",
    "TensorSpec",
    "Tensors",
    "Translation",
    "Version",
    "numpy_dtype",
]
