"""From the two trained nets to a published model that labels frames as they come."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import Manifest
from app.core.manifest.image import PhotoPicture
from app.core.manifest.video import FrameLabels, Video
from training.data import mnist, moving_digits
from training.data.base import DataError
from training.data.moving_digits import LABELS, RATE, SIDE, MovingDigits
from training.export import Export
from training.families.motion import report as page
from training.families.motion.metrics import FORGETFUL, PROTOCOLS, STREAMER, PublishedMotion, figures
from training.families.motion.network import MotionNet
from training.families.motion.trainer import MotionTrainer
from training.family import Family, Measured
from training.loop import Fitted
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency
from training.reporting.page import write

MAX_ROWS: Final = 64
MAX_FRAMES: Final = 300
PARITY_CLIPS: Final = 13  # of 20 frames each: 260 rows
FIGURES_FILE: Final = "report/figures.json"
GOALS: Final = {"accuracy": 0.995}


class Stream(nn.Module):
    """One frame (B, 1, H, W, 1) uint8 and the state (B, hidden) -> probabilities (B, 1, L) and the next state."""

    def __init__(self, net: MotionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, state = self.net(video[..., 0].float() / 255, state)
        return torch.softmax(logits, dim=2), state


class Forgetful(nn.Module):
    """One frame (B, 1, H, W, 1) uint8 -> probabilities (B, 1, L)."""

    def __init__(self, net: MotionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor) -> Tensor:
        return torch.softmax(self.net(video[..., 0].float() / 255)[0], dim=2)


def publish_motion(
    fitted: Fitted[MotionTrainer],
    without: Fitted[MotionTrainer],
    data: MovingDigits,
    *,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the net, its twin without recurrence beside it.

    Returns: the published folder. Raises: PublishError.
    """
    net, twin = (one.recipe.average.cpu().eval() for one in (fitted, without))
    video = data.held_video[:PARITY_CLIPS]
    with torch.no_grad():
        states = net.remember(net.see(video.float() / 255))
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1).flatten(0, 1)
    frames = video.flatten(0, 1)[:, None, :, :, None]
    shown = data.test_video[:1].float() / 255
    gates = [gate[0].numpy().round(3).tolist() for gate in net.gates(shown)]
    kept = {"history": {"with": fitted.history, "without": without.history}, "gates": gates}
    return publish(
        FAMILY,
        data,
        Draft(
            task="label-frames",
            modality="video",
            title="In which direction a digit moves",
            summary=(
                "Labels every frame with the direction that a handwritten digit has just moved in, one of eight or "
                "still. A single frame tells nothing of it: the net remembers, by a gated recurrent unit, what it saw "
                "before. Takes frames one by one as they come."
            ),
            data=data.data_source,
            max_rows=MAX_ROWS,
            train_s=total_seconds(fitted.history),
            precision=precision,
            seeds=(fitted.seed,),
            parameters=sum(p.numel() for p in net.parameters()),
            goals=GOALS,
            fields={
                "labels": LABELS,
                "video": Video(
                    picture=PhotoPicture(
                        kind="photo", height=SIDE, width=SIDE, channels=1, resize="stretch", background=0
                    ),
                    rate=RATE,
                    max_frames=MAX_FRAMES,
                ),
                "frame_labels": FrameLabels(background=LABELS[0]),
            },
        ),
        [
            Export(
                graph=STREAMER,
                module=Stream(net).eval(),
                inputs={"video": frames, "state": before},
                outputs=("probabilities", "next_state"),
            ),
            Export(
                graph=FORGETFUL,
                module=Forgetful(twin).eval(),
                inputs={"video": frames},
                outputs=("probabilities",),
            ),
        ],
        options=options,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, kept),
    )


class MotionModels(Family[MovingDigits]):
    """Measured on clips of test digits that are the same each time; `data` may name no other data set."""

    def load_data(self, manifest: Manifest, data: str | None) -> MovingDigits:
        if data is not None:
            raise DataError(f"{data}: models of moving digits are measured on the clips that are made for them")
        return moving_digits.of(mnist.load())

    def measure(
        self, folder: Path, manifest: Manifest, dataset: MovingDigits, *, data: str | None, rows: int | None
    ) -> Measured:
        model = PublishedMotion(folder, manifest)
        video, y = (part[:rows].numpy() for part in (dataset.test_video, dataset.test_labels))
        labelled = _labelled(model, video)
        return Measured(
            rows=y.size,
            of="frames of moving digits",
            figures=figures(labelled["with"], labelled["without"], y),
            protocols=PROTOCOLS,
            how=f"; this model's ONNX graphs in fp32, frame by frame, on {len(y):,} clips of MNIST's test digits",
            claimed=len(y) == len(dataset.test_labels),
            details=labelled,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: MovingDigits, measured: Measured | None = None
    ) -> None:
        video = dataset.test_video.numpy()
        labelled: dict[str, NDArray[Any]]
        labelled = measured.details if measured is not None else _labelled(PublishedMotion(folder, manifest), video)
        found = read_json(folder / FIGURES_FILE)
        report = page.MotionReport(
            manifest=manifest,
            history=found["history"],
            gates=np.array(found["gates"]),
            video=video,
            labels=dataset.test_labels.numpy(),
            probabilities=labelled["with"],
            states=labelled["states"],
            without=labelled["without"],
            latency=kept_latency(folder, STREAMER, threads=1),
        )
        write(report.page(), folder)


def _labelled(model: PublishedMotion, video: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    p, states = model.label(video)
    return {"with": p, "states": states, "without": model.label_without_recurrence(video)}


FAMILY: Final = MotionModels()
