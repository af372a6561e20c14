"""What documents begin with alike, found so that it stands once in a batch.

Four documents that share a system prompt ``S``, two of them a longer beginning ``ST`` too::

    S a b c                  S ─┬─ a b c
    S d                         ├─ d
    S T e f                     └─ T ─┬─ e f
    S T g                             └─ g

    14 tokens laid whole, 9 laid out like this (S and T of one token each)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Document = tuple[np.ndarray, np.ndarray]
"""Token ids and weights, (tokens,) each."""

WORTH = 16
"""Tokens from which a shared beginning stands by itself: each piece costs an attention call a layer."""


@dataclass(frozen=True)
class Piece:
    """Tokens ``begin`` to ``end`` of each of the ``documents``, behind the piece of the number ``parent``."""

    documents: tuple[int, ...]
    begin: int
    end: int
    parent: int | None = None


def whole(documents: Sequence[Document]) -> list[Piece]:
    """A piece a document."""
    return [Piece((number,), 0, len(ids)) for number, (ids, _) in enumerate(documents)]


def shared_pieces(documents: Sequence[Document]) -> list[Piece]:
    """The documents as trees of pieces, parents before their children."""
    order, alike = _sorted(documents)
    pieces: list[Piece] = []

    def grow(first: int, last: int, depth: int, parent: int | None) -> None:
        for run in _runs(alike, first, last, depth):
            members = tuple(order[run.start : run.stop])
            end = min(alike[run.start : run.stop - 1], default=len(documents[members[0]][0]))
            if end == depth:  # nothing is left: another document goes on from here
                continue
            pieces.append(Piece(members, depth, end, parent))
            if len(members) > 1:
                grow(run.start, run.stop, end, len(pieces) - 1)

    grow(0, len(order), 0, None)
    return pieces


def families(documents: Sequence[Document], budget: int) -> list[tuple[int, list[int]]]:
    """The documents in families that begin alike, each with its tokens (at most) when shared ones count once.
    One of more than ``budget`` tokens is parted, its beginning repeated in each part."""
    order, alike = _sorted(documents)
    found = []
    for run in _runs(alike, 0, len(order), 0):
        members: list[int] = []
        tokens = 0
        for place in run:
            length = len(documents[order[place]][0])
            # Of what neighbours have in common, less than WORTH tokens may stand twice.
            new = length - max(0, alike[place - 1] - WORTH + 1) if members else length
            if members and tokens + new > budget:
                found.append((tokens, members))
                members, tokens, new = [], 0, length
            members.append(order[place])
            tokens += new
        found.append((tokens, members))
    return found


def _runs(alike: Sequence[int], first: int, last: int, depth: int) -> Iterator[range]:
    """Neighbours that share enough tokens behind the first ``depth``."""
    start = first
    for place in range(first, last):
        if place + 1 == last or alike[place] - depth < WORTH:
            yield range(start, place + 1)
            start = place + 1


def _sorted(documents: Sequence[Document]) -> tuple[list[int], list[int]]:
    """The documents' numbers in the order of their ids, and how many first ids neighbours have in common."""
    order = sorted(range(len(documents)), key=lambda n: documents[n][0].astype(">i4").tobytes())
    alike = []
    for one, other in pairwise(order):
        length = min(len(documents[one][0]), len(documents[other][0]))
        differs = np.flatnonzero(documents[one][0][:length] != documents[other][0][:length])
        alike.append(int(differs[0]) if len(differs) else length)
    return order, alike
