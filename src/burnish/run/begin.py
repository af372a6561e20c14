"""A run folder begun, or put in order for a run that goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from burnish.config import RunConfig
from burnish.errors import RunError
from burnish.files import read_json, read_lines, write_json, write_lines, write_whole
from burnish.numbers import plural, ranges
from burnish.run.folder import RunFolder
from burnish.run.open import OpenRun
from burnish.run.state import RunState
from burnish.train import checkpoint
from burnish.train.optimizer import MasterAdamW

Rows = Iterable[dict[str, Any]]


def begin_run(
    run: OpenRun, config: RunConfig, provenance: dict[str, Any], ledger: Rows, examples: Rows
) -> None:
    """Write what is known before the first step. From here on there is a run folder to go on with."""
    if not run.ranks.first:
        return
    folder = run.folder
    folder.path.mkdir(parents=True, exist_ok=True)
    run.journal.clear()
    settings = config.model_dump(mode="json")
    write_whole(folder.config, yaml.safe_dump(settings, sort_keys=False).encode())
    write_lines(folder.ledger, ledger)
    write_lines(folder.examples, examples)
    write_json(folder.provenance, provenance)


def resume_run(
    run: OpenRun,
    found: checkpoint.Found,
    provenance: dict[str, Any],
    optimizer: MasterAdamW,
    *,
    keep: int,
    keeps_best: bool,
) -> RunState:
    """Load the checkpoint that was ``found`` into the optimizer and its model, and put the folder in order as
    it was then. Returns the state of the run. Raises ``RunError`` where data, base or config are not those
    that it began with."""
    saved = found.checkpoint
    assert saved is not None
    _require_same(run.folder, provenance)
    optimizer.load(checkpoint.tensors_of(saved))
    state = RunState(**saved.state)
    run.ranks.barrier()  # for all to have read what now is put in order
    if run.ranks.first:
        for path in found.damaged:
            run.screen.warn(f"{path} is damaged: it does not hold what was written. It is removed.")
            checkpoint.remove(path)  # or it would count among those to keep
        checkpoint.prune(run.folder.checkpoints, keep, state.best_step if keeps_best else None)
    if missing := run.journal.cut_after(saved.step):
        run.screen.warn(
            f"{run.folder.metrics} lacks {len(missing):,} of {plural(saved.step, 'step')}, "
            f"{ranges(missing)}: curves, times and speeds will be of the others only."
        )
    if run.ranks.first and _lacks_base_answers(run.folder):
        run.screen.warn(
            f"{run.folder.samples} lacks the answers of the base: none will stand beside the tuned model's."
        )
    run.screen.say(f"Going on after step {saved.step}.")
    return state


def _lacks_base_answers(folder: RunFolder) -> bool:
    answered = "stopped_share" in read_json(folder.evaluation)["base"]
    return answered and not any(row["step"] == 0 for row in read_lines(folder.samples))


def _require_same(folder: RunFolder, provenance: dict[str, Any]) -> None:
    began = read_json(folder.provenance)
    changed = [key for key in ("data", "base", "config_sha256") if began[key] != provenance[key]]
    if changed:
        raise RunError(
            f"{folder.path} cannot go on: changed since it began: {', '.join(changed)}",
            why="The result would be that of no single config and data set.",
            fix="Put back what was changed, or start a new run.",
        )
