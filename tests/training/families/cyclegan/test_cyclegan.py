"""CycleGANs as a recipe: their losses by hand, resuming, what they publish; small nets, real ONNX graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tests.training.data.test_domains import background, digits
from training.__main__ import main
from training.data import domains
from training.data.domains import Pair, photo, strokes
from training.export import Export, write_graph
from training.families.cyclegan import trainer as training
from training.families.cyclegan.metrics import PublishedTranslators, absolute_errors, in_8_bits
from training.families.cyclegan.network import Critic, Translator, with_channels
from training.families.cyclegan.recipe import ServedTranslator
from training.families.cyclegan.trainer import Hyperparameters, Trainer, warnings
from training.loop import Run, fit
from training.metrics import onnx_model
from training.networks.pictures import pixels
from training.recipe import Batch

SMALL = Hyperparameters(width=4, deep=8, blocks=1, critic=4, epochs=2, batch_size=5, ema_steps=5.0)
MODELS = Path(__file__).parents[4] / "models"
PUBLISHED = sorted(path.parent for path in MODELS.glob("cyclegan-*/*/manifest.json"))


@pytest.fixture(scope="module", params=["strokes", "photo"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return strokes(digits()) if request.param == "strokes" else photo(digits(), background(), digits())


def trainer(pair: Pair, h: Hyperparameters = SMALL) -> Trainer:
    return Trainer(pair, replace(h, placed=pair.placed), seed=0, accelerator=Accelerator(cpu=True))


class Times(nn.Module):
    """What a translator is to the losses: here every pixel times a number, in so many channels."""

    def __init__(self, factor: float, channels: int) -> None:
        super().__init__()
        self.factor, self.channels = nn.Parameter(torch.tensor(factor)), channels

    def forward(self, x: Tensor) -> Tensor:
        return with_channels(x, self.channels) * self.factor


class Mean(nn.Module):
    """What a critic is to the losses: here one logit, the mean of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.mean((1, 2, 3), keepdim=True)


def by_hand(pair: Pair, h: Hyperparameters) -> tuple[dict[str, float], list[Tensor]]:
    """One step with x -> x / 2 there, x -> 1.5 x back, and critics that give the mean."""
    recipe = trainer(pair, h)
    channels = [domain.picture.channels for domain in pair.domains]
    recipe.translators = nn.ModuleList([Times(0.5, channels[1]), Times(1.5, channels[0])])
    recipe.critics = nn.ModuleList([Mean(), Mean()])
    still = [{"params": part.parameters(), "full_lr": 0.0} for part in (recipe.translators, recipe.critics)]
    recipe.optimisers = [torch.optim.SGD([group], lr=0.0) for group in still]
    recipe.average = recipe.translators
    rows = [x[:8] for x in pair.train]
    batch = Batch(
        x=rows[0],
        y=rows[1],
        index=torch.arange(8),
        share=slice(0, 8),
        generator=torch.Generator().manual_seed(0),
        epoch=0,
        position=0,
        progress=0.0,
    )
    return {name: float(value) for name, value in recipe.step(batch).items()}, [pixels(x) for x in rows]


def test_the_losses_of_one_step_are_those_worked_out_by_hand() -> None:
    found, (a, b) = by_hand(strokes(digits()), replace(SMALL, noise=0.0))
    # There and back is times 3/4, either way round; x / 2 and 1.5 x are both half of x away from x.
    assert found["cycle"] == pytest.approx(float(0.25 * (a.mean() + b.mean())) / 2, rel=1e-5)
    assert found["identity"] == pytest.approx(float(0.5 * (a[:2].mean() + b[:2].mean())) / 2, rel=1e-5)
    real, made = [x.mean((1, 2, 3)) for x in (a, b)], [x.mean((1, 2, 3)) for x in (1.5 * b, 0.5 * a)]
    won = sum(float(((x - 1) ** 2).mean()) for x in made) / 2
    assert found["contest"] == pytest.approx(won, rel=1e-5)
    lost = sum(float(((x - 1) ** 2).mean() + (y**2).mean()) for x, y in zip(real, made, strict=True)) / 2
    assert found["critic"] == pytest.approx(lost, rel=1e-5)


def test_the_relativistic_contest_compares_each_translation_with_a_real_picture() -> None:
    found, (a, b) = by_hand(strokes(digits()), replace(SMALL, noise=0.0, contest="relativistic"))
    real, made = [x.mean((1, 2, 3)) for x in (a, b)], [x.mean((1, 2, 3)) for x in (1.5 * b, 0.5 * a)]
    apart = [x - y for x, y in zip(real, made, strict=True)]
    assert found["contest"] == pytest.approx(sum(float((1 + x.exp()).log().mean()) for x in apart) / 2, rel=1e-5)
    assert found["critic"] == pytest.approx(sum(float((1 + (-x).exp()).log().mean()) for x in apart) / 2, rel=1e-5)
    assert found["critic_right"] == pytest.approx(float(torch.cat([x > 0 for x in apart]).float().mean()))


def test_the_gradient_penalty_is_half_the_squared_slope_at_real_pictures() -> None:
    h = replace(SMALL, noise=0.0)
    plain, penalised = (by_hand(strokes(digits()), replace(h, r1=r1))[0]["critic"] for r1 in (0.0, 4.0))
    pixel_count = 28 * 28  # the slope of a mean is one over their number in each of them
    assert penalised - plain == pytest.approx(4.0 / 2 * 1 / pixel_count, rel=1e-3)


def test_noise_between_the_two_ways_is_paid_for_in_the_cycle() -> None:
    still, shaken = (by_hand(strokes(digits()), replace(SMALL, noise=noise))[0]["cycle"] for noise in (0.0, 0.1))
    assert shaken > still + 0.02


def test_a_fresh_translator_passes_a_picture_on_as_it_is() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 1, 28, 28)
    for placed in (False, True):
        net = Translator((1, 28, 28), (1, 28, 28), width=4, deep=8, blocks=1, placed=placed)
        assert torch.allclose(net(x) > 0.5, x > 0.5)
        grey = Translator((3, 28, 28), (1, 28, 28), width=4, deep=8, blocks=1, placed=placed)
        made = grey(x.expand(-1, 3, -1, -1))
        assert torch.allclose(made, net(x), atol=1e-6)


def test_only_a_placed_translator_has_gains_of_its_own_for_each_place() -> None:
    sizes = {"width": 4, "deep": 8, "blocks": 1}
    plain, placed = (Translator((1, 28, 28), (3, 28, 28), placed=placed, **sizes) for placed in (False, True))
    assert placed.gain.shape == (3, 1, 28, 28)
    learnt = [sum(p.numel() for p in net.parameters() if p.requires_grad) for net in (plain, placed)]
    assert learnt[1] - learnt[0] == 28 * 28 * (3 + 3)


def test_a_critic_judges_regions() -> None:
    assert Critic(3, width=4)(torch.rand(2, 3, 28, 28)).shape == (2, 1, 7, 7)


def fitted(recipe: Trainer, pair: Pair, folder: Path, *, epochs: int) -> list[dict[str, float]]:
    run = Run(
        folder=folder,
        epochs=epochs,
        batch_size=SMALL.batch_size,
        seed=0,
        title="pair",
        quiet=True,
        checkpoint_every_s=0.0,
    )
    return fit(recipe, *pair.train, run=run, accelerator=recipe.accelerator)


class PowerCut(Exception):
    pass


class Fails(Trainer):
    """Stops dead in its sixth step."""

    def step(self, batch: Batch) -> dict[str, Tensor]:
        if batch.position == 5:
            raise PowerCut
        return super().step(batch)


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "WATCH_EVERY", 3)
    h = replace(SMALL, placed=pair.placed)
    whole, cut, second = (
        kind(pair, h, seed=0, accelerator=Accelerator(cpu=True)) for kind in (Trainer, Fails, Trainer)
    )
    history = fitted(whole, pair, tmp_path / "whole", epochs=2)
    with pytest.raises(PowerCut):
        fitted(cut, pair, tmp_path / "parts", epochs=2)
    again = fitted(second, pair, tmp_path / "parts", epochs=2)
    assert second.recent == whole.recent
    assert [row["step"] for row in whole.watched] == [3, 6]
    assert second.watched == whole.watched
    for part in ("translators", "average", "critics"):
        for mine, other in zip(getattr(second, part).parameters(), getattr(whole, part).parameters(), strict=True):
            assert torch.equal(mine, other)
    measured = [key for key in history[-1] if key.startswith("held")]
    assert len(measured) == 6
    assert [again[-1][key] for key in measured] == [history[-1][key] for key in measured]


@pytest.mark.slow
def test_training_brings_pictures_back_better(tmp_path: Path) -> None:
    pair = strokes(digits(60))
    recipe = trainer(pair, replace(SMALL, width=8, deep=16, lr=3e-3))
    before = recipe.measure()
    history = fitted(recipe, pair, tmp_path, epochs=6)
    assert history[-1]["held_cycle_there"] < 0.8 * before["held_cycle_there"]
    assert history[-1]["held_cycle_back"] < 0.8 * before["held_cycle_back"]


def test_a_run_says_that_the_critics_have_won_or_that_something_is_hidden() -> None:
    fine = {"held_cycle_there": 0.02, "held_noisy_there": 0.03, "held_cycle_back": 0.02, "held_noisy_back": 0.02}
    assert warnings(fine, 0.7) == []
    (won,) = warnings(fine, 0.98)
    assert "right of 98 %" in won
    (hidden,) = warnings(fine | {"held_noisy_back": 0.09}, 0.7)
    assert "the way back is 0.090 off" in hidden


def test_what_hides_in_the_last_bits_is_found(pair: Pair) -> None:
    """Translators that pass the given picture on in steps too fine to see: noise drowns it."""

    class Hide(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.channels = channels

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 + 0.02 * with_channels(x, self.channels)

    class Find(Hide):
        def forward(self, x: Tensor) -> Tensor:
            return ((with_channels(x, self.channels) - 0.5) / 0.02).clamp(0, 1)

    recipe = trainer(pair)
    channels = [domain.picture.channels for domain in pair.domains]
    recipe.average = nn.ModuleList([Hide(channels[1]), Find(channels[0])])
    found = recipe.measure()
    assert found["held_cycle_there"] < found["held_noisy_there"] / 2
    assert any("hides" in words for words in warnings(found, 0.5))


@pytest.mark.slow
def test_the_served_graphs_agree_with_torch(pair: Pair, tmp_path: Path) -> None:
    recipe = trainer(pair)
    for name, net, x in zip(("there", "back"), recipe.average, pair.test, strict=True):
        export = Export(graph=name, module=ServedTranslator(net), inputs={"image": x}, outputs=("translated",))
        written = write_graph(tmp_path, export)
        assert written.parity_max_abs < 1e-5
        assert written.golden["translated"].min() >= 0
        assert written.golden["translated"].max() <= 1


@pytest.mark.slow
def test_a_pair_of_domains_becomes_a_published_model_with_measured_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = photo(digits(60), background(), digits())
    monkeypatch.setitem(domains.PAIRS, "photo", lambda: pair)
    arguments = ["cyclegan", "--pair", "photo", "--width", "4", "--deep", "8", "--critic", "4", "--batch-size", "10"]
    arguments += ["--epochs", "2", "--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    assert main([*arguments, "--threads", "1", "--precision", "fp32"]) == 0
    folder = tmp_path / "models" / "cyclegan-photo" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert manifest.tasks == ("translate",)
    assert [(way.source, way.target) for way in manifest.translations] == [("plain", "photo"), ("photo", "plain")]
    assert all(len(way.cycle.errors) == 20 for way in manifest.translations)
    model = PublishedTranslators(folder, manifest)
    held = pair.held[1].numpy()
    _, returned = model.there_and_back("photo", held)
    errors = sorted(absolute_errors(returned, held))
    assert errors == pytest.approx(manifest.translations[1].cycle.errors, abs=1e-4)
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    for words in ("Plain digits to digits on a photograph", "Pictures of neither domain", "Failures"):
        assert words in page
    capsys.readouterr()
    assert main(["evaluate", "cyclegan-photo", "--models", str(tmp_path / "models")]) == 0
    assert "The manifest says the same." in capsys.readouterr().out


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_model_gives_its_golden_rows_again(folder: Path) -> None:
    manifest = onnx_model.load_manifest(folder)
    model = PublishedTranslators(folder, manifest)
    for golden in manifest.goldens:
        source = next(way.source for way in manifest.translations if way.graph == golden.graph)
        with np.load(folder / golden.file) as rows:
            made = model.translate(source, rows["image"])
            np.testing.assert_allclose(made, rows["translated"], atol=golden.atol)
            assert in_8_bits(made).std() > 20  # no blank pictures
