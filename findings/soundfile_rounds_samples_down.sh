#!/usr/bin/env bash
# soundfile.write() rounds floats down in WAV and AIFF, not to the nearest step; in FLAC of 16 bit it rounds to it.
#
# One expects: a sample becomes the nearest of 65,536 steps: an error of at most half a step, 0 on average, and almost
# silence becomes silence.
# What happens: soundfile switches libsndfile's clipping on, and that path cuts the lower bits off: 0.9 of a step is
# then 0, -0.001 of a step becomes -1. The error is up to a step and half a step on average, a steady offset; noise of
# 1e-9 becomes a signal of whole steps. The same array as FLAC of 16 bit differs from it as WAV. What was read from a
# 16-bit file is written back exactly, so that tests with such files see nothing.
# Versions: soundfile 0.14.0 (libsndfile 1.2.2 in its wheel for Linux on x86-64), NumPy 2.4.6, Python 3.11.
# Source: the packages soundfile and numpy; issue 362 of libsndfile/libsndfile, mended by pull request 959 in 2023, but
# in no release so far.
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

STEP = 1 / 32_768


def written(samples, form, coding="PCM_16"):
    """The samples as they come back, in steps of 16 bit."""
    file = io.BytesIO()
    soundfile.write(file, samples, 8_000, format=form, subtype=coding)
    file.seek(0)
    return soundfile.read(file, dtype="int16")[0].astype(int)


rng = np.random.default_rng(0)
wave = 1_000 * np.sin(np.arange(80_000) / 7) + rng.uniform(-0.5, 0.5, 80_000)  # in steps
quiet = rng.normal(size=80_000) * 1e-9
exact = np.arange(-32_768, 32_768)
few = np.array([0.4, 0.9, -0.001, -0.4, -0.9])
print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}; errors in steps of 16 bit")
for form, mean, silent in (("WAV", -0.5, False), ("AIFF", -0.5, False), ("FLAC", 0.0, True)):
    error = written(wave * STEP, form) - wave
    moved = np.count_nonzero(written(quiet, form))
    print(f"{form:4}: {few.tolist()} -> {written(few * STEP, form).tolist()}; of a wave: ", end="")
    print(f"mean {error.mean():+.3f}, largest {np.abs(error).max():.2f}; ", end="")
    print(f"of 80,000 samples of noise of 1e-9, {moved} are not 0")
    assert np.array_equal(written(exact * STEP, form), exact)
    assert abs(error.mean() - mean) < 0.02 and (moved == 0) == silent, "changed: the rounding is another"
print("as found: WAV and AIFF round down")
PYTHON
