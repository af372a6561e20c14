"""A small batch on which a forward pass is tried: it holds whatever may go wrong in later ones.

Six pieces of ``PIECE`` tokens in a row, in four documents::

    pieces       A   B on A   C on B   D on A   E   F
    documents    A B C,  A D,  E,  F

B, C and E are the ones to change: D and F, each right behind one of them, must not notice, nor must A.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from burnish.model.virtual_tokens import virtual_count

PIECE = 20

WINDOW = 8
"""Shorter than a piece, and reaching from a piece into its parent."""

PARENTS = (None, 0, 1, 0, None, None)
LINES = ((0, 1, 2), (0, 3), (4,), (5,))
"""The pieces of each document."""

LONGEST = max(map(len, LINES)) * PIECE
"""Tokens of the longest document: a model must have as many positions."""

CHANGED = (1, 2, 4)
UNCHANGED = (0, 3, 5)


@dataclass(frozen=True)
class Piece:
    """A segment of a flat batch."""

    start: int
    length: int
    parent: int | None = None


@dataclass(frozen=True)
class Trial:
    """The input of a forward pass, as in ``tokens.Batch``; every token of a document is a target."""

    input_ids: Tensor
    position_ids: Tensor
    segments: tuple[Piece, ...]
    target_positions: Tensor


def as_pieces(tokens: Tensor) -> Trial:
    """Tokens in the layout above. The targets follow the documents, so that A's positions come twice."""
    ids = _enough(tokens)
    within = torch.arange(PIECE, device=ids.device)
    depths = {piece: depth for line in LINES for depth, piece in enumerate(line)}
    return Trial(
        input_ids=ids,
        position_ids=torch.cat([within + depths[piece] * PIECE for piece in range(len(PARENTS))]),
        segments=tuple(Piece(n * PIECE, PIECE, parent) for n, parent in enumerate(PARENTS)),
        target_positions=torch.cat([within + piece * PIECE for line in LINES for piece in line]),
    )


def as_documents(tokens: Tensor) -> Trial:
    """The same documents, each laid whole, with the same targets."""
    pieces = _enough(tokens).split(PIECE)
    ids = torch.cat([pieces[piece] for line in LINES for piece in line])
    lengths = [len(line) * PIECE for line in LINES]
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    return Trial(
        input_ids=ids,
        position_ids=torch.cat([torch.arange(length, device=ids.device) for length in lengths]),
        segments=tuple(map(Piece, starts, lengths)),
        target_positions=torch.arange(len(ids), device=ids.device),
    )


def with_neighbours_changed(tokens: Tensor) -> Tensor:
    """The trial's tokens, with others in each of the pieces to change."""
    pieces = list(_enough(tokens).split(PIECE))
    for number in CHANGED:
        pieces[number] = _others(pieces[number], tokens)
    return torch.cat(pieces)


def with_ends_changed(batch: Trial) -> tuple[Trial, tuple[Tensor, ...]]:
    """Documents with other tokens in their last half pieces, and where among the targets what comes before
    stands, for each document."""
    ids, before = batch.input_ids.clone(), []
    for document in batch.segments:
        end = document.start + document.length
        changed = slice(end - PIECE // 2, end)
        ids[changed] = _others(ids[changed], ids)
        before.append(torch.arange(document.start, end - PIECE // 2, device=ids.device))
    return replace(batch, input_ids=ids), tuple(before)


def _others(ids: Tensor, tokens: Tensor) -> Tensor:
    """Another token in the place of each."""
    largest = tokens.max().clamp(min=1)
    return torch.where(ids == largest, 0, largest)


def unchanged_targets() -> Tensor:
    """Where among the targets a change of the neighbours must not be seen."""
    return torch.tensor([piece in UNCHANGED for line in LINES for piece in line]).repeat_interleave(PIECE)


def _enough(tokens: Tensor) -> Tensor:
    count = len(PARENTS) * PIECE
    return tokens.repeat(-(-count // len(tokens)))[:count]


@contextmanager
def short_windows(model: nn.Module) -> Iterator[None]:
    """Within the block what a model sees at a time is at most ``WINDOW`` tokens and its virtual ones, so that
    it is short of its documents, however long its true window is."""
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    names = ("sliding_window", "attention_chunk_size")
    held = [
        (holder, name, vars(holder)[name])
        for holder in (*model.modules(), *configs.values())
        for name in names
        if isinstance(vars(holder).get(name), int)
    ]
    for holder, name, length in held:
        setattr(holder, name, min(length, WINDOW + virtual_count(model)))
    try:
        yield
    finally:
        for holder, name, length in held:
            setattr(holder, name, length)
