"""Everything that burnish prints, with text from outside made harmless on the way.

An answer, a row, the name of a file or an error may hold sequences that clear the screen, write to the
clipboard or reorder what is shown. All that is printed goes through ``visible``: no other file of the package
writes to a stream or imports rich.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.progress import Progress

HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for line breaks and tabs, what overrides the direction of text, and halves of
surrogate pairs, which no stream can encode."""


def visible(text: str) -> str:
    r"""``text`` with every harmful character as an escape, which is shown and does nothing.

    The escapes are those of JSON, so that a line of JSON still says the same.

    >>> visible("\x1b[2Jgone?")
    '\\u001b[2Jgone?'
    """
    return HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def out(text: str) -> None:
    """A line on standard output, as it stands: for pipes and files."""
    sys.stdout.write(visible(text) + "\n")


def complain(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(visible(text) + "\n")


def leave_at_once(code: int) -> NoReturn:
    """End the process with all that was printed shown, and nothing else done."""
    sys.stdout.flush()
    os._exit(code)


class Terminal:
    """Standard output, or standard error, with the styles of rich where it is a terminal that has them."""

    def __init__(self, *, errors: bool = False) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, emoji=False, stderr=errors)

    @property
    def interactive(self) -> bool:
        """Whether it is a terminal, and no file or pipe."""
        return self._console.is_terminal

    @property
    def in_colour(self) -> bool:
        return bool(self._console.is_terminal and self._console.color_system)

    @property
    def width(self) -> int:
        """In characters."""
        return self._console.width

    def line(self, text: str = "", style: str = "") -> None:
        self.spans([(text, style)])

    def spans(self, parts: Iterable[tuple[str, str]]) -> None:
        """A line of parts, each a text and its style."""
        from rich.text import Text

        styled = [(visible(text), style) for text, style in parts]
        self._console.print(Text.assemble(*styled), soft_wrap=True)

    def part(self, text: str, style: str = "") -> None:
        """The beginning of a line, or more of it: shown at once."""
        from rich.text import Text

        if style:
            self._console.print(Text(visible(text), style), end="", soft_wrap=True)
        else:
            self._console.file.write(visible(text))
        self._console.file.flush()

    def ask(self, prompt: str) -> str:
        """A line that the person types, who can edit it and go back to earlier ones. Raises ``EOFError``."""
        with suppress(ImportError):  # some Pythons are built without it
            import readline  # noqa: F401 - input() uses it once it is imported
        # Between 1 and 2 stands what takes no room on the line, for readline to count right.
        shown = f"\001\033[1m\002{prompt}\001\033[0m\002" if self.in_colour else prompt
        return input(f"{shown}  ")

    def figures(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table of numbers, the first column of which names them."""
        from rich.table import Table

        table = Table(title=visible(title) or None, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(visible(column), justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(visible, row))
        self._console.print(table)

    def texts(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table of texts in columns of one width."""
        from rich.table import Table

        table = Table(title=visible(title), show_lines=True, expand=False)
        for column in columns:
            table.add_column(visible(column), overflow="fold", ratio=1)
        for row in rows:
            table.add_row(*map(visible, row))
        self._console.print(table)

    def bar(self, task: str, total: int) -> Bar:
        """A bar that shows how far a task is."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        return Bar(progress, task, total)


class Bar:
    """A bar on the terminal, from when it is made until ``stop``."""

    def __init__(self, progress: Progress, task: str, total: int) -> None:
        self.task = task
        self._progress = progress
        self._id = progress.add_task(visible(task), total=total, detail="")
        progress.start()

    def update(self, done: int, total: int, detail: str) -> None:
        self._progress.update(self._id, completed=done, total=total, detail=visible(detail))

    def stop(self) -> None:
        self._progress.stop()
