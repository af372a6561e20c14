"""Rules on the figures of ``evaluation.json``: what was gained, what was forgotten, and the limit."""

from __future__ import annotations

import math

from burnish.diagnose.finding import Finding, percent
from burnish.diagnose.measured import Measured

Interval = tuple[float, float]


def prose_forgotten(measured: Measured) -> Finding | None:
    """Loss on other text than the rows: a warning from 0.03 nats more than the base's, a problem from 0.1.

    e^0.1 = 1.105: each token of ordinary text is a tenth less likely than before. Below 0.03, 3 %, a
    reader would not notice.
    """
    both = measured.both("prose_loss")
    if both is None or both[1] - both[0] <= 0.03:
        return None
    rise = both[1] - both[0]
    return Finding(
        "The model has forgotten some of its general language",
        "problem" if rise > 0.1 else "warning",
        f"Loss on {_text_of(measured)} rose by {rise:.3f} nats a token, from {both[0]:.3f} to {both[1]:.3f}: "
        f"each token is {percent(math.exp(rise) - 1)} more surprising.",
        "The weights moved further than the new task needed.",
        "Lower train.learning_rate, train fewer epochs, use a smaller adapter.rank, or mix general text in.",
    )


def prose_kept(measured: Measured) -> Finding | None:
    """Good where the loss on other text than the rows rose by at most 0.03 nats."""
    both = measured.both("prose_loss")
    if both is None or both[1] - both[0] > 0.03:
        return None
    return Finding(
        "General language is kept",
        "good",
        f"Loss on {_text_of(measured)} changed by {both[1] - both[0]:+.3f} nats a token, "
        f"from {both[0]:.3f} to {both[1]:.3f}.",
        "The change was small enough to leave what the base does otherwise in place.",
    )


def _text_of(measured: Measured) -> str:
    return str(measured.base.get("prose_of") or "other text")


def facts_forgotten(measured: Measured) -> Finding | None:
    """Facts stated in plain text: a warning from 3 points fewer, a problem where intervals lie apart.

    Three points are about the half-width of a 95 % interval for a thousand facts.
    """
    both = measured.both("cloze_accuracy")
    if both is None or both[0] - both[1] <= 0.03:
        return None
    apart = _apart(_interval(measured, "cloze_accuracy"))
    return Finding(
        "The model has forgotten facts",
        "problem" if apart else "warning",
        f"Facts completed in plain text{_of(measured, 'cloze_facts')}: {percent(both[0])} before, "
        f"{percent(both[1])} after.",
        "The weights moved further than the new task needed.",
        "Lower train.learning_rate, train fewer epochs, or use a smaller adapter.rank.",
    )


def accuracy_rose(measured: Measured) -> Finding | None:
    """Good where the accuracy on held-out questions rose and the 95 % intervals do not overlap."""
    both = measured.both("held_out_accuracy")
    if both is None or both[1] <= both[0] or not _apart(_interval(measured, "held_out_accuracy")):
        return None
    return Finding(
        "The model answers more unseen questions right than the base",
        "good",
        _accuracy_in_words(measured, *both),
        "It has learned the form of a question and its answer; the facts it had from the base.",
    )


def accuracy_fell(measured: Measured) -> Finding | None:
    """A problem where the accuracy fell and the 95 % intervals do not overlap."""
    both = measured.both("held_out_accuracy")
    if both is None or both[1] >= both[0] or not _apart(_interval(measured, "held_out_accuracy")):
        return None
    return Finding(
        "The model answers fewer questions right than the base",
        "problem",
        _accuracy_in_words(measured, *both),
        "Too strong a training, or rows that teach another form or wrong answers.",
        "Lower train.learning_rate, train fewer epochs, and read some of the training rows.",
    )


def accuracy_flat(measured: Measured) -> Finding | None:
    """A warning where the intervals overlap, below 90 %: above that there is little left to gain."""
    both = measured.both("held_out_accuracy")
    intervals = _interval(measured, "held_out_accuracy")
    if both is None or intervals is None or _apart(intervals) or both[1] >= 0.9:
        return None
    return Finding(
        "Training made no sure difference to unseen questions",
        "warning",
        _accuracy_in_words(measured, *both) + " The 95 % intervals overlap.",
        "Too little training, too few questions to tell, or the base answers them as well already.",
        "Train longer or at a higher train.learning_rate, or measure with more questions.",
    )


def knows_more_than_it_says(measured: Measured) -> Finding | None:
    """A warning where answered questions lie over 10 points below facts completed in plain text.

    The two sets of facts need not be the same, so a smaller gap says little.
    """
    answered, known = measured.tuned.get("held_out_accuracy"), measured.tuned.get("cloze_accuracy")
    if answered is None or known is None or known - answered <= 0.1:
        return None
    return Finding(
        "The model knows more than it answers",
        "warning",
        f"It completes {percent(known)} of the facts in plain text, but answers {percent(answered)} of "
        "the held-out questions.",
        "The facts are there; the way from a question to them is not fully learned.",
        "Add rows with more ways to ask, train longer, or at a higher train.learning_rate.",
    )


def knows_little(measured: Measured) -> Finding | None:
    """The limit: a warning where the base completes under half of the facts in plain text."""
    known = measured.base.get("cloze_accuracy")
    if known is None or known >= 0.5:
        return None
    return Finding(
        "What the base does not know, fine-tuning does not add",
        "warning",
        f"Facts that the base completes in plain text{_of(measured, 'cloze_facts')}: {percent(known)}.",
        "Supervised fine-tuning teaches the form of an answer, not new facts; "
        "trained to state what it does not know, a model learns to guess.",
        "Give the facts with the question (retrieval), or take a base that knows them.",
    )


def _accuracy_in_words(measured: Measured, before: float, after: float) -> str:
    intervals = _interval(measured, "held_out_accuracy")
    spans = [f" ({percent(low)} to {percent(high)})" for low, high in intervals or ()] or ["", ""]
    return (
        f"Held-out questions answered right{_of(measured, 'held_out_questions')}: "
        f"{percent(before)}{spans[0]} before, {percent(after)}{spans[1]} after."
    )


def _of(measured: Measured, name: str) -> str:
    total = measured.base.get(name) or measured.tuned.get(name)
    return f" (of {total:,})" if total else ""


def _interval(measured: Measured, name: str) -> tuple[Interval, Interval] | None:
    both = measured.both(f"{name}_interval")
    return None if both is None else ((both[0][0], both[0][1]), (both[1][0], both[1][1]))


def _apart(intervals: tuple[Interval, Interval] | None) -> bool:
    if intervals is None:
        return False
    before, after = intervals
    return before[1] < after[0] or after[1] < before[0]
