"""Which rows make which optimizer step: a function of (seed, step) and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Order:
    """Every epoch visits every row once, in an order drawn from (seed, epoch).

    A resumed run asks for step n and gets the rows that a run never stopped would have got. The last
    step of an epoch may be smaller; no row is left out.
    """

    rows: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    def step(self, step: int) -> list[int]:
        """The rows of optimizer step ``step``, counted from 0."""
        epoch, within = divmod(step, self.steps_per_epoch)
        permutation = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        start = within * self.batch_size
        return [int(row) for row in permutation[start : start + self.batch_size]]
