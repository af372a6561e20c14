"""burnish quickstart"""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def quickstart(
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of LoRA.")] = False,
    out: Annotated[str, typer.Option(help="The run folder to write.")] = "runs/quickstart",
    seed: Annotated[int, typer.Option(help="Seed of the batch order and the adapter.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a config key.")] = None,
) -> None:
    """Watch a base model become an assistant.

    Offline, in about three minutes on two cores: pebble, the embedded base, is fine-tuned and measured
    before and after.
    """
    from burnish.cli.outcome import show_outcome
    from burnish.cli.screen import TerminalScreen
    from burnish.recipes.quickstart import quickstart as recipe
    from burnish.recipes.quickstart import quickstart_config

    screen = TerminalScreen()
    config = quickstart_config(out, full=full, seed=seed, overrides=set_ or [])
    run = recipe(config, screen=screen, command=" ".join(["burnish", *sys.argv[1:]]))
    show_outcome(run, screen.console)
