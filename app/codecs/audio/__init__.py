"""Recordings to samples and back: `decode` reads files, `pcm16` a microphone's pieces, `encode_wav` writes."""

from app.codecs.audio.files import Clip, decode
from app.codecs.audio.formats import MEDIA_TYPES, describe, sniff
from app.codecs.audio.pcm import encode_wav, pcm16

__all__ = ["MEDIA_TYPES", "Clip", "decode", "describe", "encode_wav", "pcm16", "sniff"]
