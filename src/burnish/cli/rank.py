"""Which of several processes this is; only the first one draws and tells."""

from __future__ import annotations

import os


def rank() -> int:
    """Of this process among those that torchrun started; 0 for the first, and for one alone."""
    return int(os.environ.get("RANK", "0"))
