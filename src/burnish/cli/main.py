"""The program ``burnish``: finds the verb, and turns what goes wrong into words and an exit code."""

from __future__ import annotations

import sys
import warnings

import typer

from burnish.cli import (
    chat,
    check,
    generate,
    merge,
    plan,
    prepare,
    pretrain,
    quickstart,
    report,
    show,
    sweep,
    train,
)
from burnish.cli.rank import rank
from burnish.errors import BurnishError, Interrupted

app = typer.Typer(
    name="burnish",
    help="Fine-tuning that can be trusted: turn a base language model into an assistant, and see the proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    quickstart.quickstart,
    train.train,
    sweep.sweep,
    check.check,
    plan.plan,
    show.show,
    prepare.prepare,
    chat.chat,
    generate.generate,
    merge.merge,
    report.report,
    pretrain.pretrain,
):
    app.command()(verb)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("burnish"))
        raise typer.Exit


def main() -> None:
    """Exit codes: 0 done, 1 a mistake that the message explains, 2 wrong usage, 130 stopped by SIGINT, 143 by
    SIGTERM."""
    # What libraries warn of is theirs to mend; what matters in it, burnish says itself.
    warnings.filterwarnings("ignore", module="transformers|peft|torch")
    try:
        app()
    except BurnishError as error:
        _explain(error)
        sys.exit(1)
    except Interrupted as stop:
        if rank() == 0:
            sys.stderr.write(f"\n{stop}\n")
        sys.exit(128 + stop.signal)


def _explain(error: BurnishError) -> None:
    if rank() > 0:  # mostly what the first one explains too
        sys.stderr.write(f"rank {rank()}: {error.what}\n")
        return
    sys.stderr.write(f"error: {error.what}\n")
    if error.why:
        sys.stderr.write(f"  why: {error.why}\n")
    if error.fix:
        sys.stderr.write(f"  fix: {error.fix}\n")


if __name__ == "__main__":
    main()
