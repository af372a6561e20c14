"""Rules on the data that went in."""

from __future__ import annotations

from burnish.diagnose.finding import Finding, percent
from burnish.diagnose.measured import Measured
from burnish.numbers import plural, ranges
from burnish.run.journal import missing_steps

DROPPED = ("too long", "rejected", "nothing to learn")


def rows_dropped(measured: Measured) -> Finding | None:
    """Rows that could not be used: a warning from 5 % of those read, a problem from 25 %.

    Duplicates do not count: leaving them out loses nothing.
    """
    counts = measured.counts
    read, dropped = counts.get("read", 0), {fate: counts.get(fate, 0) for fate in DROPPED}
    share = sum(dropped.values()) / read if read else 0.0
    if share <= 0.05:
        return None
    fates = ", ".join(f"{count:,} {fate}" for fate, count in dropped.items() if count)
    most = max(dropped, key=dropped.__getitem__)
    return Finding(
        "Many rows were left out",
        "problem" if share > 0.25 else "warning",
        f"{percent(share)} of {read:,} rows: {fates}.",
        "The model is trained on what is left, which may be another mix than the data was meant to be.",
        "Raise tokens.max_length, or split long rows."
        if most == "too long"
        else "Mend the rows that the ledger lists.",
    )


def trained_too(measured: Measured) -> Finding | None:
    """A warning where rows of ``data.held_out`` are trained too, or begin with a prompt that is: from 1 % of
    those that are measured. None of the former is measured."""
    counts = measured.counts
    measured_rows, also = counts.get("held out", 0), counts.get("also trained", 0)
    asked = measured.summary.get("held_out_with_a_trained_prompt", 0)
    if also + asked <= 0.01 * (measured_rows + also):
        return None
    return Finding(
        "Rows that were meant to be held out are trained",
        "warning",
        f"Of {measured_rows + also:,} rows of data.held_out, {also:,} are trained too, and {asked:,} begin "
        "with a prompt that is.",
        "The files overlap. The former are left out of all figures; the latter are measured, and look better "
        "than unseen rows would.",
        "Take these rows out of one of the files: ledger.jsonl names the former.",
    )


def much_cut(measured: Measured) -> Finding | None:
    """Tokens to be learnt that the limit on length cost: a warning from 10 %, a problem from 30 %."""
    summary = measured.summary
    lost, kept = summary.get("lost_trained_tokens", 0), summary.get("trained_tokens", 0)
    share = lost / (lost + kept) if lost else 0.0
    if share <= 0.1:
        return None
    cut = measured.counts.get("cut", 0)
    return Finding(
        "Much of the data did not fit",
        "problem" if share > 0.3 else "warning",
        f"{percent(share)} of the tokens to be learnt were lost to the limit on length.",
        "The model is trained on the short part of the data"
        + (f", and {cut:,} rows end in the middle of an answer." if cut else "."),
        "Raise tokens.max_length, set tokens.too_long: split, or take a base with more positions.",
    )


def steps_missing(measured: Measured) -> Finding | None:
    """A warning where training steps before the last one written have no line in the metrics."""
    last = max((row["step"] for row in measured.metrics), default=0)
    missing = missing_steps(measured.metrics, last)
    if not missing:
        return None
    return Finding(
        "Steps are missing from the metrics",
        "warning",
        f"{len(missing):,} of {plural(last, 'step')} have no line in metrics.jsonl: {ranges(missing)}.",
        "The file was emptied or cut while the run was stopped. Curves, times and speeds are of the other "
        "steps only; the weights are those of all steps.",
        "Put the file back as it was and write the report again, or read the page with that in mind.",
    )


def many_epochs(measured: Measured) -> Finding | None:
    """A warning from 8 epochs on, unless the held-out loss was best at the very end.

    Repeating text up to 4 times is about as good as new text, and then worth less and less
    (Muennighoff et al. 2023, arXiv:2305.16264). They pretrain; for fine-tuning we allow twice that.
    """
    train, held_out = measured.train, measured.held_out
    epochs = train[-1]["epoch"] if train else 0.0
    improving = len(held_out) > 2 and min(held_out, key=lambda row: row["loss"]) is held_out[-1]
    if epochs <= 8 or improving:
        return None
    rows = measured.counts.get("trained")
    return Finding(
        "The data set is small for so many steps",
        "warning",
        f"{len(train):,} steps went over the {f'{rows:,} ' if rows else ''}trained rows {epochs:.1f} times.",
        "Rows seen that often are learnt by heart rather than learnt from.",
        "Add rows, or lower train.epochs.",
    )
