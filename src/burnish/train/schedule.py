"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Literal

Decay = Literal["cosine", "linear", "constant"]


def learning_rate(step: int, steps: int, peak: float, warmup: int, decay: Decay, floor: float) -> float:
    """The rate of optimizer step ``step`` (counted from 0) of ``steps``.

    Rises linearly over ``warmup`` steps, so that the first step already moves (``peak / warmup``), and
    then falls to ``floor * peak`` at the last step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if decay == "constant":
        return peak
    done = (step - warmup) / max(1, steps - 1 - warmup)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, done))) if decay == "cosine" else 1 - min(1.0, done)
    return peak * (floor + (1 - floor) * height)
