"""burnish check"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from burnish.cli.options import Data, File, MaxLength, Model, Settings, config_of
from burnish.numbers import plural

if TYPE_CHECKING:
    from burnish.cli.terminal import Terminal
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
    file: File = None,
    data: Data = None,
    model: Model = None,
    max_length: MaxLength = None,
    set_: Settings = None,
) -> None:
    """Prove the masks of a whole data set before training.

    Reads the tokenizer, not the weights. Exits with 1 where training would refuse the rows.
    """
    from burnish.cli.screen import TerminalScreen
    from burnish.prepare.check import check as recipe

    screen = TerminalScreen()
    settings = config_of(file, data, set_, model=model, max_length=max_length)
    found, template = recipe(settings, screen)
    terminal = screen.terminal
    _draw_laws(found, settings.data.bad_rows == "skip", terminal)
    if found.examples:
        terminal.line()
        _draw_roles(found, terminal)
        _draw_counts(found, terminal)
        _draw_lengths(found, settings.tokens.too_long, terminal)
    noted = [f"{plural(count, 'row')}: {note}" for note, count in found.notes.most_common()]
    for title, lines in (
        ("What the template does", noted),
        ("What nothing reads", _unread(found)),
        ("Training and serving", _served(found)),
    ):
        if lines:
            terminal.line(f"\n{title}", "bold")
        for line in lines:
            terminal.line(f"  {line}")
    if found.shown:
        from burnish.cli.show import draw_example, draw_legend
        from burnish.prepare.show import ShownExample

        terminal.line("\nExamples", "bold")
        draw_legend(terminal)
        for example in found.shown:
            draw_example(ShownExample.of(example, template), terminal)
    rate = f"{found.rows / found.seconds:,.0f} rows/s" if found.seconds else ""
    terminal.line(f"\n{plural(found.rows, 'row')} checked in {found.seconds:.1f} s ({rate}).")
    if found.refusal:
        raise typer.Exit(1)


def _draw_laws(found: CheckResult, skips: bool, terminal: Terminal) -> None:
    """Each law with the rows that keep and break it, then every kind of fault with its rows; ``skips``: rows
    that cannot be read are left out."""
    from burnish.errors import TemplateError
    from burnish.prepare.check import LAWS

    readable = found.rows - len(found.unreadable)
    empty = found.ledger.counts["nothing to learn"]
    proven = readable - found.violating_rows - empty
    style = "bold green" if proven == readable > 0 else "bold"
    terminal.line(f"{proven:,} of {readable:,} rows proven.", style)
    if empty:
        terminal.line(f"  {plural(empty, 'row')}: nothing to learn")
    for law in LAWS if proven or found.violations else ():
        count = found.rows_breaking(law)
        terminal.line(f"  ✗ {law:<9}broken by {plural(count, 'row')}" if count else f"  ✓ {law}")
    if count := found.rows_breaking(""):
        terminal.line(f"  ✗ the template refuses to render {plural(count, 'row')}")
    if found.unreadable and skips:
        unread = plural(len(found.unreadable), "row")
        terminal.line(f"\n{unread} cannot be read, and would be left out", "bold red")
        for bad in found.unreadable[:GROUPS]:
            terminal.line(f"  {bad.error.what}")
        if len(found.unreadable) > GROUPS:
            terminal.line(f"  ... and {len(found.unreadable) - GROUPS:,} more")
    if found.refusal and not isinstance(found.refusal, TemplateError):  # of these each kind follows by itself
        terminal.line(f"\nburnish train would refuse this: {found.refusal.what}", "bold red")
        _say_what_to_do(found.refusal, terminal)
    for group, error in found.violations[:GROUPS]:
        terminal.line(f"\n{plural(len(group.rows), 'row')}: {group.what}", "bold red")
        rows = ", ".join(str(source) for source in group.rows[:ROWS])
        more = f" ... and {len(group.rows) - ROWS:,} more" if len(group.rows) > ROWS else ""
        terminal.line(f"  at   {rows}{more}")
        _say_what_to_do(error, terminal)
    if len(found.violations) > GROUPS:
        terminal.line(f"\n... and {len(found.violations) - GROUPS:,} more kinds")


def _say_what_to_do(error: BurnishError, terminal: Terminal) -> None:
    for name, text in (("why", error.why), ("fix", error.fix)):
        if text:
            terminal.line(f"  {name}  {text}")


def _draw_roles(found: CheckResult, terminal: Terminal) -> None:
    rows = [
        (role, f"{count.messages:,}", f"{count.learnt:,}", f"{count.trained_tokens:,}")
        for role, count in found.roles.items()
        if count.messages
    ]
    terminal.figures("What is trained", ("role", "messages", "turns learnt", "tokens trained"), rows)


def _draw_counts(found: CheckResult, terminal: Terminal) -> None:
    share = found.trained_tokens / found.tokens
    terminal.line(f"{found.trained_tokens:,} of {plural(found.tokens, 'token')} trained ({share:.0%})")
    if found.turns:
        terminal.line(f"{found.stops:,} of {plural(found.turns, 'learnt turn')} end in a trained stop token")


def _draw_lengths(found: CheckResult, too_long: str, terminal: Terminal) -> None:
    shares = (50, 90, 99, 100)
    words = ", ".join(f"{'longest' if s == 100 else f'{s} %'} {found.percentile(s):,}" for s in shares)
    over = int((found.lengths > found.limit).sum())
    terminal.line("\nLengths, tokens", "bold")
    terminal.line(f"  {_bars(found)}")
    terminal.line(f"  {words}; the limit is {found.limit:,}")
    ledger = found.ledger
    lengths = {fate: count for fate, count in ledger.counts.items() if fate in LENGTH_FATES and count}
    if over or lengths:
        terminal.line(f"  {plural(over, 'example')} longer than that. With tokens.too_long: {too_long}:")
        for fate, count in lengths.items():
            terminal.line(f"    {plural(count, 'row')} {fate}")
        lost, trained = ledger.lost_tokens, ledger.lost_trained
        whole = int(found.lengths.sum())
        terminal.line(f"    {lost:,} of {whole:,} tokens lost, {trained:,} of them to be learnt")


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
