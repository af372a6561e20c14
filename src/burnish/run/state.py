"""What a run must know of its past to go on: its state beside the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from burnish.config import TrainConfig
from burnish.errors import ConfigError
from burnish.train.fit import Step


@dataclass(frozen=True)
class RunState:
    """The micro-batch budget that the run has come to, the best held-out loss of trained weights and its
    step, evaluations since then, and steps just skipped in a row. Each checkpoint holds it.

    Which rows come next, the rate and the random numbers follow from the step.
    """

    micro_batch_tokens: int
    best_loss: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0
    skipped_steps: int = 0

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether to stop early: after ``patience`` evaluations without a better loss. None: never."""
        return patience is not None and self.evaluations_since_best >= patience

    def after(self, step: Step) -> RunState:
        """The state once a step was taken or skipped."""
        skipped_steps = self.skipped_steps + 1 if step.skipped else 0
        return replace(self, micro_batch_tokens=step.micro_batch_tokens, skipped_steps=skipped_steps)

    def evaluated(self, figures: dict[str, Any], step: int) -> tuple[RunState, bool]:
        """The state with the evaluation after ``step``, and whether that was the best so far."""
        loss = figures.get("held_out_loss", math.nan)
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            return replace(self, best_loss=loss, best_step=step, evaluations_since_best=0), True
        return replace(self, evaluations_since_best=self.evaluations_since_best + 1), False


def keeps_best(settings: TrainConfig, held_out: int) -> bool:
    """Whether a run ends with the weights of the best held-out loss, and keeps their checkpoint. Raises
    ``ConfigError`` where that is to be judged by and no row is held out."""
    best = settings.final == "best" or (settings.final == "auto" and bool(settings.early_stopping))
    if (best or settings.early_stopping) and not held_out:
        raise ConfigError(
            "train.early_stopping or train.final=best is set, but no rows are held out to judge by",
            fix="Raise data.held_out_share, or name a file in data.held_out.",
        )
    return best
