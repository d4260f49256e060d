"""Adversarial training: its losses and penalty, the game on one Gaussian, collapse, resuming; small nets."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from tests.training.pictures import bars, bars_dataset
from training.families.gan.collapse import FALLEN, PATIENCE, CollapseWatch
from training.families.gan.recipe import too_short
from training.families.gan.trainer import HeldOutFidelity, Hyperparameters, Trainer
from training.loop import Run, fit
from training.networks.adversarial import Discriminator, Generator
from training.optim.adversarial import critic_loss, generator_loss, squared_slope
from training.recipe import Batch

SMALL = Hyperparameters(
    latent=4,
    width=16,
    hidden=32,
    critic_width=16,
    critic_hidden=32,
    epochs=8,
    batch_size=16,
    lr=5e-3,
    rise_steps=5,
    ema_steps=20.0,
    penalty=1.0,
    penalty_every=2,
)


def compare(pictures: Tensor, asked: Tensor | None) -> HeldOutFidelity:
    """Recall: the share of columns that some picture has as its brightest. No judge is trained for tests."""
    column = pictures[..., 0].mean(1)
    drawn = column.argmax(1)
    kinds = len(set(drawn[column.max(1).values > 0.3].tolist()) & {0, 2, 4, 6})
    target = bars(64, seed=64)[0].float().mean(0) / 255
    return HeldOutFidelity(
        fd_ratio=float((pictures.mean(0) - target).square().sum()),
        precision=1.0,
        recall=kinds / 4,
        class_share=None if asked is None else float((drawn == 2 * asked).float().mean()),
    )


def trainer(h: Hyperparameters = SMALL, *, conditional: bool = True, seed: int = 0) -> Trainer:
    return Trainer(
        bars_dataset(), h, conditional=conditional, compare=compare, seed=seed, accelerator=Accelerator(cpu=True)
    )


def trained(recipe: Trainer, folder: Path, *, epochs: int = SMALL.epochs) -> list[dict[str, float]]:
    data = bars_dataset()
    run = Run(folder=folder, epochs=epochs, batch_size=SMALL.batch_size, seed=0, title="bars", quiet=True)
    return fit(recipe, data.train_x, data.train_y, run=run, accelerator=recipe.accelerator)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[dict[str, float]]]:
    """On one thread: so short a game between two players turns on the order of sums, which threads change."""
    recipe, threads = trainer(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return recipe, trained(recipe, tmp_path_factory.mktemp("run"))
    finally:
        torch.set_num_threads(threads)


def test_losses_of_pairs_are_what_the_hand_computes() -> None:
    real, drawn = torch.tensor([2.0, -1.0]), torch.tensor([0.0, 1.0])
    by_hand = (math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(2.0))) / 2
    assert float(critic_loss(real, drawn)) == pytest.approx(by_hand, rel=1e-6)
    assert float(generator_loss(real, drawn)) == pytest.approx(by_hand, rel=1e-6)  # the two differences are -2 and 2
    assert float(critic_loss(real[:1], drawn[:1])) == pytest.approx(math.log(1 + math.exp(-2.0)), rel=1e-6)
    assert float(generator_loss(real[:1], drawn[:1])) == pytest.approx(math.log(1 + math.exp(2.0)), rel=1e-6)


def test_against_a_gaussian_the_best_critic_is_the_logarithm_of_the_ratio_of_densities() -> None:
    # ln N(x; 0, 1) - ln N(x; m, 1) = m^2 / 2 - m x, a line of slope -m.
    m = 0.8
    nodes = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    real, drawn = torch.meshgrid(nodes, nodes + m, indexing="ij")  # every pair
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bend = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([slope, bend], max_iter=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = critic_loss(slope * real + bend * real**2, slope * drawn + bend * drawn**2)
        value.backward()
        return value

    solver.step(loss)  # type: ignore[arg-type]  # torch's stub wants a float
    assert float(slope.detach()) == pytest.approx(-m, abs=1e-2)
    assert float(bend.detach()) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.4])
def test_the_game_of_one_number_spirals_in_as_its_jacobian_says(gamma: float) -> None:
    # Data all at 0, drawn at theta, critic psi x (Mescheder et al. 2018, section 2): with R1 and R2 the slope's square
    # weighs gamma, and near the balance (theta, psi)' = [[0, 1/2], [-1/2, -2 gamma]] (theta, psi).
    theta = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
    psi = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    step, steps = 1e-2, 800
    jacobian = torch.tensor([[0.0, 0.5], [-0.5, -2 * gamma]], dtype=torch.float64)
    expected = torch.linalg.matrix_exp(jacobian * step * steps) @ torch.tensor([1e-3, 0.0], dtype=torch.float64)
    for _ in range(steps):
        x = torch.stack([torch.zeros_like(theta), theta.detach()]).unsqueeze(1).requires_grad_()
        scores = psi * x[:, 0]
        total = critic_loss(scores[:1], scores[1:]) + gamma * squared_slope(scores, x).mean()
        (d_psi,) = torch.autograd.grad(total, psi)
        fooled = generator_loss(scores[:1].detach(), (psi.detach() * theta).unsqueeze(0))
        (d_theta,) = torch.autograd.grad(fooled, theta)
        with torch.no_grad():
            psi -= step * d_psi
            theta -= step * d_theta
    found = torch.stack([theta, psi]).detach()
    assert torch.allclose(found, expected, atol=3e-5)
    radius = float(found.norm()) / 1e-3
    assert (radius > 0.99) if gamma == 0 else (radius < 0.6)  # the plain game never arrives


def test_the_squared_slope_and_its_own_derivative_are_the_closed_form() -> None:
    # score = a . x^2 has the slope 2 a x: squared 4 sum a^2 x^2, whose derivative by a is 8 a x^2.
    a = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    x = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]], requires_grad=True)
    squared = squared_slope((a * x**2).sum(1), x)
    assert torch.allclose(squared, (4 * a**2 * x**2).sum(1))
    squared.sum().backward()
    assert a.grad is not None
    assert torch.allclose(a.grad, (8 * a * x**2).sum(0))


def test_the_discriminators_slope_is_the_finite_difference() -> None:
    torch.manual_seed(0)
    critic = Discriminator(picture=(1, 8, 8), classes=4, width=8, hidden=16).double()
    label = torch.tensor([1, 3])
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    there = x.clone().requires_grad_()
    squared = squared_slope(critic.forward(there, label).double(), there)
    # Rows next to each other share one feature, so the sum of the scores is what is differentiated.
    slope = torch.zeros_like(x)
    for i in range(x.numel()):
        ends = []
        for side in (1e-3, -1e-3):
            moved = x.clone()
            moved.view(-1)[i] += side
            ends.append(float(critic(moved, label).detach().sum()))
        slope.view(-1)[i] = (ends[0] - ends[1]) / 2e-3
    assert torch.allclose(squared.double(), slope.square().flatten(1).sum(1), rtol=2e-2)


@pytest.mark.slow
def test_training_finds_the_held_out_pictures_and_its_players_end_even(
    learnt: tuple[Trainer, list[dict[str, float]]],
) -> None:
    history = learnt[1]
    assert history[-1]["held_fd_ratio"] < 0.2 * history[0]["held_fd_ratio"]
    assert history[-1]["held_recall"] == 1
    assert history[-1]["told_apart"] < 0.8 < history[1]["told_apart"]


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_early_has_the_weights_that_the_whole_run_had_there(tmp_path: Path) -> None:
    whole, part = trainer(), trainer(replace(SMALL, until=1))
    step, there = whole.step, list[dict[str, Tensor]]()

    def remember(batch: Batch) -> dict[str, Tensor]:
        if (batch.epoch, len(there)) == (1, 0):
            there.append({name: value.clone() for name, value in whole.average.state_dict().items()})
        return step(batch)

    whole.step = remember  # type: ignore[method-assign]
    trained(whole, tmp_path / "whole", epochs=2)
    assert len(trained(part, tmp_path / "part", epochs=2)) == 1
    assert part.stopped == "asked to end after 1 of 8 epochs"
    for name, value in part.average.state_dict().items():
        assert torch.equal(there[0][name], value), name


@pytest.mark.slow
def test_the_class_that_is_asked_for_is_drawn_whatever_stands_beside_it(
    learnt: tuple[Trainer, list[dict[str, float]]],
) -> None:
    recipe = learnt[0]
    z = torch.randn(40, SMALL.latent, generator=torch.Generator().manual_seed(3))
    label = torch.arange(40) % 4
    drawn = recipe.draw(recipe.best, z, label)
    assert float((drawn[:, 0].mean(1).argmax(1) == 2 * label).float().mean()) > 0.95
    turned = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(recipe.draw(recipe.best, z[turned], label[turned]), drawn[turned], atol=1e-6)
    other = recipe.draw(recipe.best, z, (label + 1) % 4)
    assert float((drawn - other).abs().amax((1, 2, 3)).min()) > 0.1


@pytest.mark.slow
def test_what_is_served_is_the_average_of_the_epoch_nearest_the_held_out_rows(
    learnt: tuple[Trainer, list[dict[str, float]]],
) -> None:
    recipe, history = learnt
    assert recipe.best_ratio == min(row["held_fd_ratio"] for row in history)
    z = torch.randn(320, SMALL.latent, generator=torch.Generator().manual_seed(1))
    label = bars(64, seed=64)[1].repeat(5)
    again = compare(recipe.draw(recipe.best, z, label).permute(0, 2, 3, 1), label)
    assert again.fd_ratio == pytest.approx(recipe.best_ratio, rel=1e-5)


@pytest.mark.slow
def test_a_generator_that_collapses_is_stopped_and_the_best_before_is_kept(tmp_path: Path) -> None:
    recipe = trainer(conditional=False)
    step = recipe.step

    def collapsing(batch: Batch) -> dict[str, Tensor]:
        figures = step(batch)
        if batch.epoch >= 6:  # from here on every latent draws the same picture
            generator = recipe.average
            assert isinstance(generator, Generator)
            with torch.no_grad():
                generator.to_map.weight.zero_()
                generator.scale_coarse.weight.zero_()
                generator.scale_fine.weight.zero_()
                generator.paint.weight.zero_()
        return figures

    recipe.step = collapsing  # type: ignore[method-assign]
    history = trained(recipe, tmp_path, epochs=20)
    assert recipe.stopped is not None
    assert "collapse" in recipe.stopped
    recalls = [row["held_recall"] for row in history]
    assert len(history) == 6 + PATIENCE
    assert max(recalls[-PATIENCE:]) < FALLEN * max(recalls)
    assert recipe.best_ratio == min(row["held_fd_ratio"] for row in history[:6])
    z = torch.randn(64, SMALL.latent, generator=torch.Generator().manual_seed(2))
    assert float(recipe.draw(recipe.best, z, None).std(0).max()) > 0.1
    assert float(recipe.draw(recipe.average, z, None).std(0).max()) < 1e-3
    resumed = trainer(conditional=False, seed=9)
    assert trained(resumed, tmp_path, epochs=20) == history  # it stays stopped


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ([(0.5, 0.7)] * 20, None),
        ([(0.5, 0.7), (0.5, 0.7), *[(0.2, 0.7)] * 3], "mode collapse: held-out recall 0.200, best 0.500"),
        ([(0.5, 0.7), *[(0.2, 0.7), (0.2, 0.7), (0.5, 0.7)] * 6], None),  # it came back each time
        ([(0.0, 0.7)] * 6 + [(0.5, 0.7)] * 14, None),  # recall may come late
        ([(0.0, 0.7)] * 20, "nothing learned: held-out recall 0.000, best 0.000, after 10,000 steps"),
        ([(0.5, 1.0)] * 5 + [(0.5, 0.7)] * 15, None),  # the discriminator is ahead at first
        ([(0.5, 0.7)] * 10 + [(0.5, 1.0)] * 10, "tells 100.0 % of pairs apart"),
    ],
)
def test_the_watch_tells_a_collapse_from_a_bad_epoch(seen: list[tuple[float, float]], says: str | None) -> None:
    said = watched(seen, steps=500)
    if says is None:
        assert set(said) == {None}
    else:
        assert says in (said[-1] or "")


@pytest.mark.parametrize("told_apart", [0.7, 1.0])
def test_a_run_of_few_steps_in_which_nothing_was_learnt_goes_on_to_its_end(told_apart: float) -> None:
    assert set(watched([(0.0, told_apart)] * 20, steps=1)) == {None}


def test_so_few_held_out_rows_that_their_shares_are_chance_stop_nothing() -> None:
    seen = [(0.5, 1.0), *[(0.0, 1.0)] * 19]
    assert set(watched(seen, steps=500, rows=6)) == {None}
    assert watched(seen, steps=500, rows=60)[-1] is not None


def watched(seen: list[tuple[float, float]], *, steps: int, rows: int = 100) -> list[str | None]:
    """What the watch says after each of 20 epochs; `seen` are recall and the share of pairs told apart."""
    watch = CollapseWatch()
    return [
        watch.see(recall=r, told_apart=t, progress=(i + 1) / 20, steps=(i + 1) * steps, rows=rows)
        for i, (r, t) in enumerate(seen)
    ]


def test_a_run_shorter_than_the_rise_reaches_the_full_rate(tmp_path: Path) -> None:
    recipe = trainer(replace(SMALL, rise_steps=1000, hold=0.5))
    step, rates = recipe.step, list[float]()

    def remember(batch: Batch) -> dict[str, Tensor]:
        figures = step(batch)
        rates.append(recipe.optimisers[0].param_groups[0]["lr"])
        return figures

    recipe.step = remember  # type: ignore[method-assign]
    trained(recipe, tmp_path, epochs=1)  # 20 steps
    assert rates[0] == pytest.approx(SMALL.lr / 1000)
    assert rates[2:10] == [SMALL.lr] * 8


def test_a_run_too_short_to_learn_from_says_how_many_epochs_are_enough() -> None:
    words = too_short(72, Hyperparameters(epochs=10, batch_size=64))
    assert words is not None
    assert "10 steps in all" in words
    assert "--epochs 2000 would" in words
    assert too_short(72, Hyperparameters(epochs=2000, batch_size=64)) is None
    assert too_short(55_000, Hyperparameters()) is None


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_has_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole = trainer()
    trained(whole, tmp_path / "whole", epochs=2)
    first = trainer()
    step, taken = first.step, 0

    def stop(batch: Batch) -> dict[str, Tensor]:
        nonlocal taken
        taken += 1
        if taken == 24:
            raise KeyboardInterrupt
        return step(batch)

    first.step = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trained(first, tmp_path / "halves", epochs=2)
    second = trainer(seed=5)  # other weights until the checkpoint's are read
    trained(second, tmp_path / "halves", epochs=2)
    for one, other in zip(whole.state()["networks"], second.state()["networks"], strict=True):
        for name, value in one.items():
            assert torch.equal(other[name], value), name


@pytest.mark.parametrize(("shape", "rows"), [((1, 28, 28), 16), ((3, 10, 13), 3), ((1, 5, 4), 8)])
def test_any_size_of_picture_is_drawn_and_scored(shape: tuple[int, int, int], rows: int) -> None:
    generator = Generator(picture=shape, latent=3, classes=2, width=8, hidden=8)
    drawn = generator(torch.randn(rows, 3), torch.ones(rows).long()).detach()
    assert drawn.shape == (rows, *shape)
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    critic = Discriminator(picture=shape, classes=0, width=8, hidden=8)
    assert critic(drawn).shape == (rows,)


def test_a_row_is_scored_beside_its_own_eight_and_no_others() -> None:
    torch.manual_seed(0)
    critic = Discriminator(picture=(1, 8, 8), classes=0, width=8, hidden=8)
    x = torch.rand(16, 1, 8, 8)
    changed = x.clone()
    changed[8:] = 0
    with torch.no_grad():
        before, after = critic(x), critic(changed)
    assert torch.equal(before[:8], after[:8])
    assert not torch.equal(before[8:], after[8:])
