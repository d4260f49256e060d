#!/usr/bin/env bash
# libsndfile reads the first link of a chained Ogg file and stops, without an error.
#
# One expects: soundfile.read() returns all of an Ogg file. Streams one after the other are a valid file (RFC 3533,
# section 4; RFC 7845, section 3): internet radio begins a link with each title, and `cat one.ogg two.ogg` makes one.
# What happens: number of frames, duration and samples are those of the first link. PyAV (FFmpeg) reads them all.
# Versions: soundfile 0.14.0 (libsndfile 1.2.2 in its wheel for Linux on x86-64), PyAV 18.1.0, NumPy 2.4.6, Python 3.11.
# Source: the packages soundfile, av and numpy; issue 277 of libsndfile/libsndfile, open since 2017.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 cffi==2.1.1 numpy==2.4.6 av==18.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import io

import av
import numpy as np
import soundfile

RATE = 48_000
tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)


def written(samples, coding):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="OGG", subtype=coding)
    return file.getvalue()


print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}, av {av.__version__}")
for coding in ("VORBIS", "OPUS"):
    chain = written(tone[:RATE], coding) + written(tone, coding)  # 1 s and 2 s
    told = soundfile.info(io.BytesIO(chain)).duration
    read = len(soundfile.read(io.BytesIO(chain))[0]) / RATE
    with av.open(io.BytesIO(chain)) as file:
        other = sum(frame.samples for frame in file.decode(audio=0)) / RATE
    print(f"{coding}: 3 s in two links; soundfile says {told:.2f} s and reads {read:.2f} s, PyAV reads {other:.2f} s")
    assert abs(other - 3) < 0.1
    assert told == read == 1, "changed: more than the first link is read"
print("as found: the second link is missing, and nothing says so")
PYTHON
