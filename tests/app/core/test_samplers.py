"""Samplers by name, begun midway, guided: against Gaussians, where all of it has a closed form."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from math import sqrt
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.core.manifest.sampling import SamplerName, SamplerSpec, Sampling
from app.core.sampling.factory import (
    add_noise,
    combine_guidance,
    forward,
    guided,
    make_sampler,
    noises,
)
from app.core.sampling.samplers import Steps, evaluations, on_graph
from app.core.sampling.schedules import karras, level, levels, levels_from

NAMES = get_args(SamplerName)
DECLARED = Sampling(
    sigma_min=0.002, sigma_max=20.0, rho=7.0, samplers=(SamplerSpec(name="multistep", steps=8, max_steps=64),)
)
MEANS, SD = np.array([-1.0, 0.7, 0.2]), 0.5  # of the classes 0 and 1, and with no label
SPREADS = np.array([0.5, 0.5, 1.1])


def seen(x: Any, sigma: float, label: Any) -> Any:
    """D of rows from N(MEANS[label], SPREADS[label]^2)."""
    mean, variance = MEANS[label], SPREADS[label] ** 2
    return mean + variance / (variance + sigma**2) * (x - mean)


def drive(steps: Steps[Any], label: Any) -> Any:
    try:
        x, t = next(steps)
        while True:
            x, t = steps.send(seen(x, t, label))
    except StopIteration as end:
        return end.value


# Noise of a seed


def test_row_i_of_a_seed_is_the_same_whatever_n_is() -> None:
    few, many = noises(2, (3, 4), 9), noises(50, (3, 4), 9)
    for a, b in islice(zip(few, many, strict=True), 5):
        np.testing.assert_array_equal(a, b[:2])


def test_arrays_rows_and_seeds_have_noise_of_their_own() -> None:
    drawn = [a for seed in (0, 1, 2**32, 2**63) for a in islice(noises(4, (5,), seed), 3)]
    rows = np.concatenate(drawn)
    assert len(np.unique(rows[:, 0])) == len(rows)


def test_the_noise_is_normal_and_white() -> None:
    x = np.stack(list(islice(noises(500, (10,), 3), 10)))
    assert x.dtype == np.float32
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.var()) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(np.corrcoef(x.reshape(10, -1)), np.eye(10), atol=0.06)


# Levels


def test_full_strength_is_the_models_own_schedule() -> None:
    assert levels(DECLARED, 8) == karras(8, start=20.0, end=0.002, rho=7.0)


def test_no_strength_leaves_nothing_to_draw() -> None:
    assert levels(DECLARED, 8, 0.0) == [0.0]


@given(st.floats(1e-6, 1.0), st.integers(1, 40))
def test_levels_of_any_strength_fall_from_it_to_nothing(strength: float, steps: int) -> None:
    sigmas = levels(DECLARED, steps, strength)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(level(DECLARED, strength), rel=1e-3)
    assert all(a > b for a, b in pairwise(sigmas))
    assert sigmas[-1] == 0


def test_half_the_strength_is_where_half_the_steps_are_done() -> None:
    assert level(DECLARED, 0.5) == pytest.approx(karras(9, start=20.0, end=0.002)[4])


def test_a_level_below_the_least_is_the_least() -> None:
    assert levels_from(DECLARED, 1, 0.0)[0] == pytest.approx(0.002, rel=1e-3)


LADDER = (20.0, 5.0, 2.0, 1.0, 0.1, 0.002)
CLIMBED = DECLARED.model_copy(update={"ladder": LADDER})


def test_levels_are_read_off_a_ladder_at_even_distances() -> None:
    assert levels(CLIMBED, 6) == pytest.approx([*LADDER, 0])
    # twice as many steps: the geometric mean of each two rungs between them
    assert levels(CLIMBED, 11)[1:4] == pytest.approx([10.0, 5.0, sqrt(10)])
    assert levels(CLIMBED, 1) == [20.0, 0.0]


def test_half_the_strength_is_half_way_down_a_ladder() -> None:
    assert levels(CLIMBED, 3, 0.6)[:2] == pytest.approx([2.0, sqrt(0.1)])
    assert level(CLIMBED, 0.5) == pytest.approx(sqrt(2.0))


@given(st.floats(1e-6, 1.0), st.integers(1, 40))
def test_levels_of_a_ladder_fall_at_any_strength(strength: float, steps: int) -> None:
    sigmas = levels(CLIMBED, steps, strength)
    assert len(sigmas) == steps + 1
    assert all(a > b for a, b in pairwise(sigmas))
    assert sigmas[-1] == 0


def test_what_is_above_or_below_a_ladder_is_begun_with_all_the_same() -> None:
    assert levels_from(CLIMBED, 6, 30.0) == pytest.approx([30.0, *LADDER[1:], 0])
    assert levels_from(CLIMBED, 1, 0.0)[0] == pytest.approx(0.002, rel=1e-3)


# By name


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_a_manifest_draws_the_distribution(name: SamplerName) -> None:
    """From 20,000 draws: the mean to 0.02, the standard deviation to 0.03 (by chance: 0.0035 and 0.0025)."""
    noise = (a[:, 0] for a in noises(20_000, (1,), 5))
    sigmas = levels(DECLARED, 1 if name == "consistency" else 300)
    x = sigmas[0] * next(noise)
    if name == "consistency":
        # of a net that lands where the flow leads: D(x, sigma) scaled to keep the spread
        steps = make_sampler(name, x, sigmas, noise)
        asked, sigma = next(steps)
        with pytest.raises(StopIteration) as end:
            steps.send(MEANS[0] + (asked - MEANS[0]) * SD / sqrt(SD**2 + sigma**2))
        drawn = end.value.value
    else:
        drawn = drive(make_sampler(name, x, sigmas, noise), 0)
    assert float(drawn.mean()) == pytest.approx(MEANS[0], abs=0.03)
    assert float(drawn.std()) == pytest.approx(SD, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_evaluations_told_are_those_asked(name: SamplerName, steps: int) -> None:
    walk = make_sampler(name, np.ones(3), levels(DECLARED, steps), iter([np.ones(3)] * 9))
    asked = 0
    try:
        x, _ = next(walk)
        while True:
            asked += 1
            x, _ = walk.send(x * 0.5)
    except StopIteration:
        assert asked == evaluations(name, steps)


def test_of_no_steps_there_is_no_evaluation() -> None:
    assert [evaluations(name, 0) for name in NAMES] == [0] * len(NAMES)


# Guidance


def both(n: int, label: int) -> NDArray[Any]:
    return np.repeat([label, 2], n)


@pytest.mark.parametrize("name", ["ddim", "heun", "multistep", "ancestral"])
def test_weight_1_is_the_plain_model_asked_once(name: SamplerName) -> None:
    x, sigmas = 20 * np.random.default_rng(0).normal(size=6), levels(DECLARED, 9)
    plain = make_sampler(name, x, sigmas, iter(np.ones((20, 6))))
    assert guided(plain, 1.0) is plain
    nearly = drive(guided(make_sampler(name, x, sigmas, iter(np.ones((20, 6)))), 1 + 1e-9), both(6, 0))
    np.testing.assert_allclose(nearly, drive(plain, 0), rtol=1e-6)


def test_weight_0_is_the_model_without_labels() -> None:
    x, sigmas = 20 * np.random.default_rng(1).normal(size=6), levels(DECLARED, 9)
    none: Iterator[Any] = iter(())
    got = drive(guided(make_sampler("heun", x, sigmas, none), 0.0), both(6, 1))
    np.testing.assert_allclose(got, drive(make_sampler("heun", x, sigmas, none), 2), rtol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, 4.0])
def test_guided_gaussians_go_where_the_closed_form_leads(weight: float) -> None:
    """dx/ds = s ((1 - w)(x - m)/(v + s^2) + w (x - m1)/(v1 + s^2)), linear in x. With V(s) = (v + s^2)^((1-w)/2)
    (v1 + s^2)^(w/2) its homogeneous solution is V(s)/V(S); from there the particular one, by a fine quadrature."""
    m, v, m1, v1, top = MEANS[2], SPREADS[2] ** 2, MEANS[1], SPREADS[1] ** 2, 20.0
    x = np.array([-15.0, 3.0, 30.0])

    def scale(s: Any) -> Any:
        return (v + s**2) ** ((1 - weight) / 2) * (v1 + s**2) ** (weight / 2)

    s = np.exp(np.linspace(np.log(1e-6), np.log(top), 200_001))
    pull = s * ((1 - weight) * m / (v + s**2) + weight * m1 / (v1 + s**2)) / scale(s)
    exact = scale(0.0) * (x / scale(top) + np.trapezoid(pull, s))
    for name, within in (("heun", 2e-3), ("multistep", 2e-3), ("ddim", 0.05)):
        got = drive(guided(make_sampler(name, x, levels(DECLARED, 400), iter(())), weight), both(3, 1))  # type: ignore[arg-type]
        np.testing.assert_allclose(got, exact, atol=within)


def test_where_classes_differ_in_mean_alone_the_weight_moves_the_mean() -> None:
    """Equal spreads: D is shifted by w times the classes' difference, so the draws are N(m + w (m1 - m), sd^2)."""
    noise = (a[:, 0] for a in noises(20_000, (1,), 6))
    sigmas = levels(DECLARED, 300)
    x = sigmas[0] * next(noise)
    labels = np.repeat([1, 0], len(x))  # class 0 in the place of "no label": both have the spread 0.5
    drawn = drive(guided(make_sampler("ancestral", x, sigmas, noise), 3.0), labels)
    assert float(drawn.mean()) == pytest.approx(MEANS[0] + 3 * (MEANS[1] - MEANS[0]), abs=0.1)
    assert float(drawn.std()) == pytest.approx(SD, abs=0.03)


def test_guided_rows_of_a_graph_come_twice_with_their_levels() -> None:
    label = np.array([1, 0, 2, 2], np.int64)
    steps = guided(make_sampler("ddim", np.array([3.0, -3.0]), levels(DECLARED, 3), iter(())), 2.0)
    sampler = on_graph(steps, t="sigma", answer="denoised", result="image", given={"label": label})
    fed = next(sampler)
    try:
        while True:
            assert fed["x"].shape == fed["sigma"].shape == fed["label"].shape == (4,)
            np.testing.assert_array_equal(fed["x"][:2], fed["x"][2:])
            fed = sampler.send({"denoised": np.array([1.0, 2.0, 0.0, 1.0], np.float32)})
    except StopIteration as end:
        np.testing.assert_allclose(end.value["image"], [2.0, 3.0])


def test_answers_are_weighed_row_by_row() -> None:
    np.testing.assert_array_equal(combine_guidance(np.array([[1.0], [2.0], [0.0], [1.0]]), 2.0), [[2.0], [3.0]])


@pytest.mark.parametrize("name", NAMES)
def test_guided_tensors_and_arrays_get_the_same_numbers(name: SamplerName) -> None:
    rng = np.random.default_rng(2)
    x, noise = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(20, 3, 4)).astype(np.float32)

    def net(x: Any) -> Any:
        return 0.3 + 0.5 * x

    def through(steps: Steps[Any]) -> Any:
        try:
            asked, _ = next(steps)
            while True:
                asked, _ = steps.send(net(asked))
        except StopIteration as end:
            return end.value

    ours = through(guided(make_sampler(name, x, levels(DECLARED, 6), iter(noise)), 2.5))
    tensors = make_sampler(name, torch.from_numpy(x), levels(DECLARED, 6), iter(torch.from_numpy(noise)))
    theirs = through(guided(tensors, 2.5, join=torch.cat))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


# Forwards, midway and back


def test_every_picture_of_the_chain_is_distributed_as_q_says() -> None:
    """q(x_k | x0) = N(x0, sigma_k^2), and between two of the chain the lesser noise is common: cov = sigma_j^2."""
    rng = np.random.default_rng(3)
    sigmas = [0.0, 0.3, 1.0, 4.0]
    known = np.full((200_000,), 0.6)
    chain = np.stack(forward(known, sigmas, (rng.normal(size=known.shape) for _ in sigmas)))
    np.testing.assert_array_equal(chain[0], known)
    np.testing.assert_allclose(chain.mean(axis=1), 0.6, atol=0.04)
    want = np.minimum.outer(np.square(sigmas), np.square(sigmas))
    np.testing.assert_allclose(np.cov(chain), want, rtol=0.02, atol=0.01)


def test_midway_and_the_chain_have_the_same_marginals() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=100_000)
    x = add_noise(np.full(100_000, 0.6), 2.0, noise)
    end = forward(np.full(100_000, 0.6), [0.0, 0.5, 2.0], iter(rng.normal(size=(2, 100_000))))[-1]
    quantiles = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(np.quantile(x, quantiles), np.quantile(end, quantiles), atol=0.05)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_from_a_noisy_picture_the_ancestral_chain_draws_the_posterior(sigma: float) -> None:
    """y = x0 + sigma noise: x0 | y is N(m + k (y - m), (1 - k) sd^2) with k = sd^2 / (sd^2 + sigma^2)."""
    rng = np.random.default_rng(5)
    y = np.full(40_000, 0.4)
    steps = make_sampler(
        "ancestral", y, levels_from(DECLARED, 100, sigma), (rng.normal(size=y.shape) for _ in range(100))
    )
    drawn = drive(steps, 1)
    share = SD**2 / (SD**2 + sigma**2)
    assert float(drawn.mean()) == pytest.approx(MEANS[1] + share * (0.4 - MEANS[1]), abs=0.01)
    assert float(drawn.std()) == pytest.approx(SD * sqrt(1 - share), rel=0.04)


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_a_picture_begun_midway_keeps_what_the_noise_left_of_it(strength: float) -> None:
    """Of known pictures at one value, sent midway and back by the flow: mean and spread of the linear map."""
    noise = (a[:, 0] for a in noises(50_000, (1,), 8))
    sigmas = levels(DECLARED, 64, strength)
    start = sigmas[0]
    drawn = drive(make_sampler("multistep", add_noise(np.full(50_000, -2.0), start, next(noise)), sigmas, noise), 1)
    shrink = SD / sqrt(SD**2 + start**2)
    assert float(drawn.mean()) == pytest.approx(MEANS[1] + (-2.0 - MEANS[1]) * shrink, abs=0.02)
    assert float(drawn.std()) == pytest.approx(start * shrink, rel=0.03)
