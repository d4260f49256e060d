"""The lessons in small: what they measure is what they say."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training.__main__ import main
from training.lessons import optimisers, regularisation
from training.lessons.optimisers import report as optimisers_page
from training.lessons.optimisers.descent import Method, Problem, adam, best, descend, momentum, plain
from training.lessons.regularisation import report as regularisation_page
from training.reporting.plane import Plane, crossings


def bowl(curvatures: tuple[float, ...] = (1.0,), rows: int = 4) -> Problem:
    """(w - row)^2 * curvature / 2, so that everything about the way down is known; the rows' mean is 0."""
    x = torch.linspace(-1, 1, rows)
    by = torch.tensor(curvatures)

    def loss(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        return ((parameters[0] - x[:, None]).square() * by / 2).sum(1).mean()

    return Problem(start=lambda: [torch.ones(len(curvatures))], loss=loss, x=x, y=x)


def method(rows: int | None = None, *, epochs: int = 10, **changes: object) -> Method:
    return replace(
        Method(name="m", rows=rows, epochs=epochs, rates=(0.1,), optimiser=plain),
        **changes,  # type: ignore[arg-type]
    )


def test_gradient_descent_goes_the_way_that_arithmetic_says() -> None:
    trace = descend(bowl((1.0, 3.0)), method(), 0.1, seed=0, every_step=True)
    assert trace.path[0] == (1.0, 1.0)
    assert trace.path[-1] == pytest.approx((0.9**10, 0.7**10), rel=1e-5)
    assert trace.steps == list(range(11))
    assert trace.seen == [4 * step for step in range(11)]


def test_momentum_is_polyaks_heavy_ball() -> None:
    trace = descend(bowl(), method(optimiser=momentum), 0.1, seed=0, every_step=True)
    w, v = 1.0, 0.0
    for _ in range(10):
        v = 0.9 * v + w
        w -= 0.1 * v
    assert trace.path[-1] == pytest.approx((w,), rel=1e-5)


def test_adams_first_step_is_its_rate_whatever_the_slope() -> None:
    trace = descend(bowl((1.0, 1000.0)), method(optimiser=adam), 0.1, seed=0, every_step=True)
    assert trace.path[1] == pytest.approx((0.9, 0.9), rel=1e-5)


def test_every_row_is_seen_once_per_epoch_and_runs_repeat_themselves() -> None:
    one = descend(bowl(rows=6), method(2, epochs=3), 0.1, seed=5)
    again = descend(bowl(rows=6), method(2, epochs=3), 0.1, seed=5)
    assert (one.seen[-1], one.steps[-1]) == (18, 9)
    assert one.losses == again.losses
    assert one.losses != descend(bowl(rows=6), method(2, epochs=3), 0.1, seed=6).losses


def test_a_run_that_leaves_for_good_is_told_apart_and_never_chosen() -> None:
    lost = descend(bowl(), method(epochs=1000), 3.0, seed=0)
    assert lost.end == float("inf")
    fine = descend(bowl(), method(), 0.1, seed=0)
    assert best([lost, fine]) is fine


def test_the_optimisers_page_claims_what_its_traces_say(tmp_path: Path) -> None:
    net = optimisers.small_net(rows=64)
    methods = [
        replace(m, epochs=8 if m.rows is None else 1, rates=m.rates[1:3], rows=m.rows and min(m.rows, 16))
        for m in optimisers.METHODS
    ]
    traces = optimisers.compare(net, methods)
    two = optimisers.two_weights()
    paths = optimisers.compare(two, [replace(m, epochs=3) for m in methods], every_step=True)
    level = 2.0
    chosen = [best(of_method) for of_method in traces]
    there = [(t, i) for t in chosen if (i := t.first_below(level)) is not None]
    said = optimisers_page.winners(chosen, level)
    if there:
        fewest = min(there, key=lambda entry: entry[0].seen[entry[1]])[0].method.name
        assert f"with the fewest rows by {fewest}," in said[0]
    assert min(chosen, key=lambda t: t.losses[-1]).method.name in said[-1]
    path = optimisers_page.write(
        optimisers_page.Comparison(
            traces=traces, paths=paths, surface=two, ranges=optimisers.SURFACE, level=level, net=optimisers.NET
        ),
        tmp_path / "page",
    )
    page = path.read_text(encoding="utf-8")
    for name in ("full-batch", "SGD, one row", "mini-batches", "momentum", "Adam"):
        assert name in page
    assert said[-1] in page
    assert "<script" not in page


def test_the_two_weights_have_their_lowest_loss_near_the_net_that_made_the_rows() -> None:
    two = optimisers.two_weights()
    plane = Plane(x_range=(-4.5, 4.5), y_range=(-6, 8), x_label="w1", y_label="w2")
    w1, w2 = plane.grid(57)
    loss = two.loss([torch.from_numpy(np.stack([w1, w2], axis=-1)).float()], two.x, two.y).numpy()
    at = np.unravel_index(loss.argmin(), loss.shape)
    assert (w1[at], w2[at]) == pytest.approx((1, 4), abs=0.8)


@pytest.mark.slow
def test_the_remedies_are_measured_on_rows_of_their_own_and_named_by_what_they_did(tmp_path: Path) -> None:
    test = regularisation.draw(2000, torch.Generator().manual_seed(9))
    found = [regularisation.contest(test, seed=seed, rows=40, epochs=20) for seed in (0, 1)]
    names = [entry.name for entry in found[0].entries]
    assert names == ["nothing", "early stopping", "weight decay", "dropout"]
    nothing, stopped = found[0].entries[:2]
    assert stopped.epochs[-1] == nothing.epochs[int(np.argmin(nothing.held))]
    assert stopped.held[-1] == min(nothing.held)
    means = {e.name: np.mean([c.entries[i].test_loss for c in found]) for i, e in enumerate(found[0].entries)}
    said = regularisation_page.claim(found, test.least)
    better, _, worse = said.partition("; no better: ")
    for name in names[1:]:
        assert (name in better) == (means[name] < means["nothing"])
        assert (name in worse) == (means[name] >= means["nothing"])
    path = regularisation_page.write(
        regularisation_page.Lesson(contests=found, least=test.least, setting="Few rows.", test_rows=2000), tmp_path
    )
    assert said in path.read_text(encoding="utf-8")


def test_the_rule_itself_has_the_loss_that_its_probabilities_have() -> None:
    rows = regularisation.draw(20_000, torch.Generator().manual_seed(1))
    p = rows.p.double()
    entropy = float((torch.special.entr(p) + torch.special.entr(1 - p)).mean())
    assert rows.least == pytest.approx(entropy, abs=0.01)


def test_lessons_are_subcommands_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert {"optimisers", "regularisation"} <= set(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["optimisers", "--help"])
    assert "runs/optimisers" in capsys.readouterr().out


def test_contours_of_a_cone_are_circles() -> None:
    xs = np.linspace(-2, 2, 81)
    cone = np.hypot(*np.meshgrid(xs, xs))
    segments = crossings(cone, 1.25, xs, xs)
    radii = [float(np.hypot(*end)) for segment in segments for end in segment]
    assert len(segments) > 100
    assert radii == pytest.approx([1.25] * len(radii), abs=2e-3)
    length = sum(float(np.hypot(a[0] - b[0], a[1] - b[1])) for a, b in segments)
    assert length == pytest.approx(2 * np.pi * 1.25, rel=1e-3)


@pytest.mark.slow  # half a minute on one core
@pytest.mark.parametrize("lesson", [optimisers, regularisation])
def test_a_whole_lesson_runs_and_prints_its_findings(
    lesson: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lesson.run(Namespace(to=str(tmp_path))) == 0  # type: ignore[attr-defined]
    assert str(tmp_path / "index.html") in capsys.readouterr().out
