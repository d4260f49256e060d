"""Renders rows of MNIST as digits on sheets and boards outdoors: cast shadows, ruled paper, glare, and all at once.

A digit is 30 to 600 pixels high in a picture of 160 to 1,280, anywhere on it, seen a little aslant: in blue, black, red
or pencil on tinted paper, in dry pen on a white board, in chalk on a dark one. Each condition of `CONDITIONS` adds its
own; those of `HELD_OUT` are of other shapes, which the reader was not made with. Every sheet has uneven light,
mild blur, sensor noise and JPEG artefacts. The same rows, condition and seed give the same bytes.

A contrast is a share of the light that the paper sends back: ruling of 0.5 is half as bright as its paper, as is a
paper in a shadow of 0.5. Of ruling and ink it is that of their grey; a pen's is 0.5 to 0.95.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tests.quality.photos import FINE, written

SIZES: Final = ((160, 120), (240, 240), (320, 240), (300, 400), (640, 480), (480, 640), (960, 720), (1280, 720))
SMALLEST, LARGEST = 30, 600  # px, a digit's longer side
PAPERS: Final = ((250, 250, 248), (245, 238, 215), (228, 236, 246), (238, 225, 228), (205, 200, 190), (222, 240, 220))
PENS: Final = ((28, 38, 125), (20, 20, 22), (60, 60, 150), (175, 32, 40), (88, 88, 90), (110, 110, 112))
RULINGS: Final = ((120, 150, 220), (110, 110, 115), (210, 120, 130), (120, 190, 150), (150, 120, 200))
GREY: Final = np.array([0.299, 0.587, 0.114])

Plane = NDArray[np.float64]  # (H, W), 0 to 1
Bounds = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Condition:
    """What a sheet has, each drawn from the names given; "" is none of it."""

    shadows: tuple[str, ...] = ("",)
    rulings: tuple[str, ...] = ("",)
    glares: tuple[str, ...] = ("",)


CONDITIONS: Final = {
    "plain": Condition(),
    "shadow": Condition(shadows=("half", "band", "corner")),
    "ruling": Condition(rulings=("lines", "squares")),
    "glare": Condition(glares=("soft", "sharp")),
    "shadow and ruling": Condition(shadows=("half", "band", "corner"), rulings=("lines", "squares")),
    "shadow and glare": Condition(shadows=("half", "band", "corner"), glares=("soft", "sharp")),
}
HELD_OUT: Final = {
    "shadow, other shapes": Condition(shadows=("round", "fingers", "two")),
    "ruling, other kinds": Condition(rulings=("margin", "graph", "staves", "dashed")),
    "glare, other shapes": Condition(glares=("window", "tubes")),
    "all, other kinds": Condition(
        shadows=("round", "fingers", "two"), rulings=("margin", "graph", "staves"), glares=("", "window", "tubes")
    ),
}


def sheet(rows: Sequence[NDArray[np.uint8]], condition: Condition, *, seed: int) -> tuple[bytes, list[Bounds]]:
    """A JPEG of MNIST rows (28, 28) on one sheet, and where each was written; of no row, a blank sheet.

    Several are written beside each other, as a number or a date is, or far apart.
    """
    rng = np.random.default_rng(seed)
    size = SIZES[rng.integers(len(SIZES))]
    aslant = _aslant(size, rng)
    cover, bounds = _cover(rows, size, aslant, rng)
    board = _one_of(("paper", "paper", "paper", "white board", "dark board"), rng)
    if any(condition.rulings):
        board = "paper"
    elif any(condition.glares) and board == "dark board":
        board = "white board"
    ground, pen = _colours(board, rng)
    y, x = np.mgrid[0.0 : size[1], 0.0 : size[0]]
    scene = np.broadcast_to(ground, (*x.shape, 3))
    ruling = _one_of(condition.rulings, rng)
    if ruling:
        scene = scene * _ruled(ruling, *_on_sheet(aslant, x, y), size, rng)
    scene = scene + cover[:, :, None] * (pen - scene)
    light = _lamp(x, y, size, rng)
    shadow = _one_of(condition.shadows, rng)
    if shadow:
        light = light * (1 - rng.uniform(0.2, 0.5) * _shadow(shadow, x, y, size, rng))
    scene = scene * light[:, :, None]
    glare = _one_of(condition.glares, rng)
    if glare:
        scene = scene + _glare(glare, x, y, size, bounds, rng)[:, :, None] * (255 - np.minimum(scene, 255))
    return _taken(scene, rng), bounds


def _taken(scene: NDArray[np.float64], rng: np.random.Generator) -> bytes:
    """As a camera takes and keeps it: blurred, noisy, JPEG."""
    shape = scene.shape
    blurred = Image.fromarray(np.clip(np.rint(scene), 0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(rng.uniform(0, 0.0012 * max(shape) + 0.4))
    )
    noise = rng.normal(0, rng.uniform(0, 7), (*shape[:2], 1)) + rng.normal(0, rng.uniform(0, 3), shape)
    pixels = np.clip(np.rint(np.asarray(blurred) + noise), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=int(rng.integers(40, 96)))
    return out.getvalue()


def _one_of(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[rng.integers(len(names))]


def _colours(board: str, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ground and pen, RGB."""
    if board == "dark board":
        ground = np.array(((32, 38, 36), (30, 62, 48), (18, 18, 20))[rng.integers(3)], np.float64)
        return ground * rng.uniform(0.8, 1.5), np.array((235, 232, 225)) * rng.uniform(0.75, 1.0, 3)
    pen = np.array(PENS[rng.integers(len(PENS))], np.float64) * rng.uniform(0.8, 1.1)
    if board == "white board":
        return np.full(3, rng.uniform(190, 248)), pen
    return np.array(PAPERS[rng.integers(len(PAPERS))]) * rng.uniform(0.85, 1.0), pen


def _aslant(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3): from a picture's pixels to the sheet's, a turn of at most 4 degrees and a mild perspective."""
    w, h = size
    turn = np.deg2rad(rng.uniform(-4, 4))
    cos, sin = np.cos(turn), np.sin(turn)
    centre = np.array([[1, 0, -w / 2], [0, 1, -h / 2], [0, 0, 1]])
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-0.08, 0.08, 2) / np.array([w, h])
    return np.asarray(np.linalg.inv(centre) @ turned @ tilt @ centre)


def _on_sheet(aslant: NDArray[np.float64], x: Plane, y: Plane) -> tuple[Plane, Plane]:
    u, v, scale = (row[0] * x + row[1] * y + row[2] for row in aslant)
    return u / scale, v / scale


def _cover(
    rows: Sequence[NDArray[np.uint8]], size: tuple[int, int], aslant: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Plane, list[Bounds]]:
    """How much of each pixel has ink, and the pieces' bounds in the picture."""
    w, h = size
    if not rows:
        return np.zeros((h, w)), []
    wider = rng.uniform(-0.5, 0.8)
    inks = [written(row, wider=wider) for row in rows]
    longest = max(max(ink.size) for ink in inks)
    apart = 0.0
    far = len(rows) == 2 and rng.random() < 0.4
    if len(rows) > 1:
        apart = rng.uniform(0.2, 0.5)  # of the longest side, as in a number
    across = sum(ink.width for ink in inks) / longest + apart * (len(rows) - 1)
    most = min(LARGEST, 0.86 * w / across, 0.86 * h)
    side = float(np.exp(rng.uniform(np.log(min(SMALLEST, most)), np.log(most))))
    scale = side / longest
    sizes = [(max(1, round(ink.width * scale)), max(1, round(ink.height * scale))) for ink in inks]
    places = _places(sizes, size, apart * side, far=far, rng=rng)
    flat = Image.new("L", size)
    for ink, (iw, ih), (left, top) in zip(inks, sizes, places, strict=True):
        how = Image.Resampling.BOX if scale * FINE < FINE / 2 else Image.Resampling.LANCZOS
        flat.paste(ink.resize((iw, ih), how), (left, top))
    seen = flat.transform(size, Image.Transform.PERSPECTIVE, tuple(aslant.ravel()[:8]), Image.Resampling.BICUBIC)
    back = np.linalg.inv(aslant)
    bounds = []
    for (iw, ih), (left, top) in zip(sizes, places, strict=True):
        us, vs = np.array([left, left + iw, left, left + iw]), np.array([top, top, top + ih, top + ih])
        xs, ys = _on_sheet(back, us, vs)
        bounds.append((float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())))
    return np.asarray(seen) / 255, bounds


def _places(
    sizes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    apart: float,
    *,
    far: bool,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Left and top of each, inside a margin of 7 % that the slant may take away."""
    w, h = size
    margin_x, margin_y = 0.07 * w, 0.07 * h
    if far:  # in two halves of the sheet, wherever in them
        return [
            (
                int(margin_x + k * w / 2 + rng.uniform(0, 1) * max(0, w / 2 - 1.5 * margin_x - iw)),
                int(margin_y + rng.uniform(0, 1) * max(0, h - 2 * margin_y - ih)),
            )
            for k, (iw, ih) in enumerate(sizes)
        ]
    total = sum(iw for iw, _ in sizes) + apart * (len(sizes) - 1)
    tallest = max(ih for _, ih in sizes)
    left = margin_x + rng.uniform(0, 1) * max(0.0, w - 2 * margin_x - total)
    top = margin_y + rng.uniform(0, 1) * max(0.0, h - 2 * margin_y - tallest)
    places = []
    for iw, ih in sizes:
        places.append((int(left), int(top + (tallest - ih) * rng.uniform(0.3, 1))))
        left += iw + apart
    return places


def _lamp(x: Plane, y: Plane, size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Light that falls off to one side and to the corners, by at most a fifth each."""
    u, v = 2 * x / size[0] - 1, 2 * y / size[1] - 1
    angle = rng.uniform(0, 2 * np.pi)
    slope = 1 - rng.uniform(0, 0.1) * (1 + (u * np.cos(angle) + v * np.sin(angle)) / np.sqrt(2))
    return np.asarray(slope * (1 - rng.uniform(0, 0.1) * (u**2 + v**2)))


def _ruled(kind: str, u: Plane, v: Plane, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """(H, W, 3): what share of its light the paper keeps under its ruling."""
    pitch = float(np.exp(rng.uniform(np.log(max(12, 0.03 * min(size))), np.log(0.22 * min(size)))))
    width = rng.uniform(0.8, max(1.2, min(0.1 * pitch, 5)))
    u, v = u + rng.uniform(0, pitch), v + rng.uniform(0, pitch)
    if kind == "squares":
        drawn = np.maximum(_lines(u, pitch, width), _lines(v, pitch, width))
    elif kind == "margin":
        once = _lines(u - rng.uniform(0.1, 0.9) * size[0], 1e6, 1.5 * width)
        drawn = np.maximum(_lines(v, pitch, width), once)
    elif kind == "graph":  # every fifth line is stronger
        fine = np.maximum(_lines(u, pitch, width), _lines(v, pitch, width))
        strong = np.maximum(_lines(u, 5 * pitch, 1.5 * width), _lines(v, 5 * pitch, 1.5 * width))
        drawn = np.maximum(0.5 * fine, strong)
    elif kind == "staves":  # four lines near each other, then a space
        drawn = np.max([_lines(v - k * pitch, 6 * pitch, width) for k in range(4)], axis=0)
    elif kind == "dashed":
        drawn = _lines(v, pitch, width) * (u % (0.5 * pitch) < 0.35 * pitch)
    else:
        drawn = _lines(v, pitch, width)
    tint = 1 - np.array(RULINGS[rng.integers(len(RULINGS))]) / 255
    keeps = np.clip(1 - rng.uniform(0.15, 0.5) * tint / (tint @ GREY), 0, 1)
    keeps = keeps - (keeps @ GREY - (1 - min(0.5, 1 - keeps @ GREY)))  # what was clipped, in grey
    return np.asarray(1 - drawn[:, :, None] * (1 - keeps))


def _lines(at: Plane, pitch: float, width: float) -> Plane:
    away = np.abs((at + pitch / 2) % pitch - pitch / 2)
    return np.clip(width / 2 - away + 0.5, 0, min(1, width))


def _soft(inside: Plane, edge: float) -> Plane:
    """0 to 1 over `edge` pixels about 0."""
    return np.clip(inside / edge + 0.5, 0, 1)


def _side(x: Plane, y: Plane, size: tuple[int, int], rng: np.random.Generator) -> tuple[Plane, float]:
    """Distance in pixels from a line through the picture's middle half, and the line's angle."""
    angle = rng.uniform(0, 2 * np.pi)
    px, py = (side * rng.uniform(0.25, 0.75) for side in size)
    return (x - px) * np.cos(angle) + (y - py) * np.sin(angle), angle


def _shadow(kind: str, x: Plane, y: Plane, size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """1 where a shadow lies; its edge is 1 to 3 pixels wide."""
    edge = rng.uniform(1, 3)
    away, angle = _side(x, y, size, rng)
    if kind == "band":
        return _soft(rng.uniform(0.15, 0.3) * max(size) - np.abs(away), edge)
    if kind == "corner":
        other, _ = _side(x, y, size, rng)
        return np.minimum(_soft(away, edge), _soft(other, edge))
    if kind == "round":
        px, py = (side * rng.uniform(0.1, 0.9) for side in size)
        radius = rng.uniform(0.2, 0.6) * min(size)
        return _soft(radius - np.hypot(x - px, (y - py) * rng.uniform(0.7, 1.4)), edge)
    if kind == "fingers":  # of a hand that holds the camera: an arm and four fingers from one side
        along = x * np.cos(angle) + y * np.sin(angle)
        across = -x * np.sin(angle) + y * np.cos(angle)
        thick = 0.14 * max(size)
        across = across - np.median(across)
        near = np.abs(across % (1.4 * thick) - 0.7 * thick)
        start, reach = np.median(along), rng.uniform(0.1, 0.4) * max(size)
        fingers = np.minimum(thick / 2 - near, 2.8 * thick - np.abs(across))
        hand = np.maximum(start - along, np.minimum(start + reach - along, fingers))
        return _soft(hand, edge)
    if kind == "two":  # of two lamps: half of it, and the whole where both meet
        other, _ = _side(x, y, size, rng)
        return (_soft(away, edge) + _soft(other, edge)) / 2
    return _soft(away, edge)


def _glare(
    kind: str, x: Plane, y: Plane, size: tuple[int, int], bounds: Sequence[Bounds], rng: np.random.Generator
) -> Plane:
    """How far each pixel is drawn to white: what blinds wholly keeps clear of the ink, which nobody could read."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    near_ink = np.zeros(u.shape, bool)
    for left, top, right, bottom in bounds:
        near_ink |= (u >= left - 2) & (u <= right + 2) & (v >= top - 2) & (v <= bottom + 2)
    veil = np.zeros_like(x)
    for _ in range(rng.integers(1, 4)):
        blob = _blob(kind, x, y, size, rng)
        strength = rng.uniform(0.3, 1.0)
        if (blob[near_ink] > 0.3).any():
            strength = min(strength, rng.uniform(0.3, 0.6))
        veil = np.maximum(veil, strength * blob)
    return veil


def _blob(kind: str, x: Plane, y: Plane, size: tuple[int, int], rng: np.random.Generator) -> Plane:
    px, py = (side * rng.uniform(0.0, 1.0) for side in size)
    radius = rng.uniform(0.05, 0.3) * max(size)
    angle = rng.uniform(0, np.pi)
    along = (x - px) * np.cos(angle) + (y - py) * np.sin(angle)
    across = (-(x - px) * np.sin(angle) + (y - py) * np.cos(angle)) * rng.uniform(1, 3)
    if kind == "soft":
        return np.asarray(np.exp(-(along**2 + across**2) / (2 * (radius / 2) ** 2)))
    if kind == "window":  # four panes
        bars = (np.abs(along) > 0.05 * radius) & (np.abs(across) > 0.05 * radius)
        return np.asarray(_soft(radius - np.maximum(np.abs(along), np.abs(across)), 2) * bars)
    if kind == "tubes":
        return np.asarray(_soft(0.12 * radius - np.abs(across), 2) * _soft(2 * radius - np.abs(along), 2))
    return _soft(radius - np.hypot(along, across), rng.uniform(1, 4))
