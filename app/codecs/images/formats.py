"""Which picture formats are taken, and what a file is by its first bytes."""

from __future__ import annotations

from typing import Final

TAKEN: Final = "PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF"

_BMP_HEADER_BYTES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_PICTURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

_OTHERS: Final = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x00\x00\x01\x00", "an ICO icon"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"RIFF", "a RIFF file, not WebP"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska file"),
    (b"OggS", "an Ogg file: sound, or a video"),
    (b"fLaC", "a FLAC recording"),
    (b"ID3", "an MP3 recording"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"DDS ", "a DirectDraw surface"),
    (b"Lerc2 ", "a LERC picture"),
    (b"CntZImage ", "a LERC picture"),
    (b"icns", "an Apple icon"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"P1\n", "a Netpbm picture"),
    (b"P2\n", "a Netpbm picture"),
    (b"P3\n", "a Netpbm picture"),
    (b"P4\n", "a Netpbm picture"),
    (b"P5\n", "a Netpbm picture"),
    (b"P6\n", "a Netpbm picture"),
)

_AVIF: Final = (b"avif", b"avis")  # AVIF specification 1.1, section 5: a picture, and a sequence of pictures
_BRANDS: Final = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"heim": "a HEIC picture",
    b"heis": "a HEIC picture",
    b"hevc": "a HEIC sequence of pictures",
    b"hevx": "a HEIC sequence of pictures",
    b"crx ": "a camera's raw picture (CR3)",
    b"mif1": "a HEIF picture",
    b"msf1": "a HEIF picture",
}


def picture_format(data: bytes) -> str | None:
    """Pillow's name of the picture format that `data` begins as, None where it is none of those taken."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    # Two letters are little to go by: a text may begin with them as well.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "AVIF"
    return next((name for magic, name in _PICTURES if data.startswith(magic)), None)


def _is_avif(data: bytes) -> bool:
    """By the major brand, or where that only says which family of containers it is, by one of the compatible brands."""
    if data[8:12] not in (b"mif1", b"msf1"):
        return data[8:12] in _AVIF
    end = min(int.from_bytes(data[:4], "big"), 256)
    return any(data[at : at + 4] in _AVIF for at in range(16, end, 4))


def describe(data: bytes) -> str:
    """What a file that is no picture of ours seems to be, in words for its sender."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "a WAV recording"
    if data[128:132] == b"DICM":
        return "a DICOM picture"
    for magic, what in _OTHERS:
        if data.startswith(magic):
            return what
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a video or another ISO media file")
    return _describe_text(data[:1024]) or f"unknown data beginning with bytes {data[:8].hex(' ')}"


def _describe_text(head: bytes) -> str | None:
    # The cut may fall inside a character, so an incomplete one at the end is no objection.
    text = head.decode("utf-8", errors="ignore")
    if len(text.encode()) < len(head) - 3 or any(c < " " and c not in "\t\n\r\f" for c in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in start:
        return "an SVG drawing"
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page"
    if start.startswith("<"):
        return "an XML document"
    if start.startswith(("{", "[")):
        return "JSON text"
    return "text"
