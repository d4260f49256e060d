"""Drawing by a denoiser: the server's samplers, on Gaussians whose posterior mean is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.core.manifest.sampling import SamplerName, SamplerSpec, Sampling
from app.core.sampling import samplers
from training.families.diffusion import generation as drawing
from training.families.diffusion.generation import Array, Labels, Levels

MEANS = np.array([-1.0, 2.0, 0.5], np.float32)  # by label; the last is without one
SPREAD = 0.5
DECLARED = Sampling(
    sigma_min=0.01, sigma_max=20.0, rho=7.0, samplers=(SamplerSpec(name="multistep", steps=8, max_steps=64),)
)


def gaussian(x: Array, sigma: Levels, label: Labels) -> Array:
    """E[x0 | x] of N(mean of the label, SPREAD^2)."""
    mean = MEANS[label].reshape(-1, 1, 1, 1)
    kept = np.float32(SPREAD**2 / (SPREAD**2 + np.square(sigma)))
    found: Array = mean + kept * (x - mean)
    return found


def labels(n: int) -> NDArray[np.int64]:
    return np.arange(n, dtype=np.int64) % 2


@pytest.mark.parametrize("sampler", ["multistep", "heun", "ddim", "euler", "ancestral"])
def test_a_gaussians_pictures_have_its_moments_by_label(sampler: SamplerName) -> None:
    y = labels(400)
    made = drawing.draw(gaussian, y, (4, 4, 1), DECLARED, sampler=sampler, steps=160)
    for k in (0, 1):
        assert float(made[y == k].mean()) == pytest.approx(MEANS[k], abs=0.05)
        assert float(made[y == k].std()) == pytest.approx(SPREAD, rel=0.1)


def test_a_row_is_the_same_whatever_is_drawn_beside_it() -> None:
    few = drawing.draw(gaussian, labels(3), (4, 4, 1), DECLARED, sampler="ancestral", steps=4)
    many = drawing.draw(gaussian, labels(9), (4, 4, 1), DECLARED, sampler="ancestral", steps=4)
    np.testing.assert_allclose(many[:3], few, rtol=1e-6)


@pytest.mark.parametrize(("sampler", "steps"), [("multistep", 5), ("heun", 3), ("ddim", 4), ("consistency", 2)])
def test_the_net_is_asked_as_often_as_is_said(sampler: SamplerName, steps: int) -> None:
    seen: list[float] = []

    def ask(x: Array, sigma: Levels, label: Labels) -> Array:
        seen.append(float(np.max(sigma)))
        return gaussian(x, sigma, label)

    frames = list(drawing.chain(ask, labels(2), (2, 2, 1), DECLARED, sampler=sampler, steps=steps))
    assert len(seen) == samplers.evaluations(sampler, steps) == len(frames) - 1
    assert seen[0] == pytest.approx(20.0)
    np.testing.assert_array_equal(frames[-1][0], frames[-1][2])


def test_guidance_of_one_is_the_plain_model_and_more_goes_beyond_it() -> None:
    x, y = np.zeros((2, 2, 2, 1), np.float32), labels(2)
    assert drawing.guided(gaussian, 1.0, 2) is gaussian
    told, untold = gaussian(x, 1.0, y), gaussian(x, 1.0, np.full(2, 2, np.int64))
    np.testing.assert_allclose(drawing.guided(gaussian, 3.0, 2)(x, 1.0, y), untold + 3 * (told - untold), rtol=1e-6)


def test_a_ladders_rungs_are_as_dense_as_the_root_of_the_speed_of_a_gaussians_posterior_mean() -> None:
    # x - mean falls as sqrt(s^2 + sigma^2), so D - mean = s^2 (x - mean) / (s^2 + sigma^2) goes as
    # s^2 / sqrt(s^2 + sigma^2), and by log sigma its speed is s^2 sigma^2 / (s^2 + sigma^2)^(3/2).
    count = drawing.noise_levels(gaussian, labels(4), (4, 4, 1), DECLARED, count=9)
    log_sigma = np.linspace(np.log(DECLARED.sigma_max), np.log(DECLARED.sigma_min), 100_001)
    sigma = np.exp(log_sigma)
    speed = SPREAD**2 * sigma**2 / (SPREAD**2 + sigma**2) ** 1.5
    passed = np.cumsum(np.sqrt(speed))
    expected = np.interp(np.linspace(passed[0], passed[-1], 9), passed, sigma)
    assert count[0] == DECLARED.sigma_max
    assert count[-1] == DECLARED.sigma_min
    np.testing.assert_allclose(count[1:-1], expected[1:-1], rtol=0.02)
    climbed = DECLARED.model_copy(update={"ladder": tuple(count)})
    assert Sampling.model_validate_json(climbed.model_dump_json()) == climbed
