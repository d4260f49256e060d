"""From a trained lip reader to a published one: its temperature, one look at the test clips, the report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import Calibration, Manifest
from app.core.manifest.image import PhotoPicture
from app.core.manifest.video import FrameLabels, Video
from training.data import grid
from training.data.base import DataError
from training.data.grid import GRAMMAR, LABELS, RATE, SILENCE, LipClips
from training.export import Export
from training.families.lips import report as page
from training.families.lips.metrics import LABELLER, PROTOCOLS, STREAMER, PublishedLips, clip_ms, figures, read
from training.families.lips.network import HEIGHT, SPAN, WIDTH, LipReader, prepared
from training.families.lips.trainer import LipTrainer
from training.family import Family, Measured
from training.loop import Fitted
from training.metrics import classification, onnx_model
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import measured_once
from training.reporting.page import write

WHOLE: Final = "lips"
STREAMING: Final = "lips-streaming"
MAX_CLIPS: Final = 4  # in one run: more gain a twentieth and others wait, 15 ms for each of 75 frames
MAX_STREAMS: Final = 16
MAX_FRAMES: Final = 300  # 12 seconds
PARITY_CLIPS: Final = 16
PARITY_FRAMES: Final = (14, 54)  # of each: golden rows lie in the repository
GOLDEN_ROWS: Final = 2
SHOWN_UNITS: Final = 64  # numbers of the state that the report shows
CONTEXTS: Final = (1, 3, 7, 15, 31, 75)  # frames
CONTEXT_CLIPS: Final = 4
FIGURES_FILE: Final = "report/figures.json"
GOALS: Final = {"word_accuracy": 0.80, "frame_accuracy": 0.85, "word_error_rate": 0.15}


class Label(nn.Module):
    """Clips (B, T, H, W, 1) uint8 and their lengths (B,) -> probabilities (B, T, L)."""

    def __init__(self, net: LipReader, temperature: float) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature

    def forward(self, video: Tensor, length: Tensor) -> Tensor:
        return torch.softmax(self.net(prepared(video[..., 0]), length) / self.temperature, dim=2)


class Stream(nn.Module):
    """One frame (B, 1, H, W, 1) uint8, the prepared frames before it and the states of both GRUs -> probabilities
    (B, 1, L), and these three for the next frame."""

    def __init__(self, net: LipReader, temperature: float) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature

    def forward(self, video: Tensor, frames: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        frames = torch.cat([frames, prepared(video[..., 0])], dim=1)
        logits, (first, second) = self.net.recur(self.net.see(frames), None, (first, second))
        return torch.softmax(logits / self.temperature, dim=2), frames[:, 1:], first, second


def publish_lips(fitted: Fitted[LipTrainer], data: LipClips, *, options: argparse.Namespace, precision: str) -> Path:
    """Publish, measure on the test clips and report.

    Returns: the published folder. Raises: PublishError.
    """
    trainer = fitted.recipe
    video, y = trainer.held
    logits, truth = trainer.logits(video).cpu().double().flatten(0, 1).numpy(), y.flatten().numpy()
    temperature = classification.fit_temperature(logits, truth)
    net = trainer.average.cpu().eval()
    labels = Video(
        picture=PhotoPicture(kind="photo", height=grid.HEIGHT, width=grid.WIDTH, channels=1),
        rate=RATE,
        max_frames=MAX_FRAMES,
    )
    some = torch.from_numpy(data.frames[data.rows("val")[:PARITY_CLIPS], slice(*PARITY_FRAMES)])[..., None]
    causal = net.causal
    return publish(
        FAMILY,
        data,
        Draft(
            task="label-frames",
            modality="video",
            title="Lip reading, frame by frame" if causal else "Lip reading",
            summary=(
                "Reads a word for each frame from the mouth of one man: the 51 words of the GRID corpus, in sentences "
                "such as “bin blue at f two now”. Trained on talker s1 alone (CC BY 4.0; Cooke, Barker, "
                "Cunningham, Shao 2006): it knows his face and voice's pace, and cannot read anybody else's lips. "
                "Frames are the same part of the picture as there, nose to collar, grey. "
                + ("Sees of each frame only what came before." if causal else "Needs the whole clip.")
            ),
            data=data.data_source,
            max_rows=MAX_STREAMS if causal else MAX_CLIPS,
            train_s=total_seconds(fitted.history),
            precision=precision,
            seeds=(fitted.seed,),
            goals={} if causal else GOALS,
            fields={
                "labels": LABELS,
                "video": labels,
                "frame_labels": FrameLabels(
                    background=SILENCE, grammar=GRAMMAR, twin=None if causal else _twin(options)
                ),
                "calibration": Calibration(method="temperature", temperature=temperature, rows=len(truth)),
            },
        ),
        [_streamer(net, temperature, some) if causal else _labeller(net, temperature, some)],
        options=options,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, _kept(folder, fitted.history, net, data)),
    )


def _twin(options: argparse.Namespace) -> str | None:
    """The causal model, where it has been published before."""
    return STREAMING if (Path(options.models) / STREAMING).is_dir() else None


def _labeller(net: LipReader, temperature: float, video: Tensor) -> Export:
    lengths = torch.full((len(video),), video.shape[1])
    lengths[1::2] -= 7 * torch.arange(len(lengths[1::2])) % 30
    inside = torch.arange(video.shape[1]) < lengths[:, None]
    return Export(
        graph=LABELLER,
        module=Label(net, temperature).eval(),
        inputs={"video": video * inside[:, :, None, None, None], "length": lengths},
        outputs=("probabilities",),
        golden_rows=GOLDEN_ROWS,
        dynamic={"video": {1: "frames"}, "probabilities": {1: "frames"}},
    )


@torch.no_grad()
def _streamer(net: LipReader, temperature: float, video: Tensor) -> Export:
    module = Stream(net, temperature).eval()
    rows = len(video)
    states = torch.zeros(rows, SPAN - 1, HEIGHT, WIDTH), torch.zeros(rows, net.hidden), torch.zeros(rows, net.hidden)
    seen: list[tuple[Tensor, ...]] = []
    for k in range(video.shape[1]):
        given = video[:, k : k + 1]
        seen.append((given, *states))
        _, *left = module(given, *states)
        states = (left[0], left[1], left[2])
    # Frames of all clips in turn, from all over: their states are those that the frames before them left.
    chosen = [torch.cat([step[i] for step in seen[::4]]) for i in range(4)]
    return Export(
        graph=STREAMER,
        module=module,
        inputs=dict(zip(("video", "frames", "first", "second"), chosen, strict=True)),
        outputs=("probabilities", "next_frames", "next_first", "next_second"),
    )


def _kept(folder: Path, history: list[dict[str, float]], net: LipReader, data: LipClips) -> dict[str, Any]:
    """What the report shows and cannot be had from the graph."""
    rows = data.rows("test")
    model = PublishedLips(folder, onnx_model.load_manifest(folder))
    state, gate = net.inside(prepared(torch.from_numpy(data.frames[rows[:1]])))
    shown = {
        name: part[0, :, :SHOWN_UNITS].numpy().round(2).tolist() for name, part in (("state", state), ("gate", gate))
    }
    some = rows[:CONTEXT_CLIPS]
    return {"history": history, **shown, "context": _contexts(model, data.frames[some], data.labels[some])}


def _contexts(
    model: PublishedLips, video: NDArray[np.uint8], labels: NDArray[np.int64]
) -> list[tuple[int, float, float]]:
    """Frames that are seen at once, those around a frame or, of a causal model, before it; and the shares of all
    frames and of those of words that are right then."""
    found = []
    clips, frames = labels.shape
    for wide in CONTEXTS:
        before = wide - 1 if model.name == STREAMER else wide // 2
        right = np.zeros((clips, frames), bool)
        for k in range(frames):
            start, end = max(0, k - before), min(frames, k - before + wide)
            p = model.label(video[:, start:end])
            right[:, k] = p[:, k - start].argmax(1) == labels[:, k]
        found.append((wide, float(right.mean()), float(right[labels > 0].mean())))
    return found


class LipReaders(Family[LipClips]):
    """Measured on the test clips of GRID's talker s1; `data` may be "val", the held-out clips."""

    def load_data(self, manifest: Manifest, data: str | None) -> LipClips:
        if data not in (None, "val", grid.FOLDER):
            raise DataError(f"{data}: lip readers are measured on the test clips of {grid.FOLDER}, or on its val")
        return grid.load()

    def measure(
        self, folder: Path, manifest: Manifest, dataset: LipClips, *, data: str | None, rows: int | None
    ) -> Measured:
        split = "val" if data == "val" else "test"
        chosen = dataset.rows(split)
        some = chosen[:rows]
        p = PublishedLips(folder, manifest).label(dataset.frames[some])
        clips = [dataset.clips[i] for i in some]
        words, frames = len(some) * len(GRAMMAR), p.shape[0] * p.shape[1]
        return Measured(
            rows=frames,
            of="frames of GRID, talker s1",
            figures=figures(p, dataset.labels[some], read(p, clips)),
            protocols=PROTOCOLS,
            how=f"; this model's ONNX graph in fp32, on {len(some)} {split} clips of the one man it was trained on",
            rows_of={
                "word_accuracy": words,
                "letter_accuracy": len(some),
                "word_error_rate": words,
                "sentence_accuracy": len(some),
            },
            claimed=split == "test" and len(some) == len(chosen),
            details=p,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: LipClips, measured: Measured | None = None
    ) -> None:
        rows = dataset.rows("test")
        model = PublishedLips(folder, manifest)
        p = measured.details if measured is not None else model.label(dataset.frames[rows])
        found: Mapping[str, Any] = read_json(folder / FIGURES_FILE)
        report = page.LipReport(
            manifest=manifest,
            found=found,
            model=model,
            clips=[dataset.clips[i] for i in rows],
            video=dataset.frames[rows],
            labels=dataset.labels[rows],
            probabilities=p,
            clip_ms=measured_once(folder, "clip_ms", lambda: clip_ms(folder, manifest)),
        )
        write(report.page(), folder)


FAMILY: Final = LipReaders()
