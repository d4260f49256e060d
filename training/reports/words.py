"""Numbers, pictures and manifest fields as a reader wants them: small pure functions to HTML text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.manifest import DigitPicture, Measure, PhotoPicture

THIN: Final = "\u202f"  # narrow no-break space, between a number and its unit
TITLES: Final = {
    "accuracy": "Accuracy",
    "nll": "Negative log-likelihood",
    "ece": "Calibration error",
    "brier": "Brier score",
    "mse": "Mean squared error",
    "rmse": "Root mean squared error",
    "mae": "Mean absolute error",
    "r2": "R²",
    "psnr": "PSNR",
    "elbo": "ELBO",
    "kl": "KL divergence",
    **{f"coverage_{c}": f"Within the {c} % interval" for c in (50, 80, 90, 95)},
    "width_90": "Width of the 90 % interval",
    **{f"psnr_{s}": f"PSNR at noise {s}" for s in (15, 25, 50)},
    **{f"psnr_blind_{s}": f"PSNR at noise {s}, estimated" for s in (15, 25, 50)},
    "fd_ratio": "FD ratio",
    **{f"fd_ratio_{e}": f"FD ratio ({e})" for e in ("pooled", "strided", "random")},
    **{f"fd_ratio_{n}": f"FD ratio, {n} evaluation{'s' * (n > 1)}" for n in (1, 2, 4, 8, 16)},
    **{
        f"fd_ratio_{n}_{e}": f"FD ratio, {n} evaluation{'s' * (n > 1)} ({e})"
        for n in (1, 2, 4, 8, 16)
        for e in ("pooled", "strided", "random")
    },
    "denoised_psnr": "Noise taken away, told how much",
    "blind_psnr": "Noise taken away, not told",
    "gain_bm3d_psnr": "Gain over BM3D",
    "gain_nlm_psnr": "Gain over non-local means",
    "read_accuracy": "Read rightly after denoising",
    "class_share": "Asked-for class drawn",
    "cas_gap": "CAS gap",
}
HIGHER: Final = ("accuracy", "precision", "recall", "f1", "top5", "auc", "r2", "psnr", "elbo", "share", "memorisation")
LOWER: Final = ("nll", "ece", "brier", "error", "loss", "mse", "rmse", "mae", "kl", "ratio", "gap")
SHARES: Final = ("accuracy", "ece", "precision", "recall", "error", "top5", "coverage", "share")
DECIMALS: Final = {"ratio": 2, "memorisation": 3, "gap": 2}
THUMBNAIL = 96


def count(n: int) -> str:
    """9974 -> 9,974."""
    return f"{n:,}"


def percent(share: float, rows: int) -> str:
    """A share of `rows` rows in per cent, with the decimals that so many rows can tell apart."""
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:.{2 if rows >= 5000 else 1}f}{THIN}%"


def kind_of(name: str) -> str:
    """`test_accuracy` -> `accuracy`: the known word that a measure's name ends in, else the name itself."""
    return next((known for known in (*HIGHER, *LOWER, *SHARES) if known in name.lower().split("_")), name.lower())


def is_better_higher(name: str) -> bool:
    """Whether more of a measure is better."""
    return kind_of(name) in HIGHER


def title_of(name: str) -> str:
    """A heading for a measure."""
    first, _, rest = name.partition("_")
    if name not in TITLES and first in TITLES and rest:
        return f"{TITLES[first]}, {rest.replace('_', ' ')}"
    return TITLES.get(name, name.replace("_", " ").capitalize())


def decimals(value: float, name: str, unit: str = "") -> int:
    """How many decimals of a measure tell something: what other seeds or rows would change is noise, not a figure."""
    if unit in ("%", "dB") or (not unit and kind_of(name) in SHARES):
        return 2
    return DECIMALS.get(kind_of(name), 2 if abs(value) >= 1 else 4)


def figure(value: float, name: str, unit: str = "", *, digits: int | None = None) -> str:
    """A value with its unit, and `digits` decimals in place of its own; shares without a unit become per cent."""
    digits = decimals(value, name, unit) if digits is None else digits
    kind = kind_of(name)
    if not unit and kind in SHARES:
        value, unit = 100 * value, "%"
    if not unit and kind == "nll":
        unit = "nats"
    text = f"{value:.{digits}f}"
    return f"{text}{THIN}{escape(unit)}" if unit else text


def goal_of(m: Measure) -> str:
    """`at least 99.75 %`, or nothing."""
    if m.goal is None:
        return ""
    kind = kind_of(m.name)
    side = "at least " if kind in HIGHER else "at most " if kind in LOWER else ""
    return side + figure(m.goal, m.name, m.unit, digits=decimals(m.value, m.name, m.unit))


def verdict(m: Measure) -> str:
    """Reached or missed, and by how much; nothing where there is no goal or no known better side."""
    kind = kind_of(m.name)
    if m.goal is None or kind not in HIGHER + LOWER:
        return ""
    lacking = m.goal - m.value if kind in HIGHER else m.value - m.goal
    if lacking <= 0:
        return '<span class="reached">✓ reached</span>'
    digits = decimals(m.value, m.name, m.unit)
    least = 10.0**-digits / (100 if not m.unit and kind in SHARES else 1)
    by = f"by {'less than ' if lacking < least / 2 else ''}{figure(max(lacking, least), m.name, m.unit, digits=digits)}"
    return f'<span class="missed">✗ missed {by.replace("%", "points")}</span>'


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
