"""Numbers, pictures and manifest fields as a reader wants them: small pure functions to HTML text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.manifest import DigitPicture, PhotoPicture
from app.core.metric_names import THIN

THUMBNAIL = 96


def count(n: int) -> str:
    """9974 -> 9,974."""
    return f"{n:,}"


def percent(share: float, rows: int) -> str:
    """A share of `rows` rows in per cent, with the decimals that so many rows can tell apart."""
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:.{2 if rows >= 5000 else 1}f}{THIN}%"


def seconds(value: float) -> str:
    """75.2 -> `1 min 15 s`."""
    if value < 60:
        return f"{value:.1f}{THIN}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h {minutes}{THIN}min" if hours else f"{minutes}{THIN}min {rest}{THIN}s"


def milliseconds(value: float) -> str:
    """Three significant figures, no unit."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def picture(pixels: NDArray[np.uint8], *, alt: str) -> str:
    """`<img>` of one row (H, W, 1 or 3): PNG as it is, or a JPEG thumbnail of what is larger than 96 pixels."""
    h, w = pixels.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    stream, large = io.BytesIO(), max(h, w) > THUMBNAIL
    if large:
        image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
        image.save(stream, "JPEG", quality=80, optimize=True)
    else:
        image.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    tiny = "" if large else ' class="tiny"'
    return f'<img{tiny} src="data:image/{"jpeg" if large else "png"};base64,{data}" alt="{escape(alt)}">'


def reading(p: DigitPicture | PhotoPicture | None) -> str:
    """What the server does with a picture before the model sees it."""
    if p is None:
        return ""
    size = f"{p.height} × {p.width}"
    if p.kind == "digit":
        return (
            "As handwriting: turned upright by its EXIF tag, made grey and turned to light ink on black whichever way "
            f"it came; the ink's bounding box is scaled, aspect kept, to fit {p.box} × {p.box} pixels and its centre "
            f"of mass is put in the middle of {size}."
        )
    fit = (
        f"its shorter side is resized to fit and the middle {size} is cut out"
        if p.resize == "cover"
        else f"it is stretched to {size}"
    )
    colour = "grey" if p.channels == 1 else "RGB"
    return (
        f"As a photo: turned upright by its EXIF tag, laid on grey level {p.background} where it is transparent, "
        f"made {colour}; {fit}."
    )


def table(titles: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls in itself; a title that starts with `<` is set to the left."""
    cells = "".join(
        f'<th class="left">{escape(title[1:])}</th>' if title.startswith("<") else f"<th>{escape(title)}</th>"
        for title in titles
    )
    head = f"<thead><tr>{cells}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'
