"""burnish quickstart"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import Settings

FOLDER = Path("runs/quickstart")


def quickstart(
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of LoRA.")] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The run folder to write; unset: runs/quickstart, or the next that is free.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the order of the rows and the adapter.")] = 0,
    set_: Settings = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Go on with the quickstart in this folder.")
    ] = None,
) -> None:
    """Watch a base model become an assistant.

    Offline, in about three minutes on two cores: pebble, the embedded base, is fine-tuned and measured
    before and after.
    """
    from burnish.cli.outcome import show_outcome
    from burnish.cli.screen import TerminalScreen
    from burnish.config import load_config
    from burnish.errors import ConfigError
    from burnish.recipes.quickstart import quickstart as recipe
    from burnish.recipes.quickstart import quickstart_config
    from burnish.run.folder import RunFolder

    screen = TerminalScreen()
    if resume is not None:
        if full or set_:
            raise ConfigError(
                "--resume goes with no other option",
                why="A run goes on exactly as it began; a change would make it another run.",
                fix=f"Type: {shlex.join(['burnish', 'quickstart', '--resume', str(resume)])}",
            )
        config = load_config(RunFolder(resume).require_run().config, out=str(resume))
    else:
        config = quickstart_config(out or str(_free_folder()), full=full, seed=seed, overrides=set_ or [])
    command = shlex.join(["burnish", *sys.argv[1:]])
    run = recipe(config, screen=screen, resume=resume is not None, command=command).folder
    show_outcome(run, screen.terminal)


def _free_folder() -> Path:
    """runs/quickstart, or the first with a number behind it that is not there yet."""
    if "RANK" in os.environ:  # of several ranks one has made the folder before another looks
        return FOLDER
    folder, number = FOLDER, 1
    while folder.exists() or folder.is_symlink():
        number += 1
        folder = FOLDER.with_name(f"{FOLDER.name}-{number}")
    return folder
