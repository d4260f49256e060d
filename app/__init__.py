"""The server. Its arithmetic in NumPy is on single pictures, where a pool of BLAS threads costs more than it gives and
takes the cores from the models; the pool's size is read once, when NumPy is first imported."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
