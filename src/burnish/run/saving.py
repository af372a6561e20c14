"""A run's steps written down, its state saved, and the checkpoint chosen whose weights it ends with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

from burnish.data import Source
from burnish.errors import RunError
from burnish.run.folder import RunFolder
from burnish.run.open import OpenRun
from burnish.run.screen import Screen
from burnish.run.state import RunState
from burnish.train import checkpoint
from burnish.train.checkpoint import Checkpoint
from burnish.train.fit import Step
from burnish.train.optimizer import MasterAdamW

NAMED = 8
"""Rows of a step that is not taken that are named on the screen."""


def record_step(run: OpenRun, step: Step, state: RunState, source: Callable[[int], Source]) -> RunState:
    """Write down a step, and say what was unusual in it; ``source``: where a row of the token table comes
    from. Returns the state of the run after it."""
    row = {"kind": "train", **asdict(step)}
    del row["rows"]
    if not step.skipped:
        del row["skipped"]
    row |= {key: None for key in ("loss", "grad_norm") if not math.isfinite(row[key])}  # JSON has no nan
    if step.skipped:
        sources = [source(number) for number in step.rows]
        row["rows"] = [asdict(place) for place in sources]
        named = " ".join(map(str, sources[:NAMED])) + (" ..." if len(sources) > NAMED else "")
        run.screen.warn(
            f"Step {step.step} was not taken: {step.skipped}. Its {len(sources)} rows: {named}"
            f" (all of them in metrics.jsonl)."
        )
    run.journal.metric(row)
    if step.micro_batch_tokens < state.micro_batch_tokens:
        run.screen.warn(
            f"Memory ran out: micro-batches have {step.micro_batch_tokens:,} tokens from here on."
        )
    return state.after(step)


def step_in_words(step: Step, state: RunState) -> str:
    """What a step measured, for the line of progress."""
    if step.skipped:
        return f"not taken: {step.skipped}"
    held_out = "" if state.best_loss is None else f"  held out {state.best_loss:.3f}"
    speeds = f"{step.tokens / step.seconds:,.0f} tokens/s, {step.trained_tokens / step.seconds:,.0f} trained"
    return f"loss {step.loss:.3f}{held_out}  {speeds}"


def save_state(
    run: OpenRun, optimizer: MasterAdamW, step: int, state: RunState, *, keep: int, keeps_best: bool
) -> None:
    """Write the checkpoint of ``step``; the newest ``keep`` stay, and where it ``keeps_best`` the best one.
    All ranks must call it."""
    tensors = optimizer.state(keep=run.ranks.first)
    if run.ranks.first:
        run.journal.flush()
        also_keep = state.best_step if keeps_best else None
        checkpoint.save(run.folder.checkpoints, tensors, step, asdict(state), keep, also_keep=also_keep)


def final_checkpoint(folder: RunFolder, done: int, best: RunState | None, screen: Screen) -> Checkpoint:
    """The checkpoint whose weights are taken: that of the last step ``done``, or with ``best`` the one with
    the best held-out loss. Raises ``RunError`` where the last one is damaged."""
    last = checkpoint.intact(folder.checkpoints / checkpoint.name(done))
    if last is None:
        raise RunError(
            f"the checkpoint of step {done} is damaged: its contents are not those that were just written",
            fix="Check the disk, then go on with --resume.",
        )
    if best is None:
        return last
    if best.best_loss is None:
        screen.warn("No evaluation gave a finite held-out loss: the last weights are taken.")
        return last
    found = checkpoint.intact(folder.checkpoints / checkpoint.name(best.best_step))
    if found is None:
        screen.warn(
            f"The best held-out loss, {best.best_loss:.3f}, was that of step {best.best_step}, but its "
            "checkpoint is damaged: the last weights are taken."
        )
        return last
    screen.say(f"The best held-out loss, {best.best_loss:.3f}, was that of step {found.step}.")
    return found
