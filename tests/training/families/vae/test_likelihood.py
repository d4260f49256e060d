"""ELBO terms against torch.distributions; the importance-weighted bound where the evidence is known exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from training.families.vae import likelihood
from training.families.vae import metrics as variational
from training.families.vae.likelihood import Likelihood
from training.families.vae.metrics import PublishedVae

SIGMA = 0.7


@given(st.floats(-6, 6), st.floats(-8, 6))
@settings(max_examples=50, deadline=None)
def test_the_kl_term_is_that_of_torch_distributions(mu: float, logvar: float) -> None:
    one = torch.tensor([[mu]], dtype=torch.float64)
    variance = torch.tensor([[logvar]], dtype=torch.float64)
    prior = Normal(torch.zeros(1, 1, dtype=torch.float64), 1.0)
    expected = kl_divergence(Normal(one, (variance / 2).exp()), prior)
    torch.testing.assert_close(likelihood.kl_divergence(one, variance), expected)


def test_the_reconstruction_term_is_the_bernoulli_likelihood_of_all_pixels() -> None:
    logits = torch.randn(3, 5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x = (torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    expected = Bernoulli(logits=logits).log_prob(x.expand_as(logits)).sum((-3, -2, -1))
    torch.testing.assert_close(likelihood.bernoulli_log_likelihood(logits, x), expected)


def test_a_weight_is_the_joint_density_over_the_posterior_s() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, logvar, fit = (torch.randn(*shape, generator=generator) for shape in ((4, 3), (4, 3), (7, 4)))
    noise = torch.randn(7, 4, 3, generator=generator)
    z = mu + (logvar / 2).exp() * noise
    prior, posterior = Normal(0.0, 1.0), Normal(mu, (logvar / 2).exp())
    expected = fit + prior.log_prob(z).sum(-1) - posterior.log_prob(z).sum(-1)
    torch.testing.assert_close(likelihood.log_weights(fit, z, noise, logvar), expected, atol=1e-4, rtol=1e-5)


class LinearGaussian:
    """p(z) = N(0, I), p(x | z) = N(Wz + b, sigma^2 I): x is normal, and so is z given x, if W's columns are orthogonal
    with independent components (Tipping and Bishop 1999)."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        basis = torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.float64))[0]
        self.w = basis * torch.tensor([2.0, 0.8], dtype=torch.float64)  # (X, Z)
        self.b = torch.randn(6, generator=generator, dtype=torch.float64)
        self.x = self.b + torch.randn(8, 6, generator=generator, dtype=torch.float64)  # (B, X)

    def evidence(self) -> Tensor:
        covariance = self.w @ self.w.T + SIGMA**2 * torch.eye(6, dtype=torch.float64)
        return MultivariateNormal(self.b, covariance).log_prob(self.x)

    def posterior(self) -> tuple[Tensor, Tensor]:
        """mu (B, Z), logvar (B, Z)."""
        precision = 1 + self.w.square().sum(0) / SIGMA**2
        mu = (self.x - self.b) @ self.w / SIGMA**2 / precision
        return mu, -precision.log().expand_as(mu)

    def log_weights(self, mu: Tensor, logvar: Tensor, samples: int) -> Tensor:
        noise = torch.randn(samples, *mu.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        z = mu + (logvar / 2).exp() * noise
        fit = Normal(z @ self.w.T + self.b, SIGMA).log_prob(self.x).sum(-1)
        return likelihood.log_weights(fit, z, noise, logvar)


@pytest.mark.parametrize("samples", [1, 2, 50])
def test_with_the_exact_posterior_the_bound_is_the_evidence_for_any_number_of_samples(samples: int) -> None:
    model = LinearGaussian()
    bound = likelihood.importance_bound(model.log_weights(*model.posterior(), samples))
    torch.testing.assert_close(bound, model.evidence(), atol=1e-10, rtol=0)


def test_with_another_posterior_the_bound_rises_towards_the_evidence() -> None:
    model = LinearGaussian()
    mu, logvar = model.posterior()
    log_w = model.log_weights(mu + 0.3, logvar + 0.5, 20_000)
    groups = [log_w[: 20_000 // k * k].reshape(-1, k, 8) for k in (1, 10, 100)]
    bounds = [float(torch.stack([likelihood.importance_bound(g) for g in some[:200]]).mean()) for some in groups] + [
        float(likelihood.importance_bound(log_w).mean())
    ]
    evidence = float(model.evidence().mean())
    assert bounds == sorted(bounds)
    assert evidence - bounds[0] > 0.1
    assert bounds[-1] == pytest.approx(evidence, abs=0.01)


def test_the_elbo_is_the_evidence_less_the_divergence_of_the_posteriors() -> None:
    model = LinearGaussian()
    mu, logvar = model.posterior()
    other = (mu + 0.3, logvar + 0.5)
    apart = kl_divergence(Normal(other[0], (other[1] / 2).exp()), Normal(mu, (logvar / 2).exp())).sum(-1)
    elbo = model.log_weights(*other, 20_000).mean(0)
    torch.testing.assert_close(elbo, model.evidence() - apart, atol=0.05, rtol=0)


def halves(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """A decoder of 2x2 pixels: the first two follow z, the others are even."""
    p = np.full((len(z), 2, 2, 1), 0.5, np.float32)
    p[:, 0, :, 0] = 1 / (1 + np.exp(-z))
    return p


def test_a_scored_row_has_the_terms_of_torch_distributions() -> None:
    x = np.array([[[1.0], [0.0]], [[1.0], [1.0]]], np.float32)
    mu, logvar = np.array([0.4, -1.0], np.float32), np.array([-1.0, 0.2], np.float32)
    found = likelihood.score_row(halves, x, mu, logvar, samples=400, seed=1, row=7)
    z, noise = likelihood.posterior_samples(mu, logvar, 400, seed=1, row=7)
    logits = torch.from_numpy(np.pad(z, ((0, 0), (0, 2)))).double()
    fit = Bernoulli(logits=logits).log_prob(torch.from_numpy(x.reshape(-1)).double()).sum(-1)
    log_w = likelihood.log_weights(
        fit[:, None], *(torch.from_numpy(a).double()[:, None] for a in (z, noise)), torch.from_numpy(logvar)[None]
    )
    np.testing.assert_allclose(found.log_w[0], log_w[:, 0], atol=1e-5)
    assert found.reconstruction[0] == pytest.approx(float(fit.mean()), abs=1e-5)
    assert found.nll() == pytest.approx(-float(likelihood.importance_bound(log_w)), abs=1e-5)
    prior = Normal(torch.zeros(2), 1.0)
    kl = kl_divergence(Normal(torch.from_numpy(mu), torch.from_numpy(logvar / 2).exp()), prior)
    np.testing.assert_allclose(found.kl[0], kl, rtol=1e-5)
    assert found.elbo == pytest.approx(float(fit.mean() - kl.sum()), abs=1e-5)


def test_a_grey_pixel_counts_as_ink_in_proportion() -> None:
    x = np.array([[[0.25], [0.0]], [[1.0], [1.0]]], np.float32)
    mu, logvar = np.zeros(2, np.float32), np.zeros(2, np.float32)
    found = likelihood.score_row(halves, x, mu, logvar, samples=3, seed=0, row=0)
    p = halves(likelihood.posterior_samples(mu, logvar, 3, seed=0, row=0)[0])
    ink, grey = p[:, 0, 1, 0], p[:, 0, 0, 0]
    expected = 0.25 * np.log(grey) + 0.75 * np.log(1 - grey) + np.log(1 - ink) + 2 * math.log(0.5)
    assert found.reconstruction[0] == pytest.approx(float(expected.mean()), abs=1e-6)


def test_a_pixel_that_was_held_impossible_costs_a_finite_amount() -> None:
    found = likelihood.score_row(
        lambda z: np.ones((len(z), 1, 1, 1), np.float32),
        np.zeros((1, 1, 1), np.float32),
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
        samples=2,
        seed=0,
        row=0,
    )
    assert found.reconstruction[0] == pytest.approx(-24 * math.log(2), rel=1e-6)


def test_rows_scored_apart_are_scored_as_if_together() -> None:
    x = np.ones((2, 2, 2, 1), np.float32)
    mu, logvar = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    rows = [likelihood.score_row(halves, x[i], mu[i], logvar[i], samples=5, seed=0, row=i) for i in (0, 1)]
    together = likelihood.joined(iter(rows))
    assert together.nll() == pytest.approx((rows[0].nll() + rows[1].nll()) / 2)
    assert not np.array_equal(rows[0].log_w, rows[1].log_w)  # each row has draws of its own


def test_fewer_samples_are_taken_in_groups_of_all() -> None:
    log_w = np.log(np.array([[1.0, 3.0, 2.0, 2.0]], np.float32))
    scored = Likelihood(reconstruction=np.zeros(1), kl=np.zeros((1, 1)), log_w=log_w)
    assert scored.nll(1) == pytest.approx(-float(log_w.mean()))
    assert scored.nll(2) == pytest.approx(-math.log(2))
    assert scored.nll() == pytest.approx(-math.log(2))
    with pytest.raises(ValueError, match="expected 1 to 4, got 5"):
        scored.nll(5)


class Paper(PublishedVae):
    """A model without graphs, which counts the rows that it scores."""

    def __init__(self) -> None:
        self.graphs = ["encoder", "decoder"]
        self.rows = 0

    def encode(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.rows += len(image)
        mu = image.reshape(len(image), -1)[:, :2].astype(np.float32) / 255
        return mu, np.zeros_like(mu)

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        return halves(latent)


def test_a_scoring_that_was_stopped_goes_on_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variational, "ROWS_KEPT", 4)
    x = np.random.default_rng(0).integers(0, 2, (10, 2, 2, 1), dtype=np.uint8) * np.uint8(255)
    whole, resumed = Paper(), Paper()
    expected = whole.score(x, samples=5)
    resumed.score_part(x, 4, samples=5, kept=tmp_path)
    found = resumed.score(x, samples=5, kept=tmp_path)
    assert resumed.rows == 10  # each row once
    np.testing.assert_array_equal(found.log_w, expected.log_w)
    np.testing.assert_array_equal(found.kl, expected.kl)
    again = Paper()
    assert again.score(x, samples=5, kept=tmp_path).nll() == expected.nll()
    assert again.rows == 0


def test_other_pictures_samples_or_weights_are_scored_anew(tmp_path: Path) -> None:
    x = np.zeros((3, 2, 2, 1), np.uint8)
    Paper().score(x, samples=5, kept=tmp_path)
    for pictures, samples, graphs in ((x + 255, 5, ["a", "b"]), (x, 6, ["encoder", "decoder"]), (x, 5, ["a", "b"])):
        model = Paper()
        model.graphs = graphs
        model.score(pictures.astype(np.uint8), samples=samples, kept=tmp_path)
        assert model.rows == 3
