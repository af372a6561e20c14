"""The flat batch: documents laid end to end, without padding.

Two documents of 3 and 2 tokens, the last two tokens of the first and the last of the second to learn::

    token            0     1     2  |  3     4
    input_ids        7     8     9  |  7     6
    position_ids     0     1     2  |  0     1
    segments         (start 0, length 3) (start 3, length 2)
    target_positions 0     1           3            the position that predicts ...
    target_ids       8     9           6            ... this token

The shift by one happens here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from burnish.tokens.table import TokenTable


@dataclass(frozen=True)
class Segment:
    """A document in a flat batch: ``length`` tokens from ``start``, attending to itself causally."""

    start: int
    length: int
    parent: int | None = None


@dataclass(frozen=True)
class Batch:
    """One micro-batch of T tokens, N of them to be predicted.

    ``input_ids``, ``position_ids``: (T,) int64. ``target_positions`` (N,) int64: where a prediction is
    made; ``target_ids`` (N,) int64: what it should be; ``target_weights`` (N,) fp32.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: tuple[Segment, ...]
    target_positions: Tensor
    target_ids: Tensor
    target_weights: Tensor

    def to(self, device: torch.device) -> Batch:
        moved = (
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.segments,
            self.target_positions.to(device),
            self.target_ids.to(device),
            self.target_weights.to(device),
        )
        return Batch(*moved)


def flatten(documents: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Lay documents, each (ids, weights), end to end.

    A document's first token is never a target: nothing stands before it to predict it from.
    """
    lengths = [len(ids) for ids, _ in documents]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    ids = np.concatenate([ids for ids, _ in documents]).astype(np.int64)
    weights = np.concatenate([weights for _, weights in documents]).astype(np.float32)
    weights[starts] = 0.0
    targets = np.flatnonzero(weights)
    return Batch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(np.concatenate([np.arange(n, dtype=np.int64) for n in lengths])),
        segments=tuple(Segment(int(s), n) for s, n in zip(starts, lengths, strict=True)),
        target_positions=torch.from_numpy(targets - 1),
        target_ids=torch.from_numpy(ids[targets]),
        target_weights=torch.from_numpy(weights[targets]),
    )


def micro_batches(table: TokenTable, rows: Sequence[int], budget: int) -> list[Batch]:
    """Split one optimizer step's rows into flat batches of at most ``budget`` tokens, about equal in size.

    Rows go in by length, longest first, each into the emptiest batch. A row longer than the budget stands
    alone. Which rows make a step never depends on the budget.
    """
    ordered = sorted(rows, key=lambda row: (-table.length(row), row))
    long = [row for row in ordered if table.length(row) > budget]
    groups = [[row] for row in long] + _balanced(table, ordered[len(long) :], budget)
    return [flatten([table.document(row) for row in group]) for group in groups]


def _balanced(table: TokenTable, rows: Sequence[int], budget: int) -> list[list[int]]:
    """The rows, longest first, in as few groups of at most ``budget`` tokens as this simple way finds."""
    count = -(-sum(map(table.length, rows)) // budget)
    while True:
        groups: list[list[int]] = [[] for _ in range(count)]
        sizes = [0] * count
        for row in rows:
            place = sizes.index(min(sizes))
            groups[place].append(row)
            sizes[place] += table.length(row)
        if max(sizes, default=0) <= budget:
            return groups
        count += 1
