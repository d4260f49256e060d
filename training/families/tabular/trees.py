"""Boosted trees beside the nets: scikit-learn's histogram gradient boosting, one model for each fold that is left out.

The trees see a row as the graph is given it: float32 numbers, categories by their index, NaN where a value is missing.
Missing values and categories are split on as such. How many rounds are kept is chosen once for all folds, by what each
model makes of the rows that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.families.tabular.ensemble import Task
from training.families.tabular.pooling import log_probabilities
from training.metrics.classification import fit_temperature

PATIENCE: Final = 15  # rounds without a better loss on the rows left out
MOST_CATEGORIES: Final = 254  # that a split can part; a rarer one is taken as missing
FEW_ROWS: Final = 2000  # up to here 64 bins do as well as 255, in half the time
SLACK: Final = 1.005  # fewer rounds may cost so much of the loss: they answer as much sooner
SUREST: Final = 0.5  # the temperature that rounds are measured with at least
FEWEST_ROUNDS: Final = 5
TRIED_ROUNDS: Final = 30
ABSENT: Final = 1e-3  # weight of the one row that stands for a label that a fold lacks

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """One point of the trees' grid: `leaves` of a tree, `rate` of learning, `rounds` at most.

    With 300 rounds at a rate of 0.1, a table of 1,000 rows kept 1,500 trees, and had a third of the nets' answers a
    second.
    """

    leaves: int
    rate: float = 0.15
    rounds: int = 120


@dataclass(frozen=True, kw_only=True)
class Boosted:
    """The models of all folds, each cut off behind the chosen `rounds`.

    `judged`, float64 (N, O), is what each row was answered by the models that did not train on it, their mean, NaN
    where there is none; O as `Task.outputs`: raw scores before the softmax or sigmoid, or values.
    """

    setting: Boosting
    models: tuple[Any, ...]
    rounds: int
    judged: Floats

    def raw(self, x: Tensor) -> Floats:
        """(N, O): the mean of all models, by scikit-learn's own code."""
        found: Floats = np.mean([raw(model, x.numpy()) for model in self.models], axis=0)
        return found

    def judge(self, x: Tensor, judges: Tensor) -> Floats:
        """(N, O) for rows (N, F): the mean of the models that judge a row, bool (S, N)."""
        return _judged(self.models, x, judges)


def boost(x: Tensor, y: Tensor, learns: Tensor, judges: Tensor, setting: Boosting, task: Task, *, seed: int) -> Boosted:
    """Fit a model for each fold.

    Args:
        x, y: (N, F) float32 and (N,).
        learns, judges: bool (S, N), the rows that each model is trained on, and those that it is judged on.
    """
    values, target = x.numpy().astype(np.float64), y.numpy()
    for j, count in task.layout.categories:
        values[:, j] = _common(values[:, j], count)
    models = [
        _fit(values, target, learn.numpy(), judge.numpy(), setting, task, seed=seed)
        for learn, judge in zip(learns, judges, strict=True)
    ]
    rounds = _best_rounds(models, values, target, judges, task)
    for model in models:
        del model._predictors[rounds:]
    return Boosted(setting=setting, models=tuple(models), rounds=rounds, judged=_judged(models, x, judges))


def raw(model: Any, x: NDArray[np.floating[Any]]) -> Floats:
    """What one model says of rows (N, F), before the softmax: (N, O)."""
    say = getattr(model, "decision_function", model.predict)
    found: Floats = np.asarray(say(x.astype(np.float64)), np.float64).reshape(len(x), -1)
    return found


def _fit(
    values: Floats,
    target: NDArray[Any],
    learn: NDArray[np.bool_],
    judge: NDArray[np.bool_],
    setting: Boosting,
    task: Task,
    *,
    seed: int,
) -> Any:
    rows, columns = int(learn.sum()), values.shape[1]
    categories = [j for j, _ in task.layout.categories]
    wide = max([count for _, count in task.layout.categories], default=0) > 64
    options = {
        "learning_rate": setting.rate,
        "max_iter": setting.rounds,
        "max_leaf_nodes": setting.leaves,
        "min_samples_leaf": min(20, max(3, rows // 50)),
        "l2_regularization": 1.0,
        "max_features": 0.5
        if columns > 4
        else 1.0,  # trees that differ: with few columns they would miss the good ones
        "max_bins": 64 if rows <= FEW_ROWS and not wide else 255,
        "categorical_features": categories or None,
        "early_stopping": True,
        "n_iter_no_change": PATIENCE,
        "random_state": seed,
    }
    x, y, weight = values[learn], target[learn], None
    if task.classes:
        absent = np.setdiff1d(np.arange(task.classes), y)
        if len(absent):
            weight = np.concatenate([np.ones(len(y)), np.full(len(absent), ABSENT)])
            x, y = np.concatenate([x, np.repeat(x[:1], len(absent), axis=0)]), np.concatenate([y, absent])
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # a second to import

    make = HistGradientBoostingClassifier if task.classes else HistGradientBoostingRegressor
    return make(**options).fit(x, y, sample_weight=weight, X_val=values[judge], y_val=target[judge])


def _common(values: Floats, count: int) -> Floats:
    """A column of category indices (N,), the rarest NaN where there are more than a split can part."""
    if count <= MOST_CATEGORIES:
        return values
    known = values[~np.isnan(values)].astype(np.int64)
    rare = np.argsort(-np.bincount(known, minlength=count), kind="stable")[MOST_CATEGORIES:]
    return np.where(np.isin(values, rare), np.nan, values)


def _best_rounds(models: Sequence[Any], values: Floats, target: NDArray[Any], judges: Tensor, task: Task) -> int:
    """The fewest rounds with hardly more than the least loss, over the rows that the models were not trained on.

    That of labels is measured once calibrated: many rounds only make probabilities surer, as the temperature does too.
    Not of a few rounds alone, whose rows it would make so sure that a new one on the wrong side costs ten nats.
    """
    seen = [judge for judge in judges.numpy() if judge.any()]
    staged = [
        list(_staged(model, values[judge])) for model, judge in zip(models, judges.numpy(), strict=True) if judge.any()
    ]
    y = np.concatenate([target[judge] for judge in seen])
    longest = max(map(len, staged))
    spread = np.geomspace(min(FEWEST_ROUNDS, longest), longest, TRIED_ROUNDS)
    tried: list[int] = np.unique(spread.round().astype(np.int64)).tolist()
    losses = []
    for rounds in tried:
        # A model that stopped earlier stays as it was.
        scores = np.concatenate([stages[min(rounds, len(stages)) - 1] for stages in staged])
        losses.append(_loss(scores, y, task))
    return next(rounds for rounds, loss in zip(tried, losses, strict=True) if loss <= SLACK * min(losses))


def _staged(model: Any, x: Floats) -> Iterator[Floats]:
    say = getattr(model, "staged_decision_function", None) or model.staged_predict
    for found in say(x):
        yield found.reshape(len(x), -1)


def _loss(scores: Floats, y: NDArray[Any], task: Task) -> float:
    """Mean over the rows: squared error, or log-loss once calibrated, but of scores that were to be made much surer."""
    if not task.classes:
        return float(np.square(scores[:, 0] - y).mean())
    z = log_probabilities(torch.from_numpy(scores))
    temperature = max(SUREST, fit_temperature(z.numpy(), y))
    return float(F.cross_entropy(z / temperature, torch.from_numpy(y)))


def _judged(models: Sequence[Any], x: Tensor, judges: Tensor) -> Floats:
    outputs = models[0].n_trees_per_iteration_
    total, times = np.zeros((len(x), outputs)), judges.sum(0).numpy()
    for model, judge in zip(models, judges.numpy(), strict=True):
        if judge.any():
            total[judge] += raw(model, x.numpy()[judge])
    with np.errstate(invalid="ignore"):
        return np.where(times[:, None] > 0, total / times[:, None], np.nan)
