"""Ctrl-C that waits for the step to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The person stopped the run; it was saved after ``step`` steps and can go on."""

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step
        super().__init__(f"stopped after step {step}")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within the block, the first SIGINT or SIGTERM only makes the given function answer True; a second
    SIGINT stops at once. Outside a program's main thread signals are left as they are."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
