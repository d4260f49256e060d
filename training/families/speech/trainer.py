"""Training of a speech recogniser on mixed recordings: CTC, and cross-entropy where the words' times are known."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from app.core.decoding.ctc import beam
from training.data.sound import RATE, Clip
from training.data.sound_mixing import Mixer, Row, bend, draw_warp
from training.families.speech.network import Recognizer, SpeechNet
from training.metrics.words import errors
from training.networks.sound import STEP, outputs, padded, steps
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

ROWS_PER_EPOCH: Final = 2048
ROWS_PER_PASS: Final = 25
IGNORED: Final = -100
SOFT, SOFT_LATER = 0.7, 0.05  # weight of the teacher's words, as long as that of labels at first, and then
STEP_S: Final = STEP / RATE


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Chosen on the held-out clips."""

    streaming: bool = described(False, "hear the past alone, so that the model can answer piece by piece")
    width: int = described(256, "numbers of a step between the convolutions and the GRUs")
    hidden: int = described(192, "numbers of a GRU's state, in each direction")
    layers: int = described(2, "GRUs on top of each other")
    dropout: float = described(0.25, "between the GRUs")
    delay: int = described(5, "steps of 40 ms by which a streaming model answers later than it heard")
    # Steps that all carry their word are learnt in a few epochs, CTC alone takes many more. But where the net hesitates
    # between two words at each of ten steps, paths that change their mind add up, and a beam search that sums over
    # paths finds words that nobody said (of 150 digits of FSDD 44 % were wrong, 13 % on the best path alone). CTC's own
    # loss does not allow that.
    align: float = described(0.7, "weight of the cross-entropy of steps beside CTC, at first")
    align_share: float = described(0.5, "share of `epochs` that is at first")
    align_later: float = described(0.05, "its weight later: it keeps the words' times")
    heavy_epochs: int = described(36, "of 2,048 recordings each, mixed, bent and masked as much as words can bear")
    light_epochs: int = described(18, "of recordings nearer to real ones, after these")
    batch_size: int = described(32, "recordings per optimisation step")
    lr: float = described(2e-3, "learning rate (AdamW)")
    light_lr: float = described(8e-4, "of the light epochs")
    schedule: Schedule = described("cosine", "how the learning rate changes over the run, after its rise")
    rise_steps: int = described(200, "steps over which the learning rate rises")
    weight_decay: float = described(0.02, "of the weights, times the learning rate")
    ema_steps: float = described(300.0, "steps over which the weights are averaged for serving")

    @property
    def epochs(self) -> int:
        return self.heavy_epochs + self.light_epochs


def network_of(words: int, h: Hyperparameters) -> SpeechNet:
    return SpeechNet(
        words,
        width=h.width,
        hidden=h.hidden,
        layers=h.layers,
        bidirectional=not h.streaming,
        dropout=h.dropout,
    )


class Trainer(Resumable):
    """A `Recipe`. A batch's rows are numbers alone: what is heard is mixed anew for every step.

    Args:
        words: in the order of the outputs.
        held: clips by corpus.
        teacher: hears whole recordings. The net begins with its convolutions, and learns of every step what it says, as
            much later as it answers (Kurata and Audhkhasi 2018, "Improved knowledge distillation from bi-directional
            to uni-directional LSTM CTC for end-to-end speech recognition").
    """

    def __init__(
        self,
        mixer: Mixer,
        words: Sequence[str],
        held: Mapping[str, Sequence[Clip]],
        h: Hyperparameters,
        *,
        seed: int,
        accelerator: Accelerator,
        teacher: SpeechNet | None = None,
    ) -> None:
        self.mixer, self.words, self.held, self.h = mixer, list(words), held, h
        self.index = {word: i for i, word in enumerate(words)}
        self.accelerator = accelerator
        torch.manual_seed(seed)
        network = network_of(len(words), h)
        self.teacher = None if teacher is None else teacher.to(accelerator.device)
        if teacher is not None:
            network.subsampling.load_state_dict(teacher.subsampling.state_dict())
        self.average = average_of(network, accelerator.device)
        self.optimiser = adamw(network.parameters(), lr=h.lr, weight_decay=h.weight_decay, betas=(0.9, 0.98))
        self.bare = network
        self.network = accelerator.prepare(network)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        h = self.h
        done = batch.progress * h.epochs
        light = done >= h.heavy_epochs
        # Each part has a rise and a fall of its own.
        progress = (done - h.heavy_epochs) / h.light_epochs if light else done / h.heavy_epochs
        steps_of_part = batch.position - round(batch.position / done * h.heavy_epochs) if light else batch.position
        for group in self.optimiser.param_groups:
            rise = risen(h.rise_steps, position=steps_of_part, progress=progress)
            group["lr"] = (h.light_lr if light else h.lr) * rise * rate_factor(h.schedule, progress)
        device = self.accelerator.device
        generator = torch.Generator().manual_seed(
            int(torch.randint(2**62, (1,), generator=batch.generator, device=device))
        )
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        how = {"clean": 0.5, "as_it_is": 0.3} if light else {}
        rows = [self.mixer.row(rng, **how) for _ in range(len(batch.x))][batch.share]
        warp = draw_warp(len(rows), generator, light=light)
        sound, own, target, texts = self.tensors(rows, warp.pace)
        self.network.train()
        self.optimiser.zero_grad()
        with torch.no_grad():
            mel = bend(self.bare.mel(padded(sound, self.bare.before)), warp, generator)
        own = own.clamp(max=outputs(mel.shape[1]))
        with self.accelerator.autocast():
            logs = self.network.of_mel(mel.to(device), own.to(device))
        logs = logs.float()
        target = target[:, : logs.shape[1]]
        ctc = F.ctc_loss(
            logs.transpose(0, 1),
            torch.cat(texts).to(device),
            own,
            torch.tensor([len(text) for text in texts]),
            blank=len(self.words),
            reduction="sum",
            zero_infinity=True,
        ) / len(rows)
        aligned = F.nll_loss(
            logs[:, : target.shape[1]].transpose(1, 2), target.to(device), ignore_index=IGNORED, reduction="sum"
        ) / len(rows)
        at_first = not light and progress < h.align_share
        align = h.align if at_first and self.teacher is None else h.align_later
        loss = ctc + align * aligned
        if self.teacher is not None:
            soft = SOFT if at_first else SOFT_LATER
            loss = loss + soft * self.unlike(self.teacher, mel.to(device), logs, own.to(device))
        self.accelerator.backward(loss / 8)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(h.ema_steps, position=batch.position))
        return {"ctc": ctc.detach(), "aligned": aligned.detach()}

    def unlike(self, teacher: SpeechNet, mel: Tensor, logs: Tensor, own: Tensor) -> Tensor:
        """The cross-entropy of `logs` (B, T, words + 1), of which `own` (B,) steps are a row's, with what the teacher
        says of the same steps; summed over steps, the mean over rows."""
        later = self.h.delay
        its = (own - later).clamp(min=1)
        with torch.no_grad():
            told = teacher.of_mel(mel, its).exp()[:, : logs.shape[1] - later]
        at = torch.arange(told.shape[1], device=own.device) < its[:, None]
        return -((told * logs[:, later : later + told.shape[1]]).sum(2) * at).sum() / len(logs)

    def tensors(self, rows: Sequence[Row], pace: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Padded samples (B, N), outputs of each row after the warp (B,), the label of each output (B, T), words."""
        later = self.h.delay if self.h.streaming else 0
        lengths = [len(row.wave) + later * STEP for row in rows]
        sound = torch.zeros(len(rows), max(lengths))
        for i, row in enumerate(rows):
            sound[i, : len(row.wave)] = torch.from_numpy(row.wave)
        own = (steps(torch.tensor(lengths)) * pace).ceil().long()
        target = torch.full((len(rows), int(own.max())), IGNORED)
        texts = []
        for i, (row, factor) in enumerate(zip(rows, pace.tolist(), strict=True)):
            target[i, : own[i]] = len(self.words)
            # A row with nothing behind its last word has said it all by its end, or the warp would cut words off.
            for word, start, end in row.words:
                first, last = (round(t * factor / STEP_S + later) for t in (start, end))
                target[i, first : max(last, first + 1)] = self.index[word]
            target[i, own[i] :] = IGNORED
            texts.append(torch.tensor([self.index[word] for word, _, _ in row.words], dtype=torch.long))
        return sound, own, target, texts

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Word error rates on the held-out clips of each corpus, in percent, by the moving average."""
        network = self.average.eval()
        rates = {}
        for corpus, clips in self.held.items():
            wrong = total = 0
            for begin in range(0, len(clips), ROWS_PER_PASS):
                some = clips[begin : begin + ROWS_PER_PASS]
                for clip, words in zip(some, self.hear(network, some), strict=True):
                    said = [word for word, _, _ in clip.words]
                    wrong += errors(said, words)
                    total += len(said)
            rates[f"held_{corpus}"] = 100 * wrong / max(1, total)
        return rates

    def hear(self, network: SpeechNet, clips: Sequence[Clip]) -> list[list[str]]:
        """What a network makes of clips, by beam search."""
        later = self.h.delay * STEP if self.h.streaming else 0
        lengths = torch.tensor([len(clip.samples) + later for clip in clips])
        sound = torch.zeros(len(clips), int(lengths.max()))
        for i, clip in enumerate(clips):
            sound[i, : len(clip.samples)] = torch.from_numpy(clip.samples)
        logs, own = Recognizer(network)(sound.to(self.accelerator.device), lengths.to(self.accelerator.device))
        return [
            [self.words[token.label] for token in beam(row[:count].cpu().numpy(), n=1)[0].tokens]
            for row, count in zip(logs, own.tolist(), strict=True)
        ]

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}

    def served(self) -> SpeechNet:
        """The moving average, on the CPU."""
        return copy.deepcopy(self.average).cpu().eval()
