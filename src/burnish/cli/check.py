"""burnish check"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.numbers import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from burnish.errors import BurnishError
    from burnish.prepare.check import CheckResult

BARS = " ▁▂▃▄▅▆▇█"
COLUMNS = 40
GROUPS = 12
"""Kinds of broken rows that are shown; the rest are counted."""
ROWS = 6
"""Rows named for each of them."""
LENGTH_FATES = ("shortened", "split", "cut", "too long")


def check(
    config: Annotated[Path | None, typer.Argument(help="A run's config, YAML.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="A .jsonl file of rows; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="A model folder, a Hub id, or pebble.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a config key: a.b=value.")] = None,
) -> None:
    """Prove the masks of a whole data set before training.

    Reads the tokenizer, not the weights. Exits with 1 where training would refuse the rows.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.config import load_config
    from burnish.prepare.check import check as recipe

    screen = TerminalScreen()
    given: dict[str, Any] = {"data.train": data, "model.name": model}
    settings = load_config(config, set_ or [], **{key: value for key, value in given.items() if value})
    found, template = recipe(settings, screen)
    console = screen.console
    say = _sayer(console)
    _draw_laws(found, settings.data.bad_rows == "skip", say)
    if found.examples:
        say("")
        console.print(_roles(found))
        _draw_counts(found, say)
        _draw_lengths(found, settings.tokens.too_long, say)
    noted = [f"{plural(count, 'row')}: {note}" for note, count in found.notes.most_common()]
    for title, lines in (
        ("What the template does", noted),
        ("What nothing reads", _unread(found)),
        ("Training and serving", _served(found)),
    ):
        if lines:
            console.print(f"\n{title}", style="bold")
        for line in lines:
            say(f"  {line}")
    if found.shown:
        from burnish.cli.show import draw_example, draw_legend
        from burnish.prepare.show import ShownExample

        console.print("\nExamples", style="bold")
        draw_legend(console)
        for example in found.shown:
            draw_example(ShownExample.of(example, template), console)
    rate = f"{found.rows / found.seconds:,.0f} rows/s" if found.seconds else ""
    say(f"\n{plural(found.rows, 'row')} checked in {found.seconds:.1f} s ({rate}).")
    if found.refusal:
        raise typer.Exit(1)


def _sayer(console: Console) -> Any:
    def say(text: str, style: str = "") -> None:
        console.print(text, style=style or None, markup=False, soft_wrap=True)

    return say


def _draw_laws(found: CheckResult, skips: bool, say: Any) -> None:
    """Each law with the rows that keep and break it, then every kind of fault with its rows; ``skips``: rows
    that cannot be read are left out."""
    from burnish.errors import TemplateError
    from burnish.prepare.check import LAWS

    readable = found.rows - len(found.unreadable)
    empty = found.ledger.counts["nothing to learn"]
    proven = readable - found.violating_rows - empty
    say(f"{proven:,} of {readable:,} rows proven.", "bold green" if proven == readable > 0 else "bold")
    if empty:
        say(f"  {plural(empty, 'row')}: nothing to learn")
    for law in LAWS if proven or found.violations else ():
        count = found.rows_breaking(law)
        say(f"  ✗ {law:<9}broken by {plural(count, 'row')}" if count else f"  ✓ {law}")
    if count := found.rows_breaking(""):
        say(f"  ✗ the template refuses to render {plural(count, 'row')}")
    if found.unreadable and skips:
        say(f"\n{plural(len(found.unreadable), 'row')} cannot be read, and would be left out", "bold red")
        for bad in found.unreadable[:GROUPS]:
            say(f"  {bad.error.what}")
        if len(found.unreadable) > GROUPS:
            say(f"  ... and {len(found.unreadable) - GROUPS:,} more")
    if found.refusal and not isinstance(found.refusal, TemplateError):  # of these each kind follows by itself
        say(f"\nburnish train would refuse this: {found.refusal.what}", "bold red")
        _say_what_to_do(found.refusal, say)
    for group, error in found.violations[:GROUPS]:
        say(f"\n{plural(len(group.rows), 'row')}: {group.what}", "bold red")
        rows = ", ".join(str(source) for source in group.rows[:ROWS])
        more = f" ... and {len(group.rows) - ROWS:,} more" if len(group.rows) > ROWS else ""
        say(f"  at   {rows}{more}")
        _say_what_to_do(error, say)
    if len(found.violations) > GROUPS:
        say(f"\n... and {len(found.violations) - GROUPS:,} more kinds")


def _say_what_to_do(error: BurnishError, say: Any) -> None:
    for name, text in (("why", error.why), ("fix", error.fix)):
        if text:
            say(f"  {name}  {text}")


def _roles(found: CheckResult) -> Table:
    from rich.table import Table

    table = Table(title="What is trained", title_justify="left")
    table.add_column("role")
    for column in ("messages", "turns learnt", "tokens trained"):
        table.add_column(column, justify="right")
    for role, count in found.roles.items():
        if count.messages:
            numbers = (count.messages, count.learnt, count.trained_tokens)
            table.add_row(role, *[f"{number:,}" for number in numbers])
    return table


def _draw_counts(found: CheckResult, say: Any) -> None:
    share = found.trained_tokens / found.tokens
    say(f"{found.trained_tokens:,} of {plural(found.tokens, 'token')} trained ({share:.0%})")
    if found.turns:
        say(f"{found.stops:,} of {plural(found.turns, 'learnt turn')} end in a trained stop token")


def _draw_lengths(found: CheckResult, too_long: str, say: Any) -> None:
    shares = (50, 90, 99, 100)
    words = ", ".join(f"{'longest' if s == 100 else f'{s} %'} {found.percentile(s):,}" for s in shares)
    over = int((found.lengths > found.limit).sum())
    say("\nLengths, tokens", "bold")
    say(f"  {_bars(found)}")
    say(f"  {words}; the limit is {found.limit:,}")
    ledger = found.ledger
    lengths = {fate: count for fate, count in ledger.counts.items() if fate in LENGTH_FATES and count}
    if over or lengths:
        say(f"  {plural(over, 'example')} longer than that. With tokens.too_long: {too_long}:")
        for fate, count in lengths.items():
            say(f"    {plural(count, 'row')} {fate}")
        lost, trained = ledger.lost_tokens, ledger.lost_trained
        whole = int(found.lengths.sum())
        say(f"    {lost:,} of {whole:,} tokens lost, {trained:,} of them to be learnt")


def _bars(found: CheckResult) -> str:
    """A histogram of the lengths, from 0 to the longest, counts as heights."""
    import numpy as np

    counts, _ = np.histogram(found.lengths, bins=COLUMNS, range=(0, max(int(found.lengths.max()), 1)))
    heights = np.ceil(counts / max(counts.max(), 1) * (len(BARS) - 1)).astype(int)
    return f"0 {''.join(BARS[height] for height in heights)} {int(found.lengths.max()):,}"


def _unread(found: CheckResult) -> list[str]:
    keys = found.ledger.unread.most_common()
    lines = [f"{plural(count, 'row')}: {key}" for key, count in keys[:GROUPS]]
    return lines + ([f"... {plural(len(keys) - GROUPS, 'more key')}"] if len(keys) > GROUPS else [])


def _served(found: CheckResult) -> list[str]:
    lines = list(found.differences)
    if found.compared and not any("prompts" in line for line in lines):
        prompts = plural(found.compared, "prompt")
        lines.insert(0, f"{prompts} encoded by plain transformers too: the same token ids.")
    return lines
