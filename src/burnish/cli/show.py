"""burnish show"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from burnish.cli.options import Data, File, MaxLength, Model, Settings, config_of
from burnish.numbers import plural

if TYPE_CHECKING:
    from burnish.cli.terminal import Terminal
    from burnish.prepare.show import ShownExample
    from burnish.tokens.view import ViewedToken

LEARNT, PARTLY, GIVEN = "black on green", "black on cyan", "dim"


def show(
    file: File = None,
    data: Data = None,
    model: Model = None,
    max_length: MaxLength = None,
    rows: Annotated[int, typer.Option(metavar="N", help="How many rows, from the first.")] = 3,
    row: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A row by its number, from 1; repeatable.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page in which each token says what it is; a new file."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="An object a line for each example.")] = False,
    set_: Settings = None,
) -> None:
    """See the tokens of some rows, the trained ones marked.

    Reads the tokenizer, not the weights. Exits with 1 where a shown row breaks a law.
    """
    from burnish.cli.terminal import Terminal, out
    from burnish.errors import ConfigError
    from burnish.prepare.show import show as recipe

    if html and (html.exists() or html.is_symlink()):
        raise ConfigError(
            f"{html} exists already",
            why="A page never overwrites what is there.",
            fix="Give --html another name, or remove the file.",
        )
    config = config_of(file, data, set_, model=model, max_length=max_length)
    shown, _ = recipe(config, row or (), rows)
    examples = [example for item in shown for example in item.examples]
    errors = [item for item in shown if item.error]
    if json_:
        for example in examples:
            out(json.dumps(example.as_row(), ensure_ascii=False))
    if html:
        from burnish.report.tokens_page import write_tokens_page

        write_tokens_page(html, [(example.source, example.tokens) for example in examples])
    terminal = Terminal(errors=json_)
    if not json_ and not html:
        draw_legend(terminal)
    for item in shown:
        if item.error:
            terminal.line(f"\n{item.error.what}", "bold red")
            for name, text in (("why", item.error.why), ("fix", item.error.fix)):
                terminal.line(f"  {name}  {text}")
        elif not json_ and not html:
            for example in item.examples:
                draw_example(example, terminal)
            for note in (*item.notes, *([item.fate] if item.fate else [])):
                terminal.line(f"  {note}", "yellow")
    if html:
        terminal.line(f"{plural(len(examples), 'example')} on {html}")
    if errors:
        raise typer.Exit(1)


def draw_legend(terminal: Terminal) -> None:
    if terminal.in_colour:
        styles = [(" trained ", LEARNT), (" trained with another weight ", PARTLY), (" given ", GIVEN)]
        terminal.spans([*styles, ("↵ is a line break", "")])
    else:
        terminal.line("⟦trained⟧, with another weight ⟦0.5:trained⟧, the rest is given; ↵ is a line break")


def draw_example(example: ShownExample, terminal: Terminal) -> None:
    """Message by message, a quiet line for each, the trained tokens marked."""
    from burnish.tokens.view import by_message

    terminal.line()
    for part in by_message(example.tokens):
        first = part[0]
        name = first.role if first.message is None else f"{first.role}, message {first.message + 1}"
        terminal.line(f"── {name}", "cyan dim" if terminal.in_colour else "")
        terminal.spans(_coloured(part) if terminal.in_colour else [(_plain(part), "")])
    counts = f"{example.trained:,} of {plural(len(example.tokens), 'token')} trained"
    terminal.line(f"{counts}  {example.source}", "bold")


def _shown(token: ViewedToken) -> str:
    return token.text.replace("\n", "↵\n")


def _coloured(tokens: Sequence[ViewedToken]) -> list[tuple[str, str]]:
    def style(token: ViewedToken) -> str:
        if not token.trained:
            return GIVEN
        return LEARNT if token.weight == 1 else PARTLY

    return [(_shown(token), style(token)) for token in tokens]


def _plain(tokens: Sequence[ViewedToken]) -> str:
    """Runs of trained tokens between brackets, with their weight where it is not 1."""
    from itertools import groupby

    parts = []
    for (trained, weight), run in groupby(tokens, key=lambda t: (t.trained, t.weight if t.trained else 0)):
        text = "".join(map(_shown, run))
        parts.append(f"⟦{'' if weight == 1 else f'{weight:g}:'}{text}⟧" if trained else text)
    return "".join(parts)
