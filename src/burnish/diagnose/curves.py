"""Rules on the loss curves.

Single steps are noisy, so the rules compare means over stretches of steps. A stretch is a tenth of the
run, and at least three steps.
"""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from statistics import fmean, median
from typing import Any

from burnish.diagnose.finding import Finding, Severity, percent
from burnish.diagnose.measured import Measured

FEWEST_STEPS = 10
"""With fewer steps, the first and the last stretch say nothing of a trend."""


def not_finite(measured: Measured) -> Finding | None:
    """Any loss that is not a number is a problem: the step was not taken, or the weights were broken."""
    broken = [row for row in measured.metrics if row["loss"] is None or not math.isfinite(row["loss"])]
    if not broken:
        return None
    skipped = [row for row in broken if row.get("skipped")]
    if len(skipped) == len(broken):
        return Finding(
            "Steps were left out",
            "warning",
            f"{len(skipped)} steps were not taken, the first at step {skipped[0]['step']}: "
            f"{skipped[0]['skipped']}.",
            "The rate is too high, or some rows give no finite loss. No weight was harmed.",
            "Lower train.learning_rate; metrics.jsonl names the rows of each such step.",
        )
    return Finding(
        "The loss is not a number",
        "problem",
        f"At step {broken[0]['step']} the loss was {broken[0]['loss']}.",
        "The weights overflowed, or a row gave no finite loss.",
        "Lower train.learning_rate; look for broken rows in the data.",
    )


def not_falling(measured: Measured) -> Finding | None:
    """A problem where the loss ended less than 2 % below its beginning.

    Even a strong base falls by more than that within some ten steps, as it picks up the template and
    the style. The held-out loss counts where there is one (it is the same rows each time); else the
    first and last stretch of training steps. Nothing is said where the loss rose by 2 % or more: other
    rules speak of that.
    """
    found = _first_and_last(measured)
    if found is None:
        return None
    which, first, last = found
    if not 0.98 * first < last < 1.02 * first:
        return None
    rate = max((row["learning_rate"] for row in measured.train), default=None)
    at_rate = f", over {len(measured.train)} steps at a learning rate of at most {rate:g}" if rate else ""
    return Finding(
        "The loss did not fall",
        "problem",
        f"{which} loss was {first:.3f} at first and {last:.3f} at the end{at_rate}.",
        "The learning rate is too low, or the training too short, to change the model.",
        "Raise train.learning_rate (try three times as much), or train.epochs.",
    )


def _first_and_last(measured: Measured) -> tuple[str, float, float] | None:
    held_out, train = measured.held_out, measured.train
    if len(held_out) > 1 and held_out[0]["step"] == 0:
        return "The held-out", held_out[0]["loss"], held_out[-1]["loss"]
    if len(train) >= FEWEST_STEPS:
        stretch = _stretch(train)
        return "The training", _mean(train[:stretch]), _mean(train[-stretch:])
    return None


def held_out_fell(measured: Measured) -> Finding | None:
    """Good where the held-out loss ended at least 2 % below the base's and within 2 % of its best."""
    losses = [row["loss"] for row in measured.held_out]
    if len(losses) < 2 or losses[-1] > 0.98 * losses[0] or losses[-1] > 1.02 * min(losses):
        return None
    return Finding(
        "What was learned carries over to rows that were not trained",
        "good",
        f"Held-out loss fell from {losses[0]:.3f} to {losses[-1]:.3f} nats a token, "
        f"by {percent(1 - losses[-1] / losses[0])}.",
        "The model expects answers of this kind better, not only the trained rows.",
    )


def overfit(measured: Measured) -> Finding | None:
    """Held-out loss above its best at the end: a warning from 2 %, a problem from 10 %.

    The same rows are measured each time, so 2 % is no noise of sampling. Where the training loss did
    not fall meanwhile, it is no overfitting and ``diverging`` speaks.
    """
    held_out = measured.held_out
    if len(held_out) < 2:
        return None
    best, last = min(held_out, key=lambda row: row["loss"]), held_out[-1]
    rise = last["loss"] / best["loss"] - 1 if best["loss"] else 0.0
    if rise < 0.02 or not _train_fell_since(measured, best["step"]):
        return None
    where = f"step {best['step']}" if best["step"] else "step 0, before training"
    return Finding(
        "The model overfits: held-out loss rises while training loss falls",
        "problem" if rise >= 0.1 else "warning",
        f"Held-out loss was best at {where} ({best['loss']:.3f}) and ended at {last['loss']:.3f}, "
        f"{percent(rise)} higher, at step {last['step']}.",
        "It learns the trained rows by heart: too many epochs, too high a learning rate, or too few rows.",
        "Stop earlier (train.early_stopping: 1, or fewer train.epochs), lower train.learning_rate, "
        "or add different rows.",
    )


def _train_fell_since(measured: Measured, step: int) -> bool:
    train = measured.train
    stretch = _stretch(train)
    before = [row for row in train if row["step"] <= step][-stretch:] or train[:stretch]
    return len(train) >= 2 and _mean(train[-stretch:]) < _mean(before)


def diverging(measured: Measured) -> Finding | None:
    """A problem where the last stretch's training loss is over 1.25 times that of the best stretch, and
    the rise is more than four standard errors of a difference of such means: batches of mixed rows
    scatter, and the best of many stretches is low by luck."""
    train = measured.train
    if len(train) < 2 * FEWEST_STEPS:
        return None
    stretch = _stretch(train)
    sums = [0.0, *accumulate(row["loss"] for row in train)]
    means = [(sums[end] - sums[end - stretch]) / stretch for end in range(stretch, len(sums))]
    best = min(range(len(means)), key=means.__getitem__)
    luck = 4 * _scatter(train) * math.sqrt(2 / stretch)
    if means[-1] <= max(1.25 * means[best], means[best] + luck):
        return None
    return Finding(
        "Training diverged: its loss rose again",
        "problem",
        f"The mean training loss over {stretch} steps was {means[best]:.3f} from step "
        f"{train[best]['step']} on and {means[-1]:.3f} at the end{_steepest(train)}.",
        "The learning rate is too high for this model.",
        "Lower train.learning_rate (try a third), or lengthen train.warmup.",
    )


def spikes(measured: Measured) -> Finding | None:
    """Steps with a loss over 1.5 times the highest of the ten before them.

    A warning; a problem where they are three or more and at least one step in a hundred. To compare
    with the highest, not the mean, keeps noisy small batches silent: with losses spread by half of
    their mean, 1.5 times the highest of ten is some three standard deviations up. Silent where
    ``diverging`` speaks.
    """
    train = measured.train
    found = [
        row
        for i, row in enumerate(train)
        if i >= 10 and row["loss"] > 1.5 * max(earlier["loss"] for earlier in train[i - 10 : i])
    ]
    if not found or diverging(measured):
        return None
    highest = max(found, key=lambda row: row["loss"])
    severity: Severity = "problem" if len(found) >= max(3, len(train) / 100) else "warning"
    return Finding(
        "The training loss spikes",
        severity,
        f"{len(found)} of {len(train)} steps had a loss over 1.5 times the highest of the ten before; "
        f"the worst is step {highest['step']} with {highest['loss']:.3f}{_steepest(train)}.",
        "Now and then a step is too large, or a batch holds odd rows.",
        "Lower train.learning_rate or train.max_grad_norm; look at the rows of those steps.",
    )


def _scatter(train: list[dict[str, Any]]) -> float:
    """The spread of a step's loss around its trend, from the differences of neighbours: their median
    size is 0.954 of the standard deviation, if they are normal, and takes no notice of a trend or a spike."""
    jumps = [abs(float(after["loss"]) - float(before["loss"])) for before, after in pairwise(train)]
    return median(jumps) / 0.954


def _steepest(train: list[dict[str, Any]]) -> str:
    norms = [row["grad_norm"] for row in train if row.get("grad_norm") is not None]
    return f"; the gradient norm went up to {max(norms):.2f}" if norms else ""


def _stretch(train: list[dict[str, Any]]) -> int:
    return max(3, len(train) // 10)


def _mean(rows: list[dict[str, Any]]) -> float:
    return fmean(row["loss"] for row in rows)
