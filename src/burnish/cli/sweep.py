"""burnish sweep"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.options import Settings


def sweep(
    base: Annotated[str, typer.Argument(metavar="CONFIG", help="A run's config, YAML; or quickstart.")],
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUES", help="A key and its values, a.b=value,value; repeatable."),
    ] = None,
    set_: Settings = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder for all runs and the table.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print sweep.json in place of the table.")] = False,
) -> None:
    """Run every combination of some values, and compare what they gave.

    The same command goes on where a sweep was stopped. Exits with 1 where a run failed.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.cli.terminal import out as print_line
    from burnish.run.screen import SilentScreen
    from burnish.sweep.combinations import plan_sweep
    from burnish.sweep.sweep import document, run_sweep
    from burnish.sweep.table import gathered, text_table

    screen = TerminalScreen()
    folder = out or Path("sweeps") / Path(base).stem
    asked = plan_sweep(base, over or [], set_ or [], folder)
    results = run_sweep(asked, SilentScreen() if json_ else screen, shlex.join(["burnish", *sys.argv[1:]]))
    if json_:
        print_line(json.dumps(document(asked, results), indent=2, ensure_ascii=False))
    else:
        width = screen.terminal.width if screen.terminal.interactive else None
        screen.say(f"\n{text_table(gathered(results), width)}")
        screen.say(f"\nLook:  {asked.page}")
    if any(result.state == "failed" for result in results):
        raise typer.Exit(1)
