"""Samplers against distributions whose score is known in closed form; each at the order that theory gives it.

One long file, because every sampler is held to the same few distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import erf, exp, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.core.sampling.samplers import (
    Steps,
    consistency,
    ddim,
    denoiser,
    euler,
    heun,
    inpaint,
    multistep,
    on_graph,
    once,
    slopes,
)
from app.core.sampling.schedules import cosine, karras, resampling_steps, uniform

Net = Callable[[Any, float], Any]
MEAN, SD = 0.7, 0.5
TOP = 20.0


def drive(steps: Steps[Any], net: Net) -> Any:
    """What training does."""
    return list(visits(steps, net))[-1][0]


def visits(steps: Steps[Any], net: Net) -> Iterator[tuple[Any, float]]:
    """Every (x, t) that is asked, then (the result, 0)."""
    try:
        x, t = next(steps)
        while True:
            yield x, t
            x, t = steps.send(net(x, t))
    except StopIteration as end:
        yield end.value, 0.0


def normals(rng: np.random.Generator, shape: Any) -> Iterator[NDArray[Any]]:
    while True:
        yield rng.normal(size=shape)


def gaussian(x: Any, sigma: float) -> Any:
    """D of data from N(MEAN, SD^2): the posterior mean."""
    return MEAN + SD**2 / (SD**2 + sigma**2) * (x - MEAN)


def along_gaussian(x: Any, sigma: float, after: float) -> Any:
    """Where the probability flow of that data leads: it keeps the quantile."""
    return MEAN + (x - MEAN) * sqrt((SD**2 + after**2) / (SD**2 + sigma**2))


def geometric(steps: int, top: float, end: float) -> list[float]:
    return [top * (end / top) ** (k / steps) for k in range(steps + 1)]


def order(error_of: Callable[[int], float], coarse: int = 64, fine: int = 256) -> float:
    """p, where the error falls as steps^-p."""
    return float(np.log(error_of(coarse) / error_of(fine)) / np.log(fine / coarse))


# Schedules


@given(st.integers(1, 60), st.floats(0.01, 100), st.sampled_from([uniform, karras, cosine]))
def test_times_fall_from_the_start_to_nothing(steps: int, start: float, schedule: Callable[..., list[float]]) -> None:
    times = schedule(steps, start=start)
    assert len(times) == steps + 1
    assert times[0] == start
    assert times[-1] == 0.0
    assert all(before > after for before, after in pairwise(times))


def test_karras_levels_are_those_of_the_paper() -> None:
    # sigma_i of equation 5 with N = 3, from 80 to 0.002, rho 7: the one in the middle, by hand
    middle = ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert karras(3) == pytest.approx([80.0, middle, 0.002, 0.0])


def test_cosine_levels_are_a_ratio_of_sine_and_cosine() -> None:
    assert cosine(4, start=1.0) == pytest.approx(
        [1.0, np.tan(3 * np.pi / 16), np.tan(np.pi / 8), np.tan(np.pi / 16), 0]
    )


@pytest.mark.parametrize(
    ("schedule", "steps", "options"), [(uniform, 0, {}), (cosine, 3, {"start": 0.0}), (karras, 2, {"start": 0.001})]
)
def test_a_schedule_that_cannot_be_is_refused(
    schedule: Callable[..., list[float]], steps: int, options: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        schedule(steps, **options)


# Orders of convergence


@pytest.mark.parametrize(("sampler", "p"), [(euler, 1), (heun, 2)])
def test_a_linear_slope_is_followed_at_the_order_of_the_method(sampler: Any, p: int) -> None:
    """dx/dt = 1.5 x + t from t = 1 to 0 has the solution x(t) = C exp(1.5 t) - t / 1.5 - 1 / 2.25."""
    start = 0.8
    exact = (start + 1 / 1.5 + 1 / 2.25) * exp(-1.5) - 1 / 2.25

    def error(steps: int) -> float:
        return abs(float(drive(sampler(start, uniform(steps)), lambda x, t: 1.5 * x + t)) - exact)

    assert order(error) == pytest.approx(p, abs=0.1)
    assert error(256) < 10**-p


@pytest.mark.parametrize(
    ("sampler", "p"),
    [(lambda x, s: slopes(euler(x, s)), 1), (lambda x, s: slopes(heun(x, s)), 2), (ddim, 1), (multistep, 2)],
    ids=["euler", "heun", "ddim", "multistep"],
)
def test_the_flow_of_a_gaussian_is_followed_at_the_order_of_the_method(sampler: Any, p: int) -> None:
    x = np.array([-30.0, 0.4, 25.0])

    def error(steps: int) -> float:
        sigmas = geometric(steps, TOP, 0.05)
        return float(np.abs(drive(sampler(x, sigmas), gaussian) - along_gaussian(x, TOP, 0.05)).max())

    assert order(error) == pytest.approx(p, abs=0.15)


WEIGHTS, CENTRES, WIDTHS = (0.3, 0.5, 0.2), (-2.0, 0.5, 3.0), (0.3, 0.2, 0.6)


def mixture(x: Any, sigma: float) -> Any:
    """D of a mixture of three Gaussians, by Bayes' rule."""
    parts = [
        (
            w / sqrt(s**2 + sigma**2) * np.exp(-((x - m) ** 2) / 2 / (s**2 + sigma**2)),
            m + s**2 / (s**2 + sigma**2) * (x - m),
        )
        for w, m, s in zip(WEIGHTS, CENTRES, WIDTHS, strict=True)
    ]
    return sum(p * mean for p, mean in parts) / sum(p for p, _ in parts)


def mixture_cdf(x: float, sigma: float) -> float:
    return sum(
        w * 0.5 * (1 + erf((x - m) / sqrt(2 * (s**2 + sigma**2))))
        for w, m, s in zip(WEIGHTS, CENTRES, WIDTHS, strict=True)
    )


def mixture_quantile(p: float) -> float:
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mixture_cdf(middle, 0.0) < p else (low, middle)
    return low


@pytest.mark.parametrize(
    ("sampler", "p", "within"),
    [
        (lambda x, s: slopes(euler(x, s)), 1, 0.03),
        (lambda x, s: slopes(heun(x, s)), 2, 5e-4),
        (ddim, 1, 0.03),
        (multistep, 2, 5e-4),
    ],
    ids=["euler", "heun", "ddim", "multistep"],
)
def test_a_mixture_is_reached_quantile_by_quantile(sampler: Any, p: int, within: float) -> None:
    """In one dimension the probability flow keeps ranks, so that where it must end is known without solving it."""
    x = np.array([-25.0, -9.0, -1.0, 2.0, 11.0, 28.0])
    exact = np.array([mixture_quantile(mixture_cdf(float(v), TOP)) for v in x])

    def error(steps: int) -> float:
        return float(np.abs(drive(sampler(x, [*geometric(steps, TOP, 1e-3), 0.0]), mixture) - exact).max())

    assert error(400) < within
    assert order(error, 100, 400) > p - 0.2


# Moments


def moments(sampler: Callable[[NDArray[Any], Iterator[NDArray[Any]]], Steps[Any]], steps: int) -> tuple[float, float]:
    """(mean, variance) that a linear sampler gives to N(MEAN, SD^2) data, without drawing one number.

    `x` holds coefficients: of 1, of the noise at the start, and of each that is drawn later.
    """
    basis = np.eye(steps + 2)
    one = basis[0]

    def net(x: NDArray[Any], sigma: float) -> NDArray[Any]:
        return MEAN * one + SD**2 / (SD**2 + sigma**2) * (x - MEAN * one)

    start = MEAN * one + sqrt(SD**2 + TOP**2) * basis[1]
    x = drive(sampler(start, iter(basis[2:])), net)
    return float(x[0]), float((x[1:] ** 2).sum())


@pytest.mark.parametrize(
    ("sampler", "p"),
    [
        (lambda s: lambda x, noise: slopes(euler(x, s)), 1),
        (lambda s: lambda x, noise: slopes(heun(x, s)), 2),
        (lambda s: lambda x, noise: ddim(x, s), 1),
        (lambda s: lambda x, noise: ddim(x, s, eta=0.5, noise=noise), 1),
        (lambda s: lambda x, noise: ddim(x, s, eta=1.0, noise=noise), 1),
        (lambda s: lambda x, noise: multistep(x, s), 2),
    ],
    ids=["euler", "heun", "ddim 0", "ddim 0.5", "ancestral", "multistep"],
)
def test_a_gaussian_gets_its_mean_and_variance_at_the_order_of_the_method(sampler: Any, p: int) -> None:
    def error(steps: int) -> float:
        mean, variance = moments(sampler([*geometric(steps - 1, TOP, 1e-5), 0.0]), steps)
        assert mean == pytest.approx(MEAN, abs=1e-9)
        return abs(variance - SD**2)

    assert order(error, 200, 800) == pytest.approx(p, abs=0.2)
    assert error(800) < 0.05 * SD**2 / 10 ** (p - 1)


def test_eta_1_is_the_ancestral_chain_of_ddpm_step_for_step() -> None:
    """Against equation 7 of Ho et al. 2020 (arXiv:2006.11239), in its own coordinates, with the same noise."""
    rng = np.random.default_rng(0)
    kept = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.3, 30))])  # alpha bar of t = 0 .. 30
    noises = rng.normal(size=(30, 5))
    start = rng.normal(size=5)

    x = start
    for t in range(30, 0, -1):
        alpha = kept[t] / kept[t - 1]
        seen = mixture(x / sqrt(kept[t]), sqrt(1 / kept[t] - 1))
        mean = (
            sqrt(kept[t - 1]) * (1 - alpha) / (1 - kept[t]) * seen + sqrt(alpha) * (1 - kept[t - 1]) / (1 - kept[t]) * x
        )
        x = mean + sqrt((1 - kept[t - 1]) / (1 - kept[t]) * (1 - alpha)) * noises[30 - t]

    sigmas = [sqrt(1 / k - 1) for k in kept[::-1]]
    got = drive(ddim(start / sqrt(kept[30]), sigmas, eta=1.0, noise=iter(noises)), mixture)
    np.testing.assert_allclose(got, x, rtol=1e-9)


LATTICE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
SHARES = np.array([0.4, 0.1, 0.2, 0.3])


def lattice(x: NDArray[Any], sigma: float) -> NDArray[Any]:
    """D of four two-pixel pictures: their mean, weighted by how probable each is. (rows, 2)"""
    far = ((x[:, None] - LATTICE) ** 2).sum(-1) / 2 / sigma**2
    weight = SHARES * np.exp(far.min(axis=1, keepdims=True) - far)
    mean: NDArray[Any] = weight @ LATTICE / weight.sum(axis=1, keepdims=True)
    return mean


@pytest.mark.parametrize("name", ["heun", "ddim", "ancestral", "multistep"])
def test_a_lattice_of_two_pixels_is_drawn_in_its_shares(name: str) -> None:
    rng = np.random.default_rng(1)
    x = 40.0 * rng.normal(size=(20_000, 2))
    sigmas = karras(48, start=40.0)
    sampler: Steps[Any] = {
        "heun": lambda: slopes(heun(x, sigmas)),
        "ddim": lambda: ddim(x, sigmas),
        "ancestral": lambda: ddim(x, sigmas, eta=1.0, noise=normals(rng, x.shape)),
        "multistep": lambda: multistep(x, sigmas),
    }[name]()
    drawn = drive(sampler, lattice)
    assert np.abs(drawn - np.round(drawn)).max() < 0.02
    shares = [float((np.round(drawn) == point).all(axis=1).mean()) for point in LATTICE]
    np.testing.assert_allclose(shares, SHARES, atol=0.025)  # sampling alone: 0.0035


# What is between


def test_a_sampler_started_midway_denoises() -> None:
    """From a picture with noise of level 0.8, the flow must end where it leads from there."""
    x = np.array([0.1, 0.9, 2.0])
    got = drive(slopes(heun(x, karras(64, start=0.8))), gaussian)
    np.testing.assert_allclose(got, along_gaussian(x, 0.8, 0.0), atol=1e-3)


def test_once_is_the_posterior_mean() -> None:
    x = np.array([0.1, 0.9, 2.0])
    np.testing.assert_array_equal(drive(once(x, 0.8), gaussian), gaussian(x, 0.8))


def as_answered(predicts: str) -> Net:
    """The mixture's denoiser, as a net that answers something else would hide it."""

    def net(x: Any, t: float) -> Any:
        if predicts == "flow":
            signal, sigma = 1 - t, t
        else:
            signal, sigma = np.cos(np.pi * t / 2), np.sin(np.pi * t / 2)
        x0 = mixture(x / signal, sigma / signal)
        noise = (x - signal * x0) / sigma
        return {"noise": noise, "velocity": signal * noise - sigma * x0, "flow": noise - x0}[predicts]

    return net


@pytest.mark.parametrize("predicts", ["noise", "velocity", "flow"])
def test_a_net_that_answers_something_else_is_sampled_as_its_denoiser_is(predicts: Any) -> None:
    x = TOP * np.random.default_rng(2).normal(size=7)
    sigmas = karras(12, start=TOP)
    got = drive(denoiser(multistep(x, sigmas), predicts=predicts), as_answered(predicts))
    np.testing.assert_allclose(got, drive(multistep(x, sigmas), mixture), rtol=1e-6)


def test_ddim_of_a_flow_is_its_euler() -> None:
    """x_t = (1 - t) x0 + t noise, straight lines both; only the first time must be below 1."""
    times = uniform(9, start=0.95)
    x = np.random.default_rng(3).normal(size=7)
    sigmas = [t / (1 - t) for t in times]
    got = drive(denoiser(ddim(x / 0.05, sigmas), predicts="flow"), as_answered("flow"))
    np.testing.assert_allclose(got, drive(euler(x, times), as_answered("flow")), rtol=1e-9)


def test_a_consistency_net_lands_on_the_data_in_every_step() -> None:
    rng = np.random.default_rng(4)
    asked = list(
        visits(
            consistency(80 * rng.normal(size=50_000), [80.0, 2.0, 0.5, 0.0], noise=normals(rng, 50_000)),
            lambda x, sigma: along_gaussian(x, sigma, 0.0),
        )
    )
    assert [t for _, t in asked] == [80.0, 2.0, 0.5, 0.0]
    for x, sigma in asked[1:]:
        assert x.mean() == pytest.approx(MEAN, abs=0.04)
        assert x.var() == pytest.approx(SD**2 + sigma**2, rel=0.03)


@pytest.mark.parametrize("name", ["heun", "ancestral", "multistep"])
def test_inpainting_keeps_known_pixels_exactly_and_draws_the_rest_beside_them(name: str) -> None:
    """The second pixel is known to be 1 (0.1 of 0.4): the first is 1 in 0.3 of 0.4 of the lattice."""
    rng = np.random.default_rng(5)
    x = 40.0 * rng.normal(size=(8_000, 2))
    sigmas = karras(48, start=40.0)
    known = np.array([[0.0, 1.0]])
    mask = np.array([[0.0, 1.0]])
    sampler: Steps[Any] = {
        "heun": lambda: slopes(heun(x, sigmas)),
        "ancestral": lambda: ddim(x, sigmas, eta=1.0, noise=normals(rng, x.shape)),
        "multistep": lambda: multistep(x, sigmas),
    }[name]()
    drawn = drive(inpaint(sampler, known, mask), lattice)
    assert (drawn[:, 1] == 1.0).all()
    assert np.abs(drawn[:, 0] - np.round(drawn[:, 0])).max() < 0.02
    # Replacing forgets at high noise what is known: the share lies between the margin's 0.5 and the conditional 0.75.
    assert 0.5 < float(np.round(drawn[:, 0]).mean()) < 0.8


@pytest.mark.parametrize("point", [0, 1])
def test_going_back_and_forth_brings_inpainting_to_the_conditional_distribution(point: int) -> None:
    """Of the lattice's first pixel, given the second: 1 in 0.2 of 0.6, or in 0.3 of 0.4; replacing alone misses it."""

    def share(visits: int) -> float:
        rng = np.random.default_rng(9)
        x = 40.0 * rng.normal(size=(3_000, 2))
        steps = ddim(x, resampling_steps(karras(24, start=40.0), visits), eta=1.0, noise=normals(rng, x.shape))
        drawn = drive(inpaint(steps, np.array([[0.0, float(point)]]), np.array([[0.0, 1.0]])), lattice)
        assert (drawn[:, 1] == point).all()
        return float(np.round(drawn[:, 0]).mean())

    exact = [0.2 / 0.6, 0.3 / 0.4][point]
    once, often = abs(share(1) - exact), abs(share(10) - exact)
    assert once > 0.05
    assert often < 0.03  # sampling alone: 0.009


def test_travels_go_back_to_every_level_but_the_last() -> None:
    assert resampling_steps([8.0, 4.0, 2.0, 0.0], 1) == [8.0, 4.0, 2.0, 0.0]
    assert resampling_steps([8.0, 4.0, 2.0, 0.0], 2) == [8.0, 4.0, 8.0, 4.0, 2.0, 4.0, 2.0, 0.0]
    assert resampling_steps([8.0, 0.0], 5) == [8.0, 0.0]


def test_going_back_changes_nothing_where_all_is_drawn() -> None:
    """Noise added and taken away again: still the distribution of the data, its mean and variance at first order."""

    def error(steps: int) -> float:
        sigmas = resampling_steps([*geometric(steps - 1, TOP, 1e-3), 0.0], 3)
        mean, variance = moments(lambda x, noise: ddim(x, sigmas, eta=1.0, noise=noise), len(sigmas))
        assert mean == pytest.approx(MEAN, abs=1e-9)
        return abs(variance - SD**2)

    assert order(error, 100, 400) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("index", range(5))
def test_known_pixels_are_kept_to_the_last_bit(index: int) -> None:
    rng = np.random.default_rng(8)
    x = (TOP * rng.normal(size=(50, 30))).astype(np.float32)
    noises = [rng.normal(size=x.shape).astype(np.float32) for _ in range(20)]
    known = rng.random(x.shape).astype(np.float32)
    mask = (rng.random(x.shape) < 0.5).astype(np.float32)
    drawn = drive(inpaint(samplers(x, iter(noises))[index], known, mask), gaussian)
    np.testing.assert_array_equal(drawn[mask == 1], known[mask == 1])
    free = drive(samplers(x, iter(noises))[index], gaussian)
    np.testing.assert_array_equal(drawn[mask == 0], free[mask == 0])


# The two worlds


def samplers(x: Any, noise: Iterator[Any]) -> list[Steps[Any]]:
    sigmas = karras(9, start=TOP)
    return [
        slopes(euler(x, sigmas)),
        slopes(heun(x, sigmas)),
        ddim(x, sigmas),
        ddim(x, sigmas, eta=1.0, noise=noise),
        multistep(x, sigmas),
        consistency(x, sigmas, noise=noise),
        inpaint(multistep(x, sigmas), x * 0 + 0.25, x * 0 + 1),
        denoiser(ddim(x, cosine(9)), predicts="velocity"),
    ]


@pytest.mark.parametrize("index", range(8))
def test_torch_and_numpy_get_the_same_numbers(index: int) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3, 2, 4, 4)).astype(np.float32) * TOP
    noises = [rng.normal(size=x.shape).astype(np.float32) for _ in range(20)]
    ours = drive(samplers(x, iter(noises))[index], gaussian)
    theirs = drive(samplers(torch.from_numpy(x), (torch.from_numpy(n) for n in noises))[index], gaussian)
    assert ours.dtype == np.float32
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index", range(8))
def test_nothing_that_a_sampler_was_given_is_changed(index: int) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3, 4))
    noises = [rng.normal(size=x.shape) for _ in range(20)]
    for array in (x, *noises):
        array.flags.writeable = False

    def net(x: NDArray[Any], t: float) -> NDArray[Any]:
        answer: NDArray[Any] = gaussian(x, t)
        answer.flags.writeable = False
        return answer

    drive(samplers(x, iter(noises))[index], net)


def test_the_number_of_evaluations_is_what_the_schedule_says() -> None:
    def evaluations(steps: Steps[Any]) -> int:
        return len(list(visits(steps, gaussian))) - 1

    x = np.ones(3)
    counts: Sequence[int] = [
        evaluations(s) for s in (once(x), euler(x, uniform(8)), ddim(x, karras(8)), multistep(x, karras(8)))
    ]
    assert counts == [1, 8, 8, 8]
    assert evaluations(slopes(heun(x, karras(8)))) == 15  # the last step has no second half


# The engine's form


def test_on_a_graph_every_row_has_its_time_and_what_is_given_goes_along() -> None:
    labels = np.array([3, 1, 4], np.int64)
    sampler = on_graph(
        euler(np.zeros((3, 2)), uniform(4)), x="image", t="time", answer="v", result="picture", given={"label": labels}
    )
    fed = next(sampler)
    times = []
    try:
        while True:
            assert set(fed) == {"image", "time", "label"}
            assert fed["image"].dtype == fed["time"].dtype == np.float32
            assert fed["time"].shape == (3,)
            assert fed["label"] is labels
            times.append(float(fed["time"][0]))
            fed = sampler.send({"v": np.ones((3, 2), np.float32), "unused": labels})
    except StopIteration as end:
        np.testing.assert_allclose(end.value["picture"], -np.ones((3, 2)))
    assert times == [1.0, 0.75, 0.5, 0.25]


def test_a_graph_without_times_is_asked_without() -> None:
    sampler = on_graph(once(np.zeros((2, 5), np.float32)), x="z", t=None, answer="image", result="image")
    assert set(next(sampler)) == {"z"}
    with pytest.raises(StopIteration) as end:
        sampler.send({"image": np.ones((2, 7))})
    assert end.value.value["image"].shape == (2, 7)
