"""Confidence intervals of shares."""

from __future__ import annotations

import math


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a binomial share, 95 % by default (Wilson 1927, JASA 22:209).

    Unlike the normal approximation it stays within 0 and 1 and is right near both ends: 0 of 10 gives
    (0, 0.278).
    """
    if not trials:
        return 0.0, 1.0
    share, squared = successes / trials, z * z / trials
    middle = (share + squared / 2) / (1 + squared)
    spread = z / (1 + squared) * math.sqrt(share * (1 - share) / trials + squared / (4 * trials))
    return max(0.0, middle - spread), min(1.0, middle + spread)
