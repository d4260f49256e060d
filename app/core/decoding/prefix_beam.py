"""Prefix beam search for connectionist temporal classification (CTC), a step at a time.

Graves et al. 2006 give the model: a path has a label or the blank at each step; a labelling is what is left of a path
after merging equal neighbours and removing blanks. Its probability is the sum over its paths. The search (Hannun et
al. 2014, arXiv:1408.2873, algorithm 1, without a language model) keeps the likeliest labellings of the steps so far,
here called prefixes, each with the probability of its paths that end in a blank and of those that end in its last
label: only after a blank does the same label count twice.

Beside the sums goes each prefix's likeliest single path, which says when its tokens were.
"""

from __future__ import annotations

from math import inf, log
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
    """Labels behind the stable ones, and the likeliest paths that end in a blank and in the last label."""

    labels: tuple[int, ...]
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
        path = self.path
        return path.done[0] if path.done else (path.start, path.end)

    def without(self, first: int) -> _Prefix:
        """Without its first labels."""
        paths = (path._replace(done=path.done[first:]) for path in (self.by_blank, self.by_label))
        return _Prefix(self.labels[first:], *paths)


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
        # The prefixes, likeliest first; beside them the logs of the sums over their paths.
        self._prefixes = [_Prefix((), _Path(0.0), _NO_PATH)]
        self._blank, self._label = np.zeros(1), np.full(1, -inf)

    def feed(self, log_probabilities: NDArray[Any]) -> Partial:
        """Steps (K, V + 1), the blank last; K may be 0."""
        for row in np.asarray(log_probabilities, np.float64):
            self._step(row)
            if self._settle is not None:
                self._decide(self._history.end - self._settle)
                self._forget()
        return Partial(self._tokens(self._prefixes[0]), len(self._stable))

    def finish(self) -> list[Hypothesis]:
        """The likeliest hypotheses, best first: at least one. `feed` may not be called again."""
        shares = np.logaddexp(self._blank, self._label)
        shares -= np.logaddexp.reduce(shares)
        best = zip(self._prefixes[: self._n], shares.tolist(), strict=False)
        return [Hypothesis(self._tokens(prefix), share) for prefix, share in best]

    def _step(self, row: NDArray[np.float64]) -> None:
        t, prefixes = self._history.end, self._prefixes
        self._history.add(row)
        tried = np.flatnonzero(row[:-1] >= self._least)
        labels, p = tried.tolist(), row.tolist()
        column = {label: at for at, label in enumerate(labels)}
        before = self._stable[-1].label if self._stable else -1
        last = [prefix.labels[-1] if prefix.labels else before for prefix in prefixes]

        # The same prefix again; and longer by one label, which is the last one only after a blank.
        total = np.logaddexp(self._blank, self._label)
        by_blank = total + p[-1]
        by_label = self._label + row[last]  # of none -1, the blank; then it is impossible before and after
        longer = total[:, None] + row[tried]  # (prefixes, tried)
        if again := [i for i, label in enumerate(last) if label in column]:
            longer[again, [column[last[i]] for i in again]] = self._blank[again] + row[[last[i] for i in again]]

        # Of what is longer, some is in the beam already: those paths belong to the prefix there.
        place = {prefix.labels: i for i, prefix in enumerate(prefixes)}
        shorter = {
            i: place[prefix.labels[:-1]]
            for i, prefix in enumerate(prefixes)
            if prefix.labels and prefix.labels[-1] in column and prefix.labels[:-1] in place
        }
        if shorter:
            grown, of = list(shorter), (list(shorter.values()), [column[last[i]] for i in shorter])
            by_label[grown] = np.logaddexp(by_label[grown], longer[of])
            longer[of] = -inf

        scores = np.concatenate([np.logaddexp(by_blank, by_label), longer.ravel()])
        kept = _largest(scores, self._width)
        if not kept:  # a step in which nothing is possible says nothing
            return
        self._prefixes, blanks, last_labels = [], [], []
        for i in kept:
            if i < len(prefixes):
                prefix = prefixes[i]
                via = prefixes[shorter[i]] if i in shorter else None
                self._prefixes.append(_same(prefix, via, last[i], before, p, t))
                blanks.append(by_blank[i])
                last_labels.append(by_label[i])
            else:
                j, at = divmod(i - len(prefixes), len(labels))
                path = _longer(prefixes[j], labels[at], last[j], p[labels[at]], t)
                self._prefixes.append(_Prefix((*prefixes[j].labels, labels[at]), _NO_PATH, path))
                blanks.append(-inf)
                last_labels.append(longer[j, at])
        self._blank, self._label = np.array(blanks), np.array(last_labels)

    def _decide(self, horizon: int) -> None:
        """Make stable what the likeliest prefix has before step `horizon`, and drop prefixes that differ there."""
        if all(not prefix.labels or prefix.first[1] > horizon for prefix in self._prefixes):
            return
        best = self._prefixes[0]
        count = sum(end <= horizon for _, end in best.times)
        self._stable = self._tokens(best)[: len(self._stable) + count]
        kept, places = [], []
        for i, prefix in enumerate(self._prefixes):
            if prefix.labels[:count] == best.labels[:count]:
                rest = prefix.without(count)
                if not rest.labels or rest.first[1] > horizon:
                    kept.append(rest)
                    places.append(i)
        self._prefixes, self._blank, self._label = kept, self._blank[places], self._label[places]

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


def _largest(scores: NDArray[np.float64], count: int) -> list[int]:
    """The indices of the largest scores above -inf, largest first; of equal ones the first."""
    if count < len(scores):
        some = np.argpartition(scores, len(scores) - count)[-count:]
    else:
        some = np.arange(len(scores))
    some = some[np.lexsort((some, -scores[some]))]
    kept: list[int] = some[scores[some] > -inf].tolist()
    return kept


def _same(prefix: _Prefix, shorter: _Prefix | None, last: int, before: int, p: list[float], t: int) -> _Prefix:
    """The prefix after step t, at which it did not grow, or grew from the shorter one that is in the beam as well."""
    best, by_label = prefix.path, prefix.by_label
    by_blank = _Path(best.log_probability + p[-1], best.done, best.start, best.end)
    if last >= 0:
        by_label = _Path(by_label.log_probability + p[last], by_label.done, by_label.start, t + 1)
    if shorter is not None:
        grown = _longer(shorter, last, shorter.labels[-1] if shorter.labels else before, p[last], t)
        by_label = grown if grown.log_probability > by_label.log_probability else by_label
    return _Prefix(prefix.labels, by_blank, by_label)


def _longer(prefix: _Prefix, label: int, last: int, p: float, t: int) -> _Path:
    """The likeliest path that adds a label to the prefix at step t."""
    path = prefix.by_blank if label == last else prefix.path
    done = (*path.done, (path.start, path.end)) if prefix.labels else ()
    return _Path(path.log_probability + p, done, t, t + 1)
