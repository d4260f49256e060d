"""Prefix beam search for connectionist temporal classification (CTC), a step at a time.

Graves et al. 2006 give the model: a path has a label or the blank at each step; a labelling is what is left of a path
after merging equal neighbours and removing blanks. Its probability is the sum over its paths. The search (Hannun et
al. 2014, arXiv:1408.2873, algorithm 1, without a language model) keeps the likeliest labellings of the steps so far,
here called prefixes, each with the probability of its paths that end in a blank and of those that end in its last
label: only after a blank does the same label count twice.

Beside the sums goes each prefix's likeliest single path, which says when its tokens were.
"""

from __future__ import annotations

from math import exp, inf, log, log1p
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.core.decoding.tokens import REACH, History, Hypothesis, Partial, Token

LEAST: Final = log(1e-5)
WIDTH: Final = 16


class _Path(NamedTuple):
    """The likeliest path of a prefix, and its tokens' steps: (start, end) of all but the last, and the last's."""

    log_probability: float
    done: tuple[tuple[int, int], ...] = ()
    start: int = 0
    end: int = 0


_NO_PATH: Final = _Path(-inf)


class _Prefix(NamedTuple):
    """Labels behind the stable ones; the logs of the sums over their paths that end in a blank, over those that end in
    the last label, and over both; and the likeliest path of either kind."""

    labels: tuple[int, ...]
    blank: float
    label: float
    total: float
    by_blank: _Path
    by_label: _Path

    @property
    def path(self) -> _Path:
        return self.by_label if self.by_label[0] > self.by_blank[0] else self.by_blank

    @property
    def times(self) -> tuple[tuple[int, int], ...]:
        path = self.path
        return (*path.done, (path.start, path.end)) if self.labels else ()

    @property
    def first(self) -> tuple[int, int]:
        return _first(self.path)

    def without(self, first: int) -> _Prefix:
        """Without its first labels."""
        paths = (path._replace(done=path.done[first:]) for path in (self.by_blank, self.by_label))
        return _Prefix(self.labels[first:], self.blank, self.label, self.total, *paths)


def _first(path: _Path) -> tuple[int, int]:
    return path[1][0] if path[1] else (path[2], path[3])


class Beam:
    """A search that is fed steps as they come; how they are divided into pieces does not matter.

    Args:
        width: prefixes kept.
        n: hypotheses in the result, at most.
        least: a label is not tried in steps where its log probability is lower.
        settle: steps after which the past is decided: what the likeliest prefix says of it becomes stable, prefixes
            that say something else are dropped, and memory stays bounded. None: all is decided at the end.
    """

    def __init__(self, *, width: int = WIDTH, n: int = 5, least: float = LEAST, settle: int | None = None) -> None:
        if width < 1 or n < 1:
            raise ValueError(f"width {width}, n {n}: expected 1 at least")
        if settle is not None and settle < REACH:
            raise ValueError(f"settle {settle}: expected {REACH} at least, the steps that a token's probability needs")
        self._width, self._n, self._least, self._settle = width, n, least, settle
        self._stable: list[Token] = []
        self._history = History()
        self._prefixes = [_Prefix((), 0.0, -inf, 0.0, _Path(0.0), _NO_PATH)]  # likeliest first
        self._earliest = 0  # no token of any path that is not stable ends before this step

    def feed(self, log_probabilities: NDArray[Any]) -> Partial:
        """Steps (K, V + 1), the blank last; K may be 0."""
        for row in np.asarray(log_probabilities, np.float64):
            self._step(row)
            if self._settle is not None:
                self._decide(self._history.end - self._settle)
        if self._settle is not None:
            self._forget()
        return Partial(self._tokens(self._prefixes[0]), len(self._stable))

    def finish(self) -> list[Hypothesis]:
        """The likeliest hypotheses, best first: at least one. `feed` may not be called again."""
        shares = np.array([prefix.total for prefix in self._prefixes])
        shares -= np.logaddexp.reduce(shares)
        best = zip(self._prefixes[: self._n], shares.tolist(), strict=False)
        return [Hypothesis(self._tokens(prefix), share) for prefix, share in best]

    def _step(self, row: NDArray[np.float64]) -> None:
        """In plain Python: of 16 prefixes and some tens of labels, arrays cost more than they save."""
        t, prefixes, p = self._history.end, self._prefixes, row.tolist()
        self._history.add(row)
        by_blank_only = p[-1]
        tried = np.flatnonzero(row[:-1] >= self._least).tolist()
        is_tried = set(tried)
        before = self._stable[-1].label if self._stable else -1
        place = {prefix.labels: i for i, prefix in enumerate(prefixes)}

        # The same prefix again. Where the one that is shorter by a label is in the beam, what it would grow to is here.
        grown: set[tuple[int, int]] = set()
        shorter: dict[int, _Prefix] = {}
        scores, sums = [], []
        for i, (labels, _, label, total, _, _) in enumerate(prefixes):
            by_blank, by_label = total + by_blank_only, -inf
            last = labels[-1] if labels else before
            if label > -inf:
                by_label = label + p[last]
            if labels and last in is_tried and (j := place.get(labels[:-1])) is not None:
                via = shorter[i] = prefixes[j]
                grown.add((j, last))
                repeats = (via.labels[-1] if via.labels else before) == last
                by_label = _sum(by_label, (via.blank if repeats else via.total) + p[last])
            sums.append((by_blank, by_label))
            scores.append(_sum(by_blank, by_label))

        # Longer by one label, which is the last one only after a blank; none that has no room beside those above.
        kept = [(-score, i, -1) for i, score in enumerate(scores) if score > -inf]
        least = min(scores) if len(prefixes) == self._width else -inf
        likeliest = sorted(((p[k], at, k) for at, k in enumerate(tried)), reverse=True)
        for i, (labels, blank, _, total, _, _) in enumerate(prefixes):
            last = labels[-1] if labels else before
            begin = len(prefixes) + i * len(tried)
            for q, at, k in likeliest:
                if (score := total + q) < least:
                    break
                if k == last:
                    score = blank + q
                if score > -inf and (i, k) not in grown:
                    kept.append((-score, begin + at, k))
        if not kept:  # a step in which nothing is possible says nothing
            return
        kept.sort()
        self._prefixes = []
        for negative, i, k in kept[: self._width]:
            if k < 0:
                prefix, (by_blank, by_label) = prefixes[i], sums[i]
                paths = _same(prefix, shorter.get(i), before, p, t)
                self._prefixes.append(_Prefix(prefix.labels, by_blank, by_label, -negative, *paths))
            else:
                prefix = prefixes[(i - len(prefixes)) // len(tried)]
                path = _longer(prefix, k, before, p[k], t)
                self._prefixes.append(_Prefix((*prefix.labels, k), -inf, -negative, -negative, _NO_PATH, path))

    def _decide(self, horizon: int) -> None:
        """Make stable what the likeliest prefix has before step `horizon`, and drop prefixes that differ there."""
        if horizon < self._earliest:
            return
        paths = (path for prefix in self._prefixes if prefix.labels for path in (prefix.by_blank, prefix.by_label))
        ends = (_first(path)[1] for path in paths if path.log_probability > -inf)
        self._earliest = min(ends, default=self._history.end)
        if all(not prefix.labels or prefix.first[1] > horizon for prefix in self._prefixes):
            return
        best = self._prefixes[0]
        count = sum(end <= horizon for _, end in best.times)
        self._stable = self._tokens(best)[: len(self._stable) + count]
        kept = []
        for prefix in self._prefixes:
            if prefix.labels[:count] == best.labels[:count]:
                rest = prefix.without(count)
                if not rest.labels or rest.first[1] > horizon:
                    kept.append(rest)
        self._prefixes = kept

    def _forget(self) -> None:
        """Drop the steps before the first token that is not stable: on either path, for the other may lead later."""
        paths = (path for prefix in self._prefixes if prefix.labels for path in (prefix.by_blank, prefix.by_label))
        starts = (path.done[0][0] if path.done else path.start for path in paths if path.log_probability > -inf)
        self._history.forget(min(starts, default=self._history.end) - REACH)

    def _tokens(self, prefix: _Prefix) -> list[Token]:
        """The stable tokens, and those of a prefix."""
        tokens, times = list(self._stable), prefix.times
        starts = [*(start for start, _ in times[1:]), self._history.end]
        for label, (start, end), following in zip(prefix.labels, times, starts, strict=False):
            after = tokens[-1].end if tokens else 0
            tokens.append(self._history.token(label, start, end, after=after, before=following))
        return tokens


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a + log1p(exp(b - a)) if b > -inf else a


def _same(prefix: _Prefix, shorter: _Prefix | None, before: int, p: list[float], t: int) -> tuple[_Path, _Path]:
    """The paths of the prefix after step t, at which it did not grow, or grew from the shorter one that is in the beam
    as well."""
    best, by_label = prefix.path, prefix.by_label
    last = prefix.labels[-1] if prefix.labels else before
    by_blank = _Path(best[0] + p[-1], best[1], best[2], best[3])
    if by_label[0] > -inf:
        by_label = _Path(by_label[0] + p[last], by_label[1], by_label[2], t + 1)
    if shorter is not None:
        grown = _longer(shorter, last, before, p[last], t)
        by_label = grown if grown[0] > by_label[0] else by_label
    return by_blank, by_label


def _longer(prefix: _Prefix, label: int, before: int, p: float, t: int) -> _Path:
    """The likeliest path that adds a label to the prefix at step t."""
    labels = prefix.labels
    path = prefix.by_blank if label == (labels[-1] if labels else before) else prefix.path
    done = (*path[1], (path[2], path[3])) if labels else ()
    return _Path(path[0] + p, done, t, t + 1)
