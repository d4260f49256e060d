"""The lip reader: clips made of clips, what the net may see, how it is measured, what is published of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from training.__main__ import main
from training.data import grid
from training.data.grid import GRAMMAR, LABELS, Clip, LipClips, Word
from training.families.lips import augmentation
from training.families.lips.augmentation import plan, starts
from training.families.lips.metrics import figures, read
from training.families.lips.network import HEIGHT, LEFT, TOP, WIDTH, LipReader, prepared
from training.families.lips.publish import Label, Stream
from training.families.lips.trainer import Hyperparameters, LipTrainer
from training.loop import Run, fit
from training.metrics import onnx_model
from training.recipe import Batch

FRAMES = 24
TINY = ["--widths", "4,4,4,4,4", "--features", "8", "--hidden", "8", "--epochs", "1", "--batch-size", "4"]
SMALL = Hyperparameters(widths=(4, 4, 4, 4, 4), features=8, hidden=8, epochs=2, batch_size=4, frames=16, shift=2)


def clip(number: int, split: str = "train") -> Clip:
    """Three frames a word from frame 3 + number % 3 on, each word the `number`th of its place."""
    words = [place[number % len(place)] for place in GRAMMAR]
    start = 3 + number % 3
    spoken = tuple(Word(LABELS.index(word), start + 3 * i, start + 3 * i + 3) for i, word in enumerate(words))
    return Clip(name=f"c{number}", split=split, text=" ".join(words), words=spoken)


def clips() -> LipClips:
    """12 clips of FRAMES frames; every frame's pixels say which clip and frame it is."""
    made = [clip(i, ("train", "train", "val", "test")[i % 4]) for i in range(12)]
    frames = np.zeros((12, FRAMES, 96, 128), np.uint8)
    frames += (20 * np.arange(12, dtype=np.uint8))[:, None, None, None] + np.arange(FRAMES, dtype=np.uint8)[
        :, None, None
    ]
    frames[:, :, 30:50, 50:70] += np.random.default_rng(0).integers(0, 20, (12, FRAMES, 20, 20), dtype=np.uint8)
    return LipClips(clips=made, frames=frames)


def net(*, causal: bool = False) -> LipReader:
    torch.manual_seed(0)
    return LipReader(len(LABELS), widths=(4, 4, 4, 4, 4), features=8, hidden=8, causal=causal).eval()


def test_a_clip_goes_over_into_another_only_where_a_word_begins_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLOWEST", 1.0), ("FASTEST", 1.0), ("REPEATED", 0.0)):
        monkeypatch.setattr(augmentation, name, value)
    cuts = [starts(one, FRAMES) for one in clips().clips]
    crossed = 0
    for seed in range(40):
        found = plan(0, cuts, 22, crossing=0.5, rng=np.random.default_rng(seed))
        for i in np.flatnonzero(np.diff(found.clip)):
            before, after = found.clip[i : i + 2]
            place = cuts[after].index(found.frame[i + 1])
            assert 0 < place < len(GRAMMAR)
            assert found.frame[i] == cuts[before][place] - 1
            crossed += 1
    assert crossed > 20


def test_at_another_speed_frames_are_left_out_or_shown_again_in_their_order() -> None:
    cuts = [starts(one, FRAMES) for one in clips().clips]
    lengths = set()
    for seed in range(20):
        found = plan(0, cuts, 16, crossing=0.0, rng=np.random.default_rng(seed))
        assert set(found.clip) == {0}
        steps = np.diff(found.frame)
        assert ((steps >= 0) & (steps <= 3)).all()
        lengths.add(int(found.frame[-1] - found.frame[0]))
    assert len(lengths) > 3


def test_the_words_of_a_made_clip_stand_in_the_order_of_the_grammar() -> None:
    data = clips()
    cuts = [starts(one, FRAMES) for one in data.clips]
    place_of = {LABELS.index(word): i for i, place in enumerate(GRAMMAR) for word in place}
    for seed in range(20):
        found = plan(3, cuts, FRAMES, crossing=0.5, rng=np.random.default_rng(seed))
        labels = data.labels[found.clip, found.frame]
        places = [place_of[label] for label in labels.tolist() if label]
        assert places == sorted(places)


def test_pixels_and_labels_of_a_made_clip_come_from_the_same_frames() -> None:
    data = clips()
    # In every frame one spot is lit, which says its label.
    rows, columns = 20 + 2 * (np.arange(len(LABELS)) // 10), 40 + 2 * (np.arange(len(LABELS)) % 10)
    data.frames[:] = 0
    for i, k in np.ndindex(data.labels.shape):
        row, column = rows[data.labels[i, k]], columns[data.labels[i, k]]
        data.frames[i, k, row : row + 2, column : column + 2] = 255
    h = replace(SMALL, shift=0, mirror=False, blanked=0, crossing=0.5)
    trainer = LipTrainer(data, h, seed=0, accelerator=Accelerator(cpu=True))
    numbers = torch.arange(4)
    batch = Batch(
        x=numbers,
        y=numbers,
        index=numbers,
        share=slice(1, 3),
        generator=torch.Generator().manual_seed(0),
        epoch=0,
        position=0,
        progress=0.0,
    )
    x, y = trainer.made(batch)
    assert x.shape == (2, SMALL.frames, HEIGHT, WIDTH)
    lit = x.flatten(2).argmax(2)
    places = torch.from_numpy((rows // 2 - TOP) * WIDTH + columns // 2 - LEFT)
    assert torch.equal(lit, places[y])
    assert len(y.unique()) > 5


def test_a_causal_net_sees_nothing_of_what_comes_later_and_the_other_one_does() -> None:
    x = torch.randn(1, 10, HEIGHT, WIDTH)
    later = x.clone()
    later[:, 6:] = torch.randn(1, 4, HEIGHT, WIDTH)
    causal, whole = net(causal=True), net()
    assert torch.allclose(causal(x)[:, :6], causal(later)[:, :6], atol=1e-6)
    assert not torch.allclose(whole(x)[:, :6], whole(later)[:, :6], atol=1e-6)


def test_a_shorter_row_says_what_it_says_alone() -> None:
    video = torch.randint(0, 256, (2, 9, 96, 128, 1), dtype=torch.uint8)
    module = Label(net(), 1.3)
    together = module(video, torch.tensor([9, 5]))
    alone = module(video[1:, :5], torch.tensor([5]))
    torch.testing.assert_close(together[1:, :5], alone)


def test_frame_by_frame_the_causal_net_says_what_it_says_of_the_whole_clip() -> None:
    causal, video = net(causal=True), torch.randint(0, 256, (2, 6, 96, 128, 1), dtype=torch.uint8)
    whole = torch.softmax(causal(prepared(video[..., 0])) / 1.3, dim=2)
    states = torch.zeros(2, 4, HEIGHT, WIDTH), torch.zeros(2, 8), torch.zeros(2, 8)
    for k in range(6):
        p, *states = Stream(causal, 1.3)(video[:, k : k + 1], *states)
        torch.testing.assert_close(p, whole[:, k : k + 1])


def test_how_bright_the_room_is_changes_nothing() -> None:
    video = torch.randint(60, 120, (1, 3, 96, 128), dtype=torch.uint8)
    torch.testing.assert_close(prepared(video), prepared(2 * video), atol=0.03, rtol=0)


def test_figures_count_words_in_their_slots_and_by_the_grammar() -> None:
    data = clips()
    y = data.labels[:4]
    p = np.full((4, FRAMES, len(LABELS)), 1e-4, np.float32)
    np.put_along_axis(p, y[..., None], 1.0, axis=2)
    p /= p.sum(2, keepdims=True)
    whole = figures(p, y, read(p, data.clips[:4]))
    assert whole["word_accuracy"] == whole["frame_accuracy"] == whole["sentence_accuracy"] == 1
    assert whole["word_error_rate"] == 0
    # In the first clip another colour is seen all the while: one of 24 words, 3 of 96 frames, one of 4 sentences.
    first = data.clips[0].words[1]
    slot = slice(int(first.start), int(first.end))
    other = LABELS.index("white")
    assert other != first.label
    p[0, slot, [first.label]], p[0, slot, [other]] = p[0, slot, [other]], p[0, slot, [first.label]].copy()
    changed = figures(p, y, read(p, data.clips[:4]))
    assert changed["word_accuracy"] == pytest.approx(23 / 24)
    assert changed["word_error_rate"] == pytest.approx(1 / 24)
    assert changed["frame_accuracy"] == pytest.approx(1 - 3 / 96)
    assert changed["sentence_accuracy"] == 0.75
    assert changed["letter_accuracy"] == 1


def test_it_learns_from_clips_and_measures_on_others(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    trainer = LipTrainer(clips(), SMALL, seed=0, accelerator=accelerator)
    run = Run(folder=tmp_path, epochs=2, batch_size=4, seed=0, title="test", quiet=True)
    history = fit(trainer, torch.arange(6), torch.arange(6), run=run, accelerator=accelerator)
    assert history[-1]["held_loss"] < 6
    assert set(history[-1]) >= {"held_accuracy", "held_word_frames", "loss"}


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_a_command_trains_publishes_measures_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], causal: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "load", clips)
    monkeypatch.setattr("training.families.lips.publish.PARITY_FRAMES", (2, 14))
    assert main(["lips", *TINY, "--frames", "16", *(["--causal"] if causal else [])]) == 0
    name = "lips-streaming" if causal else "lips"
    folder = tmp_path / "models" / name / "1"
    manifest = onnx_model.load_manifest(folder)
    assert manifest.frame_labels is not None
    assert manifest.frame_labels.grammar == GRAMMAR
    assert "s1" in manifest.summary
    assert list(manifest.graphs) == ["streamer" if causal else "labeller"]
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    for words in ("CC BY 4.0", "cut out", "Update gate"):
        assert words in page
    capsys.readouterr()
    assert main(["evaluate", name]) == 0
    assert "The manifest says the same." in capsys.readouterr().out
