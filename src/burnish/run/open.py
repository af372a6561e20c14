"""A run folder that a recipe works in: locked, free or to be gone on with, its journal open."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from burnish.config import RunConfig
from burnish.data.memory import HELD_OUT_IN_MEMORY, MEMORY
from burnish.errors import ConfigError, RunError
from burnish.run.folder import RunFolder
from burnish.run.interrupt import resumable
from burnish.run.journal import Journal
from burnish.run.screen import Screen, SilentScreen
from burnish.run.track import trackers
from burnish.train.ranks import Ranks


@dataclass(frozen=True)
class OpenRun:
    """Where a recipe writes and speaks: only the first of several ``ranks`` does. ``started``: seconds since
    1970."""

    folder: RunFolder
    journal: Journal
    screen: Screen
    ranks: Ranks
    started: float


@contextmanager
def open_run(config: RunConfig, screen: Screen | None, *, resume: bool, verb: str) -> Iterator[OpenRun]:
    """Work in the folder ``config.out`` within the block, as torchrun started this process; ``verb``: of the
    command that goes on with the run.

    Raises ``ConfigError`` without a folder, ``RunError`` where another process works in it, where it is taken
    or, with ``resume``, holds no unfinished run; and ``Interrupted`` where the person stops the run.
    """
    if config.out is None:
        raise ConfigError("out is not set", why="A run needs a folder to write to.", fix="Give --out.")
    ranks, folder = Ranks.started(), RunFolder(Path(config.out))
    shown = screen if screen and ranks.first else SilentScreen()
    with ExitStack() as stack:
        if ranks.first:
            stack.enter_context(folder.locked())
        resume_command = _resume_command(config, folder, verb)
        stack.enter_context(resumable(folder.config, folder.checkpoints, resume_command))
        journal = Journal(folder, trackers(config, folder, shown)) if ranks.first else Journal(None)
        stack.callback(journal.close)
        if resume:
            _require_unfinished(folder)
        elif ranks.first:
            folder.require_free()
        yield OpenRun(folder, journal, shown, ranks, time.time())


def _resume_command(config: RunConfig, folder: RunFolder, verb: str) -> str:
    named = (config.model.name, *config.data.train, *config.data.held_out)
    if MEMORY in named or HELD_OUT_IN_MEMORY in named:
        return (
            f"sft(load_config(Path({str(folder.config)!r})), resume=True, ...) in Python, with the same rows "
            "and model handed over"
        )
    return f"burnish {verb} --resume {shlex.quote(str(folder.path))}"


def _require_unfinished(folder: RunFolder) -> None:
    folder.require_run()
    if folder.finished:
        raise RunError(
            f"{folder.path} has finished; there is nothing to go on with",
            fix="Start a new run, with another --out.",
        )
