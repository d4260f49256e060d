"""Moving pictures to a graph's frames: `decode`. Pure functions; training reads clips with the same ones."""

from app.codecs.video.animated import encode_png
from app.codecs.video.clips import Clip, decode, of_rows

__all__ = ["Clip", "decode", "encode_png", "of_rows"]
