"""The verbs of the command line, and how they are found."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import Abort, TyperException
from typer.main import get_command

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
from burnish.cli.terminal import complain, out

MEANT = {
    "sft": "train",
    "finetune": "train",
    "fine-tune": "train",
    "tune": "train",
    "resume": "train --resume RUN",
    "ask": "generate",
    "infer": "generate",
    "validate": "check",
    "inspect": "show",
}
"""Words that other programs have for a verb."""

app = typer.Typer(
    name="burnish",
    help="Fine-tuning that can be trusted: turn a base language model into an assistant, and see the proof.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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
def options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    if version:
        from burnish import __version__

        out(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        out(context.get_help())


def run() -> int:
    """Run the command that was typed, and return its exit code: 2 where it is no command."""
    try:
        return get_command(app)(prog_name="burnish", standalone_mode=False) or 0
    except TyperException as error:
        _explain_usage(error)
        return error.exit_code
    except Abort:  # the end of what is typed, where more was asked for
        return 1


def _explain_usage(error: TyperException) -> None:
    context: typer.Context | None = getattr(error, "ctx", None)
    verb = MEANT.get(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
    command = context.command_path if context else "burnish"
    complain(f"error: {error.format_message()}")
    complain(f"  fix: Type: burnish {verb}" if verb else f"  fix: Type: {command} --help")
