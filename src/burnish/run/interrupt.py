"""Ctrl-C, and the TERM signal of a scheduler, that wait for the step to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from burnish.errors import Interrupted
from burnish.train import checkpoint


class Stopped(KeyboardInterrupt):
    """A run was asked to stop by the signal of this number."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@contextmanager
def resumable(started: Path, checkpoints: Path, resume_command: str) -> Iterator[None]:
    """Raises SIGINT and SIGTERM within the block as ``Interrupted``, once the file ``started`` exists and so
    there is a run to go on with; ``resume_command``: the command that does."""
    try:
        with _handling(_stop, signal.SIGTERM):
            yield
    except KeyboardInterrupt as stop:
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        if not started.exists():
            if signum == signal.SIGTERM:
                raise SystemExit(128 + signum) from stop
            raise
        saved = checkpoint.find(checkpoints).checkpoint
        raise Interrupted(saved.step if saved else 0, resume_command, signum) from stop


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Within the block the first SIGINT or SIGTERM only makes the function that it gives return the signal's
    number instead of 0; a second one stops at once."""
    asked = 0

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise Stopped(signum)
        asked = signum

    with _handling(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: asked


def _stop(signum: int, frame: FrameType | None) -> None:
    raise Stopped(signum)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], *signals: int) -> Iterator[None]:
    """Outside a program's main thread signals are left as they are."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in signals} if main else {}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
