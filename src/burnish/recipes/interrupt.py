"""Ctrl-C that waits for the step to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from burnish.errors import Interrupted
from burnish.train import checkpoint


@contextmanager
def resumable(started: Path, checkpoints: Path, go_on: str) -> Iterator[None]:
    """Turns a KeyboardInterrupt within the block into ``Interrupted``, once the file ``started`` shows
    that there is a run to go on with; ``go_on``: the command that does."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not started.exists():
            raise
        saved = checkpoint.latest(checkpoints)
        raise Interrupted(saved.step if saved else 0, go_on) from stop


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
