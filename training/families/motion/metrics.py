"""How well a published net says in which direction digits move, and what the same net without recurrence says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest import Manifest
from training.metrics import classification, onnx_model
from training.metrics.streaming import run_in_pieces

ROWS_PER_RUN: Final = 250
STREAMER: Final = "streamer"
FORGETFUL: Final = "forgetful"

PROTOCOLS: Final = {
    "accuracy": "share of frames whose most probable label is the direction that the digit moved in",
    "nll": "mean negative log-likelihood of the true label of a frame, nats",
    "ece": "expected calibration error over the frames, 15 equal-mass bins",
    "accuracy_without_recurrence": "the same share for the same net, trained as long, that forgets its state before "
    "every frame",
}


class PublishedMotion:
    """A published folder's two graphs in ONNX Runtime on the CPU.

    Raises `LoadRefused` where one is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        threads = torch.get_num_threads()
        self.graphs = manifest.graphs
        self._sessions = {
            name: onnx_model.open_graph(folder, manifest.graphs[name], threads=threads)
            for name in (STREAMER, FORGETFUL)
        }

    def label(self, video: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Frame by frame: (N, T, H, W) -> probabilities (N, T, L) and the state after each frame (N, T, hidden)."""
        found = [
            run_in_pieces(self._sessions[STREAMER].run, self.graphs[STREAMER], video[i : i + ROWS_PER_RUN, ..., None])
            for i in range(0, len(video), ROWS_PER_RUN)
        ]
        return np.concatenate([p for p, _ in found]), np.concatenate([s["state"] for _, s in found])

    def label_without_recurrence(self, video: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, T, H, W) -> probabilities (N, T, L)."""
        rows, frames = video.shape[:2]
        given = {"video": video.reshape(rows * frames, 1, *video.shape[2:], 1)}
        (found,) = onnx_model.run(self._sessions[FORGETFUL], given, ["probabilities"], rows=2000)
        return found.reshape(rows, frames, -1)


def figures(p: NDArray[np.float32], without: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """From the probabilities (N, T, L) of both nets and the truth (N, T), by the names in `PROTOCOLS`."""
    flat, y = p.reshape(-1, p.shape[2]), labels.ravel()
    return {
        "accuracy": classification.accuracy(flat, y),
        "nll": classification.negative_log_likelihood(flat, y),
        "ece": classification.expected_calibration_error(flat, y),
        "accuracy_without_recurrence": classification.accuracy(without.reshape(len(y), -1), y),
    }
