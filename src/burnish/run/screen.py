"""What a recipe may tell the person who watches. The command line draws it; scripts get silence."""

from __future__ import annotations

from typing import Protocol


class Screen(Protocol):
    def say(self, text: str) -> None:
        """A line worth reading once."""

    def warn(self, text: str) -> None:
        """A line that may need an action."""

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
        """How far a piece of long work is; it ends when ``done`` reaches ``total``."""


class Silence:
    """A screen that shows nothing."""

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None: ...
