"""The rows that lie in a model's own folder and were compared with its answers when it was loaded, as examples."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.files import decode, encode_png
from app.core.errors import ClientError
from app.core.manifest import Picture
from app.engine.model import Model

SHOWN_PICTURES: Final = 3


def golden_rows(model: Model, graph: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of the model's golden file by name, or of that of one of its graphs; empty where it has none."""
    golden = next((g for g in model.manifest.goldens if graph in (None, g.graph)), None)
    if golden is None:
        return {}
    try:
        data = (model.folder / golden.file).read_bytes()
    except OSError:  # it was there when the model was loaded
        return {}
    if hashlib.sha256(data).hexdigest() != golden.sha256:  # and it was this model's
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def golden_pictures(model: Model, graph: str | None = None, picture: Picture | None = None) -> list[NDArray[np.uint8]]:
    """All golden rows as pictures, (H, W) or (H, W, 3); none where the golden graph takes no pictures.

    Args:
        graph: whose golden rows; the first graph's that has any where none is given.
        picture: what that graph takes, where it is not the model's own.
    """
    picture = picture or model.manifest.picture
    golden = next((g for g in model.manifest.goldens if graph in (None, g.graph)), None)
    if picture is None or golden is None:
        return []
    spec = model.manifest.graphs[golden.graph].inputs[0]
    if spec.dtype != "uint8" or spec.shape[1:] != picture.shape:
        return []
    return [as_picture(row, picture) for row in golden_rows(model, golden.graph).get(spec.name, ())]


def example_pictures(model: Model, graph: str | None = None, picture: Picture | None = None) -> list[NDArray[np.uint8]]:
    """A few pictures that the model's codec can read; a stroke where none of the golden rows is; else none.

    Args:
        graph, picture: as in `golden_pictures`.
    """
    picture = picture or model.manifest.picture
    if picture is None:
        return []
    for candidates in (
        golden_pictures(model, graph, picture),
        [stroke(picture.height, picture.width, picture.channels)],
    ):
        if readable := [pixels for pixels in candidates if _can_be_read(pixels, picture)]:
            return readable[:SHOWN_PICTURES]
    return []


def as_base64(pixels: NDArray[np.uint8]) -> str:
    """A picture as a JSON body has it: base64 of a PNG."""
    return base64.b64encode(encode_png(pixels)).decode("ascii")


def stroke(height: int, width: int, channels: int = 1) -> NDArray[np.uint8]:
    """One upright stroke, light on dark: (H, W) or (H, W, channels)."""
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[height // 6 : -(height // 6) or None, width * 3 // 7 : width * 4 // 7 + 1] = 255
    return pixels[:, :, 0] if channels == 1 else pixels


def as_picture(row: NDArray[Any], picture: Picture) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3), whatever the graph's layout."""
    pixels = row if picture.layout == "hwc" else np.moveaxis(row, 0, -1)
    return np.ascontiguousarray(pixels[..., 0] if picture.channels == 1 else pixels)


def _can_be_read(pixels: NDArray[np.uint8], picture: Picture) -> bool:
    """Whether the codec takes it: a blank golden row, say, shows no digit."""
    try:
        decode(encode_png(pixels), picture, subject="golden", max_pixels=picture.height * picture.width)
    except ClientError:
        return False
    return True
