"""burnish quickstart"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of LoRA.")] = False,
    out: Annotated[str, typer.Option(help="The run folder to write.")] = "runs/quickstart",
    seed: Annotated[int, typer.Option(help="Seed of the batch order and the adapter.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a config key.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the quickstart in this folder.")] = None,
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
            raise ConfigError("--resume goes with no other option", why="A run goes on exactly as it began.")
        config = load_config(RunFolder(resume).require_run().config, out=str(resume))
    else:
        config = quickstart_config(out, full=full, seed=seed, overrides=set_ or [])
    command = " ".join(["burnish", *sys.argv[1:]])
    run = recipe(config, screen=screen, resume=resume is not None, command=command).folder
    show_outcome(run, screen.console)
