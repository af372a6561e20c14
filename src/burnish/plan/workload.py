"""What a run will do: its steps, its tokens, and the micro-batch that takes most memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from burnish.config import RunConfig
from burnish.model.forward import STEP
from burnish.tokens import Batch, Order, TokenTable, flatten, micro_batches
from burnish.train.fit import total_steps

SAMPLED_STEPS = 40
"""Steps among whose micro-batches the largest one is taken."""


@dataclass(frozen=True)
class Workload:
    """What a run computes. ``lengths``: tokens of each row; ``steps``, ``tokens``, ``trained``: of the whole
    run. All are empty or 0 where no data is given."""

    table: TokenTable | None
    held_out: TokenTable | None
    max_length: int
    lengths: np.ndarray
    steps: int = 0
    tokens: int = 0
    trained: int = 0

    @property
    def longest(self) -> int:
        return int(self.lengths.max()) if len(self.lengths) else self.max_length


def workload_of(config: RunConfig, table: TokenTable, held_out: TokenTable, max_length: int) -> Workload:
    """The work of a run over these tables."""
    steps = total_steps(table, config.train)
    epochs = steps / Order(len(table), config.train.batch_size, config.train.seed).steps_per_epoch
    return Workload(
        table,
        held_out if len(held_out) else None,
        max_length,
        np.diff(table.offsets),
        steps,
        round(table.tokens * epochs),
        round(table.trained_tokens * epochs),
    )


def largest_batch(
    config: RunConfig, workload: Workload, budget: int, share: bool, ranks: int
) -> tuple[Batch, bool]:
    """The micro-batch of the first steps that takes most, and whether a step has several of them. Without
    data: rows of the greatest length, all of them learnt."""
    if workload.table is None:
        row = np.zeros(workload.max_length, np.int32), np.ones(workload.max_length, np.float32)
        rows = min(max(1, budget // workload.max_length), config.train.batch_size)
        return _filled(flatten([row] * rows)), rows * ranks < config.train.batch_size
    order = Order(len(workload.table), config.train.batch_size, config.train.seed)
    found, several = [], False
    for step in range(min(workload.steps, SAMPLED_STEPS)):
        batches = micro_batches(workload.table, order.step(step), budget, share=share, ranks=ranks)
        several |= len(batches) > 1
        found += batches
    return _filled(max(found, key=_cost)), several


def held_out_batch(workload: Workload, budget: int) -> Batch | None:
    """The micro-batch of evaluation that takes most; None without held-out rows."""
    if workload.held_out is None:
        return None
    rows = range(min(len(workload.held_out), 1000))
    return _filled(max(micro_batches(workload.held_out, rows, budget), key=_cost))


def _cost(batch: Batch) -> int:
    """Tokens, and for attention the squares of the lengths: about what they take of memory."""
    return sum(segment.length * (256 + segment.length // 16) for segment in batch.segments)


def _filled(batch: Batch) -> Batch:
    """The batch on the meta device, filled up with a document that nobody reads, as on a CPU."""
    missing = -len(batch.input_ids) % STEP
    if missing:
        filler = flatten([(np.zeros(missing, np.int32), np.zeros(missing, np.float32))])
        shifted = [
            type(segment)(segment.start + len(batch.input_ids), segment.length, None)
            for segment in filler.segments
        ]
        batch = Batch(
            torch.cat([batch.input_ids, filler.input_ids]),
            torch.cat([batch.position_ids, filler.position_ids]),
            (*batch.segments, *shifted),
            batch.target_positions,
            batch.target_ids,
            batch.target_weights,
        )
    return batch.to(torch.device("meta"))
