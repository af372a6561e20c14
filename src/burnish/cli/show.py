"""burnish show"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.numbers import plural

if TYPE_CHECKING:
    from rich.console import Console

    from burnish.prepare.show import ShownExample
    from burnish.tokens.view import ViewedToken

LEARNT, PARTLY, GIVEN = "black on green", "black on cyan", "dim"


def show(
    source: Annotated[Path, typer.Argument(help="A .jsonl file of rows, or a run's config, YAML.")],
    model: Annotated[str | None, typer.Option(help="A model folder, a Hub id, or pebble.")] = None,
    rows: Annotated[int, typer.Option(help="How many rows, from the first.")] = 3,
    row: Annotated[list[int] | None, typer.Option(help="A row by its number, from 1; repeatable.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page in which tokens tell of themselves.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="An object a line for each example.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a config key: a.b=value.")] = None,
) -> None:
    """See the tokens of some rows, the trained ones marked.

    Reads the tokenizer, not the weights. Exits with 1 where a shown row breaks a law.
    """
    from rich.console import Console

    from burnish.config import load_config
    from burnish.prepare.show import show as recipe

    given: dict[str, Any] = {"model.name": model}
    is_config = source.suffix in (".yaml", ".yml")
    if not is_config:
        given["data.train"] = [str(source)]
    config = load_config(source if is_config else None, set_ or [], **{k: v for k, v in given.items() if v})
    shown, _ = recipe(config, row or (), rows)
    examples = [example for item in shown for example in item.examples]
    errors = [item for item in shown if item.error]
    if json_:
        for example in examples:
            sys.stdout.write(json.dumps(example.as_row(), ensure_ascii=False) + "\n")
    if html:
        from burnish.report.tokens_page import write_tokens_page

        write_tokens_page(html, [(example.source, example.tokens) for example in examples])
    console = Console(highlight=False, stderr=json_)
    if not json_ and not html:
        draw_legend(console)
    for item in shown:
        if item.error:
            console.print(f"\n{item.error.what}", style="bold red", markup=False, soft_wrap=True)
            for name, text in (("why", item.error.why), ("fix", item.error.fix)):
                console.print(f"  {name}  {text}", markup=False, soft_wrap=True)
        elif not json_ and not html:
            for example in item.examples:
                draw_example(example, console)
            for note in (*item.notes, *([item.fate] if item.fate else [])):
                console.print(f"  {note}", style="yellow", markup=False, soft_wrap=True)
    if html:
        console.print(f"{plural(len(examples), 'example')} on {html}", markup=False, soft_wrap=True)
    if errors:
        raise typer.Exit(1)


def draw_legend(console: Console) -> None:
    from rich.text import Text

    if _in_colour(console):
        legend = Text().append(" trained ", LEARNT)
        legend.append(" trained with another weight ", PARTLY)
        legend.append(" given ", GIVEN)
        console.print(legend.append("↵ is a line break"))
    else:
        words = "⟦trained⟧, with another weight ⟦0.5:trained⟧, the rest is given; ↵ is a line break"
        console.print(words, soft_wrap=True)


def draw_example(example: ShownExample, console: Console) -> None:
    """Message by message, a quiet line for each, the trained tokens marked."""
    from rich.text import Text

    from burnish.tokens.view import by_message

    console.print()
    for part in by_message(example.tokens):
        first = part[0]
        name = first.role if first.message is None else f"{first.role}, message {first.message + 1}"
        console.print(Text(f"── {name}", style="cyan dim" if _in_colour(console) else ""))
        text = _coloured(part) if _in_colour(console) else Text(_plain(part))
        console.print(text, soft_wrap=True)
    counts = f"{example.trained:,} of {plural(len(example.tokens), 'token')} trained"
    console.print(f"{counts}  {example.source}", style="bold", markup=False, soft_wrap=True)


def _in_colour(console: Console) -> bool:
    return bool(console.is_terminal and console.color_system)


def _shown(token: ViewedToken) -> str:
    return token.text.replace("\n", "↵\n")


def _coloured(tokens: Sequence[ViewedToken]) -> Any:
    from rich.text import Text

    text = Text()
    for token in tokens:
        style = GIVEN if not token.trained else LEARNT if token.weight == 1 else PARTLY
        text.append(_shown(token), style)
    return text


def _plain(tokens: Sequence[ViewedToken]) -> str:
    """Runs of trained tokens between brackets, with their weight where it is not 1."""
    from itertools import groupby

    parts = []
    for (trained, weight), run in groupby(tokens, key=lambda t: (t.trained, t.weight if t.trained else 0)):
        text = "".join(map(_shown, run))
        parts.append(f"⟦{'' if weight == 1 else f'{weight:g}:'}{text}⟧" if trained else text)
    return "".join(parts)
