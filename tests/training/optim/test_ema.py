"""Moving averages of weights, against their closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.optim.ema import average_of, constant_length, follow, power_function

CPU = torch.device("cpu")


def network(value: float) -> nn.BatchNorm1d:
    """Parameters and running statistics of that value, and a counter."""
    found = nn.BatchNorm1d(2)
    for tensor in found.state_dict().values():
        tensor.fill_(value)
    return found


def test_an_average_is_a_copy_that_takes_no_gradients() -> None:
    weights = network(1.0)
    average = average_of(weights, CPU)
    weights.weight.data.zero_()
    assert average.weight.tolist() == [1.0, 1.0]
    assert not any(p.requires_grad for p in average.parameters())


def test_it_follows_by_the_closed_form_with_its_statistics_and_leaves_counters() -> None:
    average, weights = average_of(network(0.0), CPU), network(3.0)
    for _ in range(5):
        follow(average, weights, constant_length(4.0, position=1000))
    expected = torch.full((2,), (1 - 0.75**5) * 3.0)
    for tensor in (average.weight, average.bias, average.running_mean, average.running_var):
        assert torch.allclose(tensor, expected)
    assert average.num_batches_tracked is not None
    assert int(average.num_batches_tracked) == 0


def test_the_first_step_forgets_nine_tenths_of_the_start() -> None:
    average = average_of(network(1.0), CPU)
    follow(average, network(0.0), constant_length(1000.0, position=0))
    assert torch.allclose(average.weight, torch.full((2,), 0.1))


def test_a_power_function_forgets_the_start_and_weighs_late_steps_in_proportion_to_the_run() -> None:
    assert power_function(7.0, position=0) == 1.0
    weights = [power_function(7.0, position=k) for k in range(100)]
    shares = [w * torch.tensor([1 - later for later in weights[k + 1 :]]).prod() for k, w in enumerate(weights)]
    assert float(sum(shares)) == pytest.approx(1.0, rel=1e-5)
    mean = float(sum(k * share for k, share in enumerate(shares))) / 100
    assert mean == pytest.approx(8 / 9, abs=0.02)  # (exponent + 1) / (exponent + 2) of the run
