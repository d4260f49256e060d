#!/usr/bin/env bash
# libsndfile reads an MP3 file without a Xing or Info tag only as far as it guesses that the file goes.
#
# One expects: soundfile.read() returns all of an MP3 file. The tag is optional (ISO 11172-3 does not know it), streams and
# cut files lack it, and other decoders read the same bytes to their end.
# What happens: without the tag libsndfile takes the size of the first frame for that of all,
# computes the number of samples from it, and stops there, without an error. Variable rates of bits are the default of
# libsndfile's own encoder, so that a file which begins louder than it goes on loses most of its sound.
# Versions: soundfile 0.14.0 (libsndfile 1.2.2 in its wheel for Linux on x86-64), NumPy 2.4.6, Python 3.11.
# Source: the packages soundfile and numpy; libsndfile on GitHub (src/mpeg_decode.c)
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 cffi==2.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import soundfile

RATE, SECONDS = 8_000, 10
BIT_RATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # kbit/s of MPEG-2.5, layer III

t = np.arange(RATE * SECONDS) / RATE
noise = np.random.default_rng(0).normal(size=len(t)) * (t < 0.2)  # much to encode, then a tone
sound = 0.3 * noise + 0.3 * np.sin(2 * np.pi * 440 * t)
out = io.BytesIO()
soundfile.write(out, sound, RATE, format="MP3")
tagged = out.getvalue()


def frames(data):
    """The MP3 file's frames, by the lengths in their headers."""
    at = 0
    while at < len(data):
        assert data[at] == 0xFF and data[at + 1] & 0xFE == 0xE2, "MPEG-2.5, layer III"
        size = 72 * BIT_RATES[data[at + 2] >> 4] * 1000 // RATE + (data[at + 2] >> 1 & 1)
        yield data[at : at + size]
        at += size


parts = list(frames(tagged))
assert b"Xing" in parts[0] or b"Info" in parts[0]
untagged = b"".join(parts[1:])
whole, _ = soundfile.read(io.BytesIO(tagged))
cut, _ = soundfile.read(io.BytesIO(untagged))
print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}")
print(f"with the tag:    {len(parts) - 1} frames of 576 samples, {len(whole)} samples read ({len(whole) / RATE:.2f} s)")
print(f"without the tag: {len(parts) - 1} frames of 576 samples, {len(cut)} samples read ({len(cut) / RATE:.2f} s)")
assert len(whole) == len(t)
assert len(cut) < 0.8 * len(t), "changed: the untagged file is read to its end"
print("as found: the rest is missing, and nothing says so")
PYTHON
