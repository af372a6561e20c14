"""burnish pretrain"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import Settings


def pretrain(
    corpus: Annotated[Path, typer.Option(metavar="FILE", help="A .jsonl prose corpus with a text a row.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the model.")],
    held_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prose to measure bits per byte on.")
    ] = None,
    set_: Settings = None,
) -> None:
    """Make pebble, the embedded base, anew.

    From a seed and a prose corpus; called again after a stop, it goes on from its last checkpoint.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.config import PretrainConfig, build_config
    from burnish.recipes.pretrain import pretrain as recipe

    screen = TerminalScreen()
    given = {"corpus": str(corpus), "out": str(out), "held_out": str(held_out) if held_out else None}
    measured = recipe(build_config(PretrainConfig, None, set_ or [], **given), screen=screen)
    for name, value in measured.items():
        screen.say(f"{name:24} {value:,.4f}")
