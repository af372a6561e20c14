"""What a recipe shows to the person who watches. The command line draws it; scripts see nothing."""

from __future__ import annotations

from typing import Protocol


class Screen(Protocol):
    """Where a recipe writes lines and progress."""

    def say(self, text: str) -> None:
        """A line worth reading once."""

    def warn(self, text: str) -> None:
        """A line that may need an action."""

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        """How far a piece of long work is; it ends when ``done`` reaches ``total``."""


class SilentScreen:
    """A screen that shows nothing."""

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None: ...
