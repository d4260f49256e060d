"""Watching a generator: whether it collapses, learns nothing, or the discriminator has won."""

from __future__ import annotations

from typing import Any, Final

PATIENCE: Final = 3  # measurements in a row
FALLEN: Final = 0.5  # of the best recall so far
LEAST_RECALL: Final = 0.05  # below it nothing has been learned, and there is nothing to fall from
LEAST_STEPS: Final = 2000  # digits take as many: before that nothing is in vain
LEAST_ROWS: Final = 50  # held out; the shares of fewer change by chance
FIRST: Final = 0.3  # share of the run by which some recall must have come, and the discriminator's lead be caught up
WON: Final = (
    0.98  # share of pairs whose real picture gets the higher score; half of them where nothing tells them apart
)


class CollapseWatch:
    """Told what each epoch measured, it says when going on is in vain. All of its state is `state()`."""

    def __init__(self) -> None:
        self.best_recall = 0.0
        self.fallen = self.late = self.won = 0
        self.reason: str | None = None

    def see(self, *, recall: float, told_apart: float, progress: float, steps: int, rows: int) -> str | None:
        """Why to stop, in words, or None.

        Args:
            recall: share of held-out rows that lie among the generated pictures.
            told_apart: share of pairs of which the discriminator gives the real one the higher score.
            progress: share of the run that is over.
            steps: how many that is.
            rows: how many are held out.
        """
        self.best_recall = max(self.best_recall, recall)
        if rows < LEAST_ROWS:
            return None
        trained, due = self.best_recall >= LEAST_RECALL, progress >= FIRST and steps >= LEAST_STEPS
        self.fallen = self.fallen + 1 if trained and recall < FALLEN * self.best_recall else 0
        self.late = self.late + 1 if due and not trained else 0
        self.won = self.won + 1 if due and told_apart >= WON else 0
        if self.fallen >= PATIENCE:
            self.reason = (
                f"mode collapse: held-out recall {recall:.3f}, best {self.best_recall:.3f}, for {PATIENCE} epochs"
            )
        elif self.late >= PATIENCE:
            self.reason = (
                f"nothing learned: held-out recall {recall:.3f}, best {self.best_recall:.3f}, after {steps:,} steps"
            )
        elif self.won >= PATIENCE:
            self.reason = (
                f"the discriminator has won: it tells {100 * told_apart:.1f} % of pairs apart, for {PATIENCE} epochs"
            )
        return self.reason

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
