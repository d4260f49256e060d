"""A published variational autoencoder, run as it lies there: ONNX Runtime on the CPU, no torch model, no server."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tqdm import tqdm

from app.core.manifest import Manifest
from training.families.vae import likelihood
from training.families.vae.likelihood import Likelihood
from training.metrics import onnx_model

SAMPLES: Final = 1000
SAMPLE_SEED: Final = 0
ROWS_KEPT: Final = 250  # scored before they are written down
ROWS_PER_RUN: Final = 125  # what a core's cache holds of the decoder's layers, roughly
PROTOCOLS: Final = {
    "nll": f"importance-weighted bound on -ln p(x) with {SAMPLES:,} posterior samples (Burda et al. 2016), mean over "
    "rows",
    "elbo": f"evidence lower bound: the reconstruction term, mean over the same {SAMPLES:,} samples, less the KL term",
    "reconstruction": f"-E_q[ln p(x | z)], mean over the same {SAMPLES:,} samples",
    "kl": "KL(q(z | x) || N(0, I)), closed form, mean over rows",
    "mse": "squared error per pixel between a picture and what is decoded from its mu, pixels in [0, 1], greys kept",
}


class PublishedVae:
    """A published folder's two graphs in ONNX Runtime on the CPU.

    Raises `LoadRefused` where one is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.graphs = [manifest.graphs[name].sha256 for name in ("encoder", "decoder")]
        # One thread each: rows are scored side by side, which leaves no core waiting for another.
        self.encoder: ort.InferenceSession = onnx_model.open_graph(folder, manifest.graphs["encoder"], threads=1)
        self.decoder: ort.InferenceSession = onnx_model.open_graph(folder, manifest.graphs["decoder"], threads=1)

    def encode(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(N, H, W, C) -> mu, logvar (N, Z)."""
        mu, logvar = onnx_model.run(self.encoder, {"image": image}, ["mu", "logvar"], rows=ROWS_PER_RUN)
        return mu, logvar

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, Z) -> probabilities (N, H, W, C)."""
        return onnx_model.run(self.decoder, {"latent": latent}, ["image"], rows=ROWS_PER_RUN)[0]

    def score(
        self, image: NDArray[np.uint8], *, samples: int = SAMPLES, kept: Path | None = None, quiet: bool = True
    ) -> Likelihood:
        """How probable each picture is, by `samples` draws of its posterior: the same draws whenever it is asked.

        What is done is kept in the folder `kept`, if one is given, so that a scoring that was stopped goes on from
        there; rows that another process has put there meanwhile are taken from it.
        """
        starts = range(0, len(image), ROWS_KEPT)
        bar = tqdm(total=len(image), desc=f"Scoring, {samples:,} samples a row", unit="row", disable=quiet)
        parts = []
        with bar:
            for start in starts:
                parts.append(self.score_part(image, start, samples=samples, kept=kept))
                bar.update(len(parts[-1].kl))
        return likelihood.joined(parts)

    def score_part(self, image: NDArray[np.uint8], start: int, *, samples: int, kept: Path | None) -> Likelihood:
        """The rows from `start`, at most `ROWS_KEPT` of them."""
        rows = image[start : start + ROWS_KEPT]
        path = None if kept is None else kept / f"{self._key(rows, samples)}-{start}.npz"
        if path is not None and path.exists():
            with np.load(path) as found:
                return Likelihood(**found)
        mu, logvar = self.encode(rows)

        def of_row(i: int) -> Likelihood:
            x, row = rows[i] / np.float32(255), start + i
            return likelihood.score_row(self.decode, x, mu[i], logvar[i], samples=samples, seed=SAMPLE_SEED, row=row)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            scored = likelihood.joined(pool.map(of_row, range(len(rows))))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            with temporary.open("wb") as file:
                np.savez(file, reconstruction=scored.reconstruction, kl=scored.kl, log_w=scored.log_w)
            temporary.replace(path)
        return scored

    def _key(self, rows: NDArray[np.uint8], samples: int) -> str:
        """Of everything that the scores hang on."""
        return hashlib.sha256(f"{self.graphs} {samples} {SAMPLE_SEED} ".encode() + rows.tobytes()).hexdigest()[:16]

    def errors(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Mean squared error of each picture and its reconstruction from mu, pixels in [0, 1]: (N,)."""
        difference = self.decode(self.encode(image)[0]) - image / np.float32(255)
        return np.asarray((difference.astype(np.float64) ** 2).reshape(len(image), -1).mean(axis=1))


def figures(found: Likelihood, errors: NDArray[np.float64]) -> dict[str, float]:
    return {
        "nll": found.nll(),
        "elbo": found.elbo,
        "reconstruction": -float(found.reconstruction.mean()),
        "kl": float(found.kl.sum(axis=1).mean()),
        "mse": float(errors.mean()),
    }
