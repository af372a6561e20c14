"""The flat batch: documents laid end to end, without padding.

Two documents of 3 and 2 tokens, the last two tokens of the first and the last of the second to learn::

    token            0     1     2  |  3     4
    input_ids        7     8     9  |  7     6
    position_ids     0     1     2  |  0     1
    segments         (start 0, length 3) (start 3, length 2)
    target_positions 0     1           3            the position that predicts ...
    target_ids       8     9           6            ... this token

The shift by one happens here and nowhere else. What documents begin with alike may stand once, as a segment
that is the parent of theirs (``shared.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from burnish.tokens.shared import Document, families, shared_pieces, whole
from burnish.tokens.table import TokenTable


@dataclass(frozen=True)
class Segment:
    """A document in a flat batch, or a piece of some: ``length`` tokens from ``start``, which see themselves
    causally and the segment of the number ``parent``, with that one's parents, wholly."""

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


def flatten(documents: Sequence[Document], *, share: bool = False) -> Batch:
    """Lay documents, each (ids, weights), end to end; with ``share``, what they begin with alike once.

    A document's first token is never a target: nothing stands before it to predict it from. In a shared piece
    the weights of its documents add up: they predict the same token from the same tokens. The first token of
    what follows a piece is predicted at the last position of that piece, once for each document.
    """
    pieces = shared_pieces(documents) if share else whole(documents)
    starts = np.cumsum([0, *(piece.end - piece.begin for piece in pieces)])
    segments, ids, weights, before, positions = [], [], [], [], []
    for piece, start in zip(pieces, starts, strict=False):
        part = slice(piece.begin, piece.end)
        length = piece.end - piece.begin
        segments.append(Segment(int(start), length, piece.parent))
        ids.append(documents[piece.documents[0]][0][part].astype(np.int64))
        weight = sum((documents[number][1][part] for number in piece.documents), np.zeros(length, np.float32))
        previous = np.arange(start - 1, start + length - 1)
        if piece.parent is None:
            weight[0] = 0.0
        else:
            previous[0] = starts[piece.parent + 1] - 1
        weights.append(weight)
        before.append(previous)
        positions.append(np.arange(piece.begin, piece.end))
    flat_ids, flat_weights = np.concatenate(ids), np.concatenate(weights)
    targets = np.flatnonzero(flat_weights)
    return Batch(
        input_ids=torch.from_numpy(flat_ids),
        position_ids=torch.from_numpy(np.concatenate(positions)),
        segments=tuple(segments),
        target_positions=torch.from_numpy(np.concatenate(before)[targets]),
        target_ids=torch.from_numpy(flat_ids[targets]),
        target_weights=torch.from_numpy(flat_weights[targets]),
    )


def micro_batches(
    table: TokenTable,
    rows: Sequence[int],
    budget: int,
    *,
    share: bool = False,
    apart: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> list[Batch]:
    """Split one optimizer step's rows into flat batches of at most ``budget`` tokens, about equal in size;
    and give those that are this ``rank``'s of ``ranks``, as many as each other has.

    With ``share``, rows that begin alike go together, and what they share counts once. A row longer than the
    budget stands alone, and so does one longer than ``apart``. Which rows make a step never depends on the
    budget, nor on the ranks. Where there are too few rows for all ranks, a batch is a single token that
    counts for nothing.
    """
    documents = [table.document(row) for row in sorted(rows, key=lambda row: (-table.length(row), row))]
    long = 0 if apart is None else sum(len(ids) > apart for ids, _ in documents)  # and they come first
    rest = documents[long:]
    units = families(rest, budget) if share else [(len(ids), [n]) for n, (ids, _) in enumerate(rest)]
    units = [(cost, [long + n for n in members]) for cost, members in sorted(units, key=lambda u: -u[0])]
    alone = [[n] for n in range(long)] + [members for cost, members in units if cost > budget]
    groups = alone + _balanced([unit for unit in units if unit[0] <= budget], budget, len(alone), ranks)
    nothing = (documents[0][0][:1], np.zeros(1, np.float32))
    return [flatten([documents[n] for n in group] or [nothing], share=share) for group in groups[rank::ranks]]


def _balanced(
    units: Sequence[tuple[int, list[int]]], budget: int, others: int, ranks: int
) -> list[list[int]]:
    """The members of units (tokens, members), largest first, in as few groups of at most ``budget`` tokens as
    this simple way finds: each unit goes to the emptiest group. With ``others`` there are as many groups as
    can be dealt to ``ranks``."""
    count = -(-sum(cost for cost, _ in units) // budget)
    while True:
        count += -(others + count) % ranks
        groups: list[list[int]] = [[] for _ in range(count)]
        sizes = [0] * count
        for cost, members in units:
            place = sizes.index(min(sizes))
            groups[place] += members
            sizes[place] += cost
        if max(sizes, default=0) <= budget:
            return groups
        count += 1
