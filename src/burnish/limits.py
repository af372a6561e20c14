"""An end to what files from elsewhere may take: templates and regular expressions can loop for ever, or ask
for all memory."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType

SECONDS = 5.0
"""A template of the longest conversation takes a hundredth of it."""
BYTES = 2 << 30
"""Beyond what the process holds already."""

_STATM = Path("/proc/self/statm")
_TOLD = _STATM.exists()


class TakesTooLong(BaseException):
    """What was to be run did not end in time. No ``Exception``: libraries pass over these."""


@contextmanager
def limited() -> Iterator[None]:
    """Ends what runs within the block: with ``TakesTooLong`` after ``SECONDS``, with ``MemoryError`` where it
    asks for more than ``BYTES``. Only in a main thread, where signals arrive; a
    block within a block counts with the outer one."""
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if _TOLD:
        most = _held(int(time.monotonic())) + BYTES
        resource.setrlimit(
            resource.RLIMIT_AS, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard)
        )
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if _TOLD:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@lru_cache(1)
def _held(second: int) -> int:
    """Bytes of memory that the process has a right to, read once a ``second``: that takes longer than most
    templates do."""
    return int(_STATM.read_text().split()[0]) * resource.getpagesize()


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TakesTooLong("it does not end")
