"""The screen of recipes in a terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_EVERY = 10.0
"""Seconds between progress lines where the output is no terminal."""


class TerminalScreen:
    """Progress bars on a terminal; in a file or a pipe, a plain line now and then."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._bars: Progress | None = None
        self._task: tuple[str, TaskID] | None = None
        self._last_line = 0.0

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        if not self.console.is_terminal:
            self._plain_line(task, done, total, detail)
            return
        if self._bars is None or self._task is None or self._task[0] != task:
            self.close()
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bars.start()
            self._task = (task, self._bars.add_task(task, total=total, detail=detail))
        self._bars.update(self._task[1], completed=done, total=total, detail=detail)
        if done >= total:
            self.close()

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None

    def _plain_line(self, task: str, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_line >= QUIET_EVERY:
            self._last_line = now
            self.say(f"{task}: {done}/{total}  {detail}".rstrip())
