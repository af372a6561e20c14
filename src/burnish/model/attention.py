"""Attention over flat batches: every document sees itself causally and nothing else.

Registered with transformers' ``AttentionInterface``, so that each model family keeps its own code and
only the innermost function changes. The documents of a batch arrive as the keyword ``segments`` of the
model's call.

A segment may have a parent, a piece of text that several documents begin with and that stands in the
batch once. Its queries then see the parent's keys, and those of its parents, wholly, and their own causally::

    segments      A: 0..3    B: 3..5, parent A    C: 5..6, parent A
    keys seen     A causal   A, then B causal     A, then C causal
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

FLAT = "burnish_flat"


Prefix = Sequence[tuple[Tensor, Tensor]]
"""Keys and values (G, n, D) for each layer, which every document sees before its own."""


class SegmentLike(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def parent(self) -> int | None: ...


BLOCK = 512
"""Queries that attend at a time. Their scores then stay near the cache, and of a longer document the half
that no one sees is mostly not computed."""

STEP = 16
"""Documents are padded to a multiple of this while they attend. On a CPU the first product of a shape costs
milliseconds, the next ones a tenth of one: of few lengths there are few first ones."""


def flat_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within each segment and its parents; query (1, H, T, D), key and value (1, G, T, D) with H a
    multiple of G; returns (1, T, H, D).

    With ``sliding_window`` w a token sees itself and the w - 1 before it. ``softcap`` c: scores become
    c tanh(score / c) (Gemma 2). ``s_aux`` (H,): a score a head that takes its share of each softmax and has
    no value, an attention sink (GPT-OSS).
    """
    now = _now.get()
    assert now is not None, "called outside of flat_attention_over"
    segments, before = now.segments, None if now.prefix is None else now.prefix[_number(module)]
    heads, groups, width = query.shape[1], key.shape[1], query.shape[3]
    scale = width**-0.5 if scaling is None else scaling
    queries, keys, values = (_pieces(states[0], segments) for states in (query * scale, key, value))
    sinks = None if s_aux is None else s_aux.reshape(groups, -1)
    attended = []
    for number, (q, segment) in enumerate(zip(queries, segments, strict=True)):
        line = _line(segments, number)
        k, v = _seen(keys, line, before and before[0]), _seen(values, line, before and before[1])
        seen = k.shape[1] - q.shape[1]
        for block in q.split(BLOCK, dim=1):
            first = 0 if sliding_window is None else max(0, seen - sliding_window + 1)
            last = seen + block.shape[1]
            part = slice(first, last)
            rows = block.reshape(groups, -1, width)  # the heads of one group read the same keys
            scores = torch.bmm(rows, k[:, part].transpose(1, 2)).view(
                groups, -1, block.shape[1], last - first
            )
            shares = _shares(scores, sliding_window, softcap, sinks).view(groups, rows.shape[1], -1)
            shares = functional.dropout(shares, dropout, module.training) if dropout else shares
            real = segment.length - (seen - k.shape[1] + q.shape[1])
            attended.append(torch.bmm(shares, v[:, part]).view(heads, -1, v.shape[2])[:, :real])
            seen = last
    return torch.cat(attended, dim=1).transpose(0, 1)[None], None


def _number(module: Any) -> int:
    """Of the layer that attends, as every family of transformers has it for its cache."""
    return int(module.layer_idx)


def _pieces(states: Tensor, segments: Sequence[SegmentLike]) -> list[Tensor]:
    """States (H, T, D) of each segment by itself, with zeros behind up to a multiple of ``STEP``: nothing
    real looks at what follows it. Parents are left as they are, since their children do."""
    parents = {segment.parent for segment in segments}
    pieces = states.split([segment.length for segment in segments], dim=1)
    # Splitting has a cheap gradient, one concatenation; slicing would write a whole tensor for each slice.
    return [
        piece.contiguous() if number in parents else functional.pad(piece, (0, 0, 0, -piece.shape[1] % STEP))
        for number, piece in enumerate(pieces)
    ]


def _seen(states: Sequence[Tensor], line: Sequence[int], before: Tensor | None) -> Tensor:
    """Keys or values of a segment's line, one behind the other, behind the prefix."""
    parts = [states[number] for number in line] if before is None else [before, *(states[n] for n in line)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _line(segments: Sequence[SegmentLike], number: int) -> list[int]:
    """The segment's number behind those of its parents, the first of them first."""
    line = [number]
    while (parent := segments[line[0]].parent) is not None:
        line.insert(0, parent)
    return line


def _shares(scores: Tensor, window: int | None, softcap: float | None, sinks: Tensor | None) -> Tensor:
    """Softmax of ``scores`` (G, R, L, K), R heads a group, the queries being the last L of K positions;
    ``sinks`` (G, R)."""
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    _hide(scores, window)
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    column = sinks.to(scores.dtype)[:, :, None, None].expand(-1, -1, scores.shape[2], 1)
    return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]


@torch.no_grad()  # adding a constant changes no gradient, and neither a product nor tanh's multiple needs it
def _hide(scores: Tensor, window: int | None) -> None:
    """Put minus infinity where a query must not look: at what comes later, and before its window."""
    queries, keys = scores.shape[-2:]
    if window is None or keys <= window:
        later = _later(BLOCK, scores.dtype, scores.device)[:queries, :queries]
        scores[..., keys - queries :].add_(later)
    else:
        scores.add_(_outside(queries, keys, window, scores.dtype, scores.device))


@lru_cache(maxsize=8)
def _later(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)


@lru_cache(maxsize=64)
def _outside(queries: int, keys: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    hidden = torch.ones(queries, keys, dtype=torch.bool, device=device)
    hidden = hidden.triu(1 + keys - queries) | hidden.tril(keys - queries - window)
    return torch.zeros(queries, keys, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


def clear_mask_cache() -> None:
    """Free the masks that are kept for the next pass."""
    _later.cache_clear()
    _outside.cache_clear()


@dataclass(frozen=True)
class FlatBatch:
    """The flat batch that is being computed: its segments, and what all of them see before themselves."""

    segments: Sequence[SegmentLike]
    prefix: Prefix | None = None


_now: ContextVar[FlatBatch | None] = ContextVar("the flat batch", default=None)
"""Beside the model's call and not in its keywords: compiled layers would be compiled anew for each batch."""


def current_flat_batch() -> FlatBatch | None:
    """The flat batch that is being computed; None outside of one."""
    return _now.get()


@contextmanager
def flat_attention_over(model: PreTrainedModel, batch: FlatBatch) -> Iterator[None]:
    """Within the block the model's calls are this flat batch."""
    before = model.config._attn_implementation
    model.set_attn_implementation(FLAT)
    token = _now.set(batch)
    try:
        if model.config._attn_implementation != FLAT:
            raise NotImplementedError("its attention cannot be replaced")
        yield
    finally:
        _now.reset(token)
        model.set_attn_implementation(before)


AttentionInterface.register(FLAT, torch.compiler.disable(flat_attention))
