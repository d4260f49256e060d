"""Pictures in a manifest: how a file becomes a graph's pixels, in one size, in tiles, or between two domains."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from app.core.manifest.latent import Anomaly
from app.core.manifest.part import Identifier, ManifestPart, Text


class PicturePart(ManifestPart):
    """What both kinds of picture share: the pixels that the graph takes, uint8, 0 black to 255 white."""

    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    layout: Literal["hwc", "chw"] = "hwc"

    @property
    def shape(self) -> tuple[int, int, int]:
        """One row's shape, in the graph's order of axes."""
        h, w, c = self.height, self.width, self.channels
        return (h, w, c) if self.layout == "hwc" else (c, h, w)


class DigitPicture(PicturePart):
    """Handwriting, read as MNIST was made (LeCun et al. 1998): light ink on black. The ink's bounding box is
    scaled with its aspect kept to fit a box of `box` pixels, and its centre of mass put in the middle."""

    kind: Literal["digit"]
    channels: Literal[1] = 1
    box: Annotated[int, Field(ge=1, le=4096)]

    @model_validator(mode="after")
    def _box_fits(self) -> Self:
        if self.box > min(self.height, self.width):
            raise ValueError(f"box {self.box} does not fit into {self.height}x{self.width}")
        return self


class PhotoPicture(PicturePart):
    """A photo: turned upright by EXIF, laid on `background`, resized, cropped.

    `cover`: the shorter side is resized to fit and the middle is cut out; `stretch`: both sides are resized.
    `background` (grey level, 0 to 255) shows through where the picture is transparent.
    """

    kind: Literal["photo"]
    resize: Literal["cover", "stretch"] = "cover"
    background: Annotated[int, Field(ge=0, le=255)] = 255


Picture = Annotated[DigitPicture | PhotoPicture, Field(discriminator="kind")]


class Plane(ManifestPart):
    """A picture of any size, grey or each of its colours for itself, cut into square tiles that overlap."""

    tile: Annotated[int, Field(ge=8, le=4096)]  # pixels a side
    overlap: Annotated[int, Field(ge=0)]  # pixels that neighbours share

    @model_validator(mode="after")
    def _tiles_move_on(self) -> Self:
        if 2 * self.overlap > self.tile:
            raise ValueError(f"plane: overlap {self.overlap} is more than half of tile {self.tile}")
        return self


class Domain(ManifestPart):
    """One of two kinds of picture between which a model translates."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z](?:[a-z_]{0,30}[a-z])?$")]
    title: Text
    picture: Picture


class Translation(ManifestPart):
    """One direction: `graph` makes pictures of `target` from those of `source`.

    `cycle` holds held-out rows' mean absolute errors after translation, rounded to 8 bits, and back.
    """

    graph: Identifier
    source: str
    target: str
    cycle: Anomaly
