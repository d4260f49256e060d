"""Moving pictures to a graph's frames: `decode`. Pure functions; training reads clips with the same ones."""

from app.codecs.video.clips import Clip, decode

__all__ = ["Clip", "decode"]
