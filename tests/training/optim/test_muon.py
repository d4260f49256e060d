"""Muon against linear algebra that is known otherwise."""

from __future__ import annotations

import pytest
import torch

from training.optim.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_singular_values_are_brought_near_one_and_singular_vectors_kept(shape: tuple[int, int]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    result = orthogonalise(g, steps=5)
    inside = u.T @ result @ vh.T
    # The quintic's fixed band is about [0.7, 1.2] (source of the coefficients); off the diagonal nothing may appear.
    assert torch.all((inside.diagonal() > 0.6) & (inside.diagonal() < 1.3))
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-9)


def test_a_step_turns_the_filters_along_the_gradient_and_fixes_their_norm() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1)))
    direction = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    weight.grad = direction.clone()
    before = weight.detach().clone()
    Muon([weight], lr=1e-3).step()
    normed = before * (2.0 / before.norm())  # sqrt of four filters
    moved = (weight.detach() - normed).flatten()
    assert moved @ direction.flatten() < 0
    assert moved.norm() == pytest.approx(1e-3 * 2, rel=0.4)  # four singular values near one


def test_memory_format_changes_nothing() -> None:
    start = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(3))
    gradient = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(4))
    results = []
    for form in (torch.contiguous_format, torch.channels_last):
        weight = torch.nn.Parameter(start.clone().contiguous(memory_format=form))
        weight.grad = gradient.clone().contiguous(memory_format=form)
        optimiser = Muon([weight], lr=0.1)
        optimiser.step()
        optimiser.step()
        results.append(weight.detach())
    assert torch.allclose(results[0], results[1], atol=1e-6)


def test_the_norm_is_left_free_where_it_is_not_held() -> None:
    weight = torch.nn.Parameter(torch.full((4, 3, 1, 1), 5.0))
    weight.grad = torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(5))
    before = weight.detach().clone()
    Muon([weight], lr=1e-3, hold_norm=False).step()
    assert float((weight.detach() - before).norm()) == pytest.approx(1e-3 * 3**0.5, rel=0.4)  # three singular values
