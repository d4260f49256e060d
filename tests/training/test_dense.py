"""Dense nets for tables, against scikit-learn, the closed form and arithmetic by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from app.core.manifest.table import CategoryColumn, NumberColumn, Table
from training.families.tabular.ensemble import Schedule, Setting, Task, learn
from training.networks.dense import Coding, Dense, Layout, date_coding, date_parts

NAN = float("nan")
LONG = Schedule(steps=400, lr=0.1)
PLAIN = Layout(numbers=(0, 1), categories=(), missing=())


def points(classes: int, *, rows: int = 60) -> tuple[Tensor, Tensor]:
    """Rows of two numbers of different sizes, and labels that overlap."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(rows) % classes
    z = torch.randn(rows, 2, generator=generator) + torch.stack([y * 1.0, (y == 1) * 1.5], dim=1)
    return z * torch.tensor([3.0, 0.01]) + torch.tensor([100.0, 5.0]), y


def everything(rows: int) -> Tensor:
    return torch.ones(1, rows, dtype=torch.bool)


@pytest.mark.parametrize("classes", [2, 3])
def test_without_hidden_layers_it_is_logistic_regression(classes: int) -> None:
    x, y = points(classes)
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    task = Task(layout=PLAIN, classes=classes)
    nets, _ = learn(x, y, everything(len(y)), [Setting(decay=0.5), Setting(decay=4.0)], task, seed=0, schedule=LONG)
    for i, decay in enumerate((0.5, 4.0)):
        theirs = LogisticRegression(C=1 / decay, tol=1e-10, max_iter=1000).fit(z, y.numpy()).predict_proba(z)
        assert np.abs(nets(x)[i].exp().numpy() - theirs).max() < 1e-3


def test_without_hidden_layers_it_is_ridge_regression() -> None:
    x, label = points(3)
    y = (x[:, 0] + 200 * x[:, 1] + label).float()
    nets, _ = learn(
        x, y, everything(len(y)), [Setting(decay=2.0)], Task(layout=PLAIN, classes=0), seed=0, schedule=LONG
    )
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double()
    centred = (y - y.mean()).double()
    w = torch.linalg.solve(z.T @ z + 2.0 * torch.eye(2), z.T @ centred)
    assert torch.allclose(nets(x)[0, :, 0].double(), y.mean() + z @ w, atol=2e-3 * float(y.std()))


def test_the_spread_is_learnt_without_touching_the_value() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(800, 1, generator=generator)
    y = 10 + (1 + 4 * x[:, 0]) * torch.randn(800, generator=generator)
    task = Task(layout=Layout(numbers=(0,), categories=(), missing=()), classes=0)
    nets, _ = learn(x, y, everything(800), [Setting(decay=1.0)], task, seed=0, schedule=LONG)
    low, high = nets(torch.tensor([[0.1], [0.9]]))[0, :, 1].tolist()
    # ln(1 + 4 x) is not linear in x, so near is all that a log-linear spread can be.
    assert low == pytest.approx(1.4, rel=0.35)
    assert high == pytest.approx(4.6, rel=0.25)


def test_rows_are_coded_as_by_hand() -> None:
    table = Table(
        columns=(
            NumberColumn(kind="number", name="a", low=0, high=9, missing=True),
            CategoryColumn(kind="category", name="b", categories=("p", "q", "r"), missing=True),
            NumberColumn(kind="number", name="c", low=0, high=9),
        )
    )
    coding = Coding(Layout.of(table), nets=2)
    x = torch.tensor([[1.0, 0.0, 7.0], [3.0, NAN, 7.0], [NAN, 2.0, 7.0], [100.0, 1.0, 9.0]])
    learns = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 1]])
    coding.standardise(x, learns)
    coded = coding(x)
    assert coded.shape == (2, 4, 7)
    # The first net: a has mean 2 and deviation 1 among 1 and 3; c is constant there, so its scale is 1.
    assert coded[0].tolist() == [
        [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        [98.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0],
    ]
    assert coded[1, 0].tolist() == pytest.approx([-1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0])


def test_nets_learnt_together_are_those_learnt_alone() -> None:
    x, y = points(3)
    generator = torch.Generator().manual_seed(3)
    learns = torch.rand(4, len(y), generator=generator) < 0.7
    task, short = Task(layout=PLAIN, classes=3), Schedule(steps=30, lr=0.05)
    together, _ = learn(x, y, learns, [Setting(decay=1.0), Setting(decay=9.0)], task, seed=0, schedule=short)
    alone, _ = learn(x, y, learns[:1], [Setting(decay=1.0)], task, seed=0, schedule=short)
    assert torch.allclose(together(x)[0], alone(x)[0], atol=1e-5)
    assert torch.equal(together.take(4, 2)(x), together(x)[4:6])


def test_rows_that_a_net_does_not_learn_from_change_nothing() -> None:
    x, y = points(2)
    learns = (torch.arange(len(y)) < 40)[None]
    task, short = Task(layout=PLAIN, classes=2), Schedule(steps=40, lr=0.05)
    first, curve = learn(x, y, learns, [Setting(widths=(5,))], task, seed=0, schedule=short)
    other_x, other_y = x.clone(), y.clone()
    other_x[40:], other_y[40:] = 3 * other_x[40:], 1 - other_y[40:]
    second, _ = learn(other_x, other_y, learns, [Setting(widths=(5,))], task, seed=0, schedule=short)
    assert torch.equal(first(x), second(x))
    assert len(curve.held) == len(curve.train) == len(curve.step)
    assert curve.train[-1] < curve.train[0]


def test_large_tables_are_learnt_in_batches() -> None:
    x, y = points(2, rows=300)
    small = Schedule(steps=150, lr=0.05, batch=50)
    task = Task(layout=PLAIN, classes=2)
    batches, _ = learn(x, y, everything(300), [Setting(decay=1.0)], task, seed=0, schedule=small)
    whole, _ = learn(x, y, everything(300), [Setting(decay=1.0)], task, seed=0, schedule=LONG)
    assert (batches(x).exp() - whole(x).exp()).abs().max() < 0.05
    assert Schedule.for_rows(100_000).batch < 2048
    assert Schedule.for_rows(100_000).steps > 1000


def test_depth_is_free() -> None:
    generator = torch.Generator().manual_seed(0)
    for widths in ((), (3,), (3, 4, 5, 6)):
        net = Dense(PLAIN, nets=2, widths=widths, outputs=3, generator=generator)
        assert net(torch.zeros(5, 2)).shape == (2, 5, 3)
        assert len(net.weights) == len(widths) + 1


def test_a_date_has_its_weekday_season_and_hour() -> None:
    offset = 19_000.0
    whens = [datetime(2022, 3, 1, 6, tzinfo=UTC) + timedelta(days=37 * i) for i in range(30)]
    days = torch.tensor(
        [[(when - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(days=1) - offset] for when in whens] + [[NAN]]
    )
    found = date_coding(days, offset, True)
    assert found.shape == (31, len(date_parts(True)))
    assert found[:-1, :7].argmax(1).tolist() == [when.weekday() for when in whens]
    assert (found[:-1, :7].sum(1) == 1).all()
    assert torch.allclose(found[:-1, 9:], torch.tensor([1.0, 0.0]).expand(30, 2), atol=1e-2)  # six in the morning
    day_of_year = torch.tensor([2 * math.pi * when.timetuple().tm_yday / 365.2425 for when in whens])
    assert torch.allclose(found[:-1, 7:9], torch.stack([day_of_year.sin(), day_of_year.cos()], 1), atol=0.03)
    assert (found[-1] == 0).all()
    layout = Layout(numbers=(0,), categories=(), missing=(0,), dates=((0, offset, True),))
    coded = Coding(layout, nets=1)(days)
    assert coded.shape == (1, 31, layout.width)
