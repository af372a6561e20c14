"""The screen of recipes in a terminal."""

from __future__ import annotations

import time

from burnish.cli.terminal import Bar, Terminal

QUIET_EVERY = 10.0
"""Seconds between progress lines where the output is no terminal."""


class TerminalScreen:
    """Progress bars on a terminal; in a file or a pipe, a plain line now and then."""

    def __init__(self) -> None:
        self.terminal = Terminal()
        self._bar: Bar | None = None
        self._last_line = 0.0

    def say(self, text: str) -> None:
        self.terminal.line(text)

    def warn(self, text: str) -> None:
        self.terminal.line(f"warning: {text}", "yellow")

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        if not self.terminal.interactive:
            self._plain_line(task, done, total, detail)
            return
        if self._bar is None or self._bar.task != task:
            self.close()
            self._bar = self.terminal.bar(task, total)
        self._bar.update(done, total, detail)
        if done >= total:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def _plain_line(self, task: str, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_line >= QUIET_EVERY:
            self._last_line = now
            self.say(f"{task}: {done}/{total}  {detail}".rstrip())
