"""Which graphs may be published: the graphs are functions here, so that each can be wrong in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.parity import Axes, PublishError, compare, tolerance

TIME: Axes = {"x": {1: "time"}}
LONGEST = 10


class Centred(nn.Module):
    """x (B, T), length (B,) -> x minus the mean of its own steps, zeros behind them; and that mean."""

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        real = torch.arange(x.shape[1]) < length[:, None]
        mean = (x * real).sum(1) / length
        return (x - mean[:, None]) * real, mean


def inputs(rows: int = 20) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    length = torch.randint(6, LONGEST + 1, (rows,), generator=generator)
    length[0] = LONGEST
    x = torch.rand(rows, LONGEST, generator=generator) + 1
    return {"x": x * (torch.arange(LONGEST) < length[:, None]), "length": length}


Graph = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]


def graph_of(module: nn.Module) -> Graph:
    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        y, mean = module(*(torch.from_numpy(array) for array in feed.values()))
        return {"y": y.numpy(), "mean": mean.numpy()}

    return run


right = graph_of(Centred())


def test_a_graph_that_says_the_same_at_every_length_and_number_of_rows_passes() -> None:
    compared = compare(Centred(), right, inputs(), TIME, where="g.onnx")
    assert compared.difference == 0
    assert len(compared.outputs["y"]) == 20
    assert compared.sizes["mean"] == []
    (sizes,) = compared.sizes["y"]
    assert compared.lengths == {"time": sizes}
    assert {round(0.55 * LONGEST), round(0.7 * LONGEST), round(1.3 * LONGEST), LONGEST} <= set(sizes)


def test_a_difference_is_reported_with_both_figures() -> None:
    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return right(feed) | {"mean": right(feed)["mean"] + np.float32(0.01) * (feed["x"].shape[1] == 7)}

    with pytest.raises(PublishError, match=r"g\.onnx: 'mean' .* by 1\.00e-02 on 3 rows of 7 time, expected 0\.000\d+"):
        compare(Centred(), run, inputs(), TIME, where="g.onnx")


def test_a_time_axis_frozen_at_the_examples_length_is_named() -> None:
    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        found = right(feed)
        rows = len(found["y"])
        return found | {"y": np.resize(found["y"], (rows, LONGEST))}

    with pytest.raises(PublishError, match=r"axis 1 of 'y' is of another size .* 1 rows of 6 time.*\(1, 10\)"):
        compare(Centred(), run, inputs(), TIME, where="g.onnx")


def test_a_graph_that_cannot_be_run_at_another_length_is_reported_in_one_line() -> None:
    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if feed["x"].shape[1] != LONGEST:
            raise RuntimeError("\n  Invalid dimension\nand so on")
        return right(feed)

    with pytest.raises(PublishError, match=r"cannot be run on 1 rows of 6 time: Invalid dimension$"):
        compare(Centred(), run, inputs(), TIME, where="g.onnx")


class Together(nn.Module):
    """Minus the mean of all rows of a run."""

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return x - x.mean(0), length.float()


class Leaking(nn.Module):
    """The mean of all steps, those that fill the row up too."""

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.mean(1)


@pytest.mark.parametrize("axes", [TIME, {}])
def test_rows_that_depend_on_each_other_are_refused_although_torch_says_the_same(axes: Axes) -> None:
    with pytest.raises(
        PublishError, match=r"g\.onnx: row 0 of 'y' differs by .* alone.*rows \(axis 0\) depend on each"
    ):
        compare(Together(), graph_of(Together()), inputs(), axes, where="g.onnx")


def test_rows_that_depend_on_what_fills_them_up_are_refused() -> None:
    with pytest.raises(PublishError, match=r"row 2 of 'mean' differs .* or on the zeros that fill them up"):
        compare(Leaking(), graph_of(Leaking()), inputs(), TIME, where="g.onnx")
    compare(Leaking(), graph_of(Leaking()), inputs(), {}, where="g.onnx")  # of one size all rows are whole


class Counted(nn.Module):
    """As `Leaking`, but it says that only the steps before the last belong to a row."""

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        behind = torch.arange(x.shape[1]) >= length[:, None] - 1
        return x + x.mean(1, keepdim=True) * behind, length - 1


def test_steps_that_belong_to_no_row_may_differ() -> None:
    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        y, steps = graph_of(Counted())(feed).values()
        return {"y": y, "steps": steps}

    compare(Counted(), run, inputs(), TIME, where="g.onnx")
    with pytest.raises(PublishError, match="row 2 of 'y' differs"):
        compare(Counted(), graph_of(Counted()), inputs(), TIME, where="g.onnx")


class TimeFirst(nn.Module):
    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return x.T, length.sum()


@pytest.mark.parametrize(("output", "shape"), [("y", r"\(6, 1\)"), ("mean", r"\(\)")])
def test_outputs_whose_rows_are_not_on_axis_0_are_refused(output: str, shape: str) -> None:
    def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {output: graph_of(TimeFirst())(feed)[output]}

    with pytest.raises(
        PublishError, match=rf"'{output}' is {shape} for 1 rows of 6 time, expected the 1 rows on axis 0"
    ):
        compare(TimeFirst(), run, inputs(), TIME, where="g.onnx")


def test_an_axis_of_an_output_that_is_not_what_its_name_says_is_refused() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
            return x[:, ::2], length

    with pytest.raises(PublishError, match=r"'y' is \(1, 3\) for 1 rows of 6 time, its axis 1 is said to be 'time'"):
        compare(Half(), graph_of(Half()), inputs(), {**TIME, "y": {1: "time"}}, where="g.onnx")
    compare(Half(), graph_of(Half()), inputs(), {**TIME, "y": {1: "half"}}, where="g.onnx")


def test_tolerance_grows_with_the_answers_and_takes_none() -> None:
    assert tolerance([np.zeros(3), np.array([-50.0])]) == pytest.approx(5e-3)
    assert tolerance([]) == tolerance([np.zeros((2, 0))]) == pytest.approx(1e-4)
