"""Which of several processes this is; only the first one prints."""

from __future__ import annotations

import os


def rank() -> int:
    """The rank of this process among those that torchrun started; 0 for the first, and for a single one."""
    return int(os.environ.get("RANK", "0"))
