"""The next-token objective from hidden states: the head's product and its loss, a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Rows at a time. Fewer make the product slower, more push what is between the products out of the cache:
3,000 rows of a 32,100 vocabulary took 335 ms by 65, 202 by 256 and 259 by 512 (two cores, 512 wide)."""

CACHED = 2**21
"""Bytes of fp32 logits whose softmax is taken at a time on a CPU, so that they stay in its cache: 16 rows of
a 32,100 vocabulary. 3,000 rows took 231 ms chunk by chunk, 204 so (their two products: 113)."""

STEP = 32
"""Fewer rows than a chunk are filled up to a multiple of this."""

TINY = 1e-30
"""A share of the softmax below which its logarithm is taken from the logits instead."""

LOGITS = 2**25
"""The most logits at a time, for large vocabularies: 128 MiB in fp32."""

GROUP = 8
"""Chunks whose slopes are kept for one product with the hidden states, where the weight is trained: its
gradient is as large as the weight, and adding it up costs more than the product of one chunk."""


@dataclass(frozen=True)
class Rows:
    """The only rows of a head's weight that are trained, where not all are: their numbers (R,) and the
    values (R, H) that stand in the weight at those numbers."""

    numbers: Tensor
    values: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target_ids: Tensor,
    target_weights: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    rows: Rows | None = None,
    chunk: int | None = None,
) -> Tensor:
    """``cross_entropy(cap(scale (hidden W^T + bias)), ...)``, its sum alone, without ever holding all logits.

    ``hidden`` (N, H), ``weight`` (V, H), ``bias`` (V,), ``target_ids`` (N,) int64, ``target_weights`` (N,)
    fp32; cap(z) = softcap tanh(z / softcap). ``chunk``: rows at a time. ``rows``: with it the weight gets no
    gradient, but they do.

    The gradient is taken in the forward pass, while the logits of a chunk are there, and scaled by what comes
    from behind: d loss / d z_ij = w_i (softmax(z_i)_j - [j = target_i]). So nothing is computed twice.
    The products are of the type of ``hidden``, the softmax of fp32, and so is the sum of the weight's
    gradients over the chunks.
    """
    few = -(-len(hidden) // STEP) * STEP or STEP
    size = chunk or min(few, max(1, min(CHUNK, LOGITS // len(weight))))
    block = max(1, CACHED // (4 * len(weight))) if hidden.device.type != "cuda" else size
    shape = _Shape(scale, softcap, size, min(size, block), torch.is_grad_enabled())
    numbers, values = (rows.numbers, rows.values) if rows else (None, None)
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, numbers, values, target_ids, target_weights, shape
    )
    return loss


@dataclass(frozen=True)
class _Shape:
    scale: float
    softcap: float | None
    chunk: int
    block: int
    """Rows of a chunk at a time between its products."""
    learns: bool
    """Whether gradients are wanted at all."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        numbers: Tensor | None,
        values: Tensor | None,
        target_ids: Tensor,
        target_weights: Tensor,
        shape: _Shape,
    ) -> Tensor:
        needs = [shape.learns and needed for needed in ctx.needs_input_grad]
        needs_hidden, needs_weight, needs_bias, _, needs_values, *_ = needs
        needs_weight = needs_weight and numbers is None
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        to_weight = _zeros(weight) if needs_weight else None
        to_bias = _zeros(bias) if needs_bias else None
        to_values = _zeros(values) if needs_values else None
        count, size = len(hidden), shape.chunk
        hidden, target_ids, target_weights = (
            _filled(tensor, size) for tensor in (hidden, target_ids, target_weights)
        )
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        group = size * (GROUP if needs_weight else 1)
        # Held through all chunks: pages that are new to a process cost as much as the arithmetic on them.
        held = hidden.new_empty(min(group, len(hidden)), len(weight))
        wide = hidden.new_empty(shape.block, len(weight), dtype=torch.float32)
        ones = bool((target_weights[:count] == 1.0).all())
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            states, place = hidden[part], start % group
            logits = torch.mm(states, weight.T, out=held[place : place + size])
            for first in range(start, start + size, shape.block):
                rows = slice(first, min(first + shape.block, part.stop))
                of_rows = logits[rows.start - start : rows.stop - start]
                loss += _rows_loss(
                    wide[: len(of_rows)].copy_(of_rows),
                    of_rows,
                    bias,
                    target_ids[rows],
                    target_weights[rows],
                    shape,
                    weighted=not ones or rows.stop > count,
                    needs_slope=any(needs),
                )
            if to_hidden is not None:
                torch.mm(logits, weight, out=to_hidden[part])
            if to_bias is not None:
                to_bias += logits.sum(0, dtype=torch.float32)
            if to_values is not None:
                to_values += logits[:, numbers].T @ states
            if to_weight is not None and (place + size == group or part.stop == len(hidden)):
                to_weight += held[: place + size].T @ hidden[part.stop - place - size : part.stop]
        to_hidden = None if to_hidden is None else to_hidden[:count]
        ctx.save_for_backward(to_hidden, to_weight, to_bias, to_values)
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, weight, bias, values)]
        return loss

    @staticmethod
    def backward(ctx: Any, *outside: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = outside
        gradients = [
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        to_hidden, to_weight, to_bias, to_values = gradients
        return to_hidden, to_weight, to_bias, None, to_values, None, None, None


def _filled(tensor: Tensor, size: int) -> Tensor:
    """With zeros behind, up to a multiple of ``size``: rows of weight 0. On a CPU the first product of a new
    shape takes ten times as long as the next ones."""
    missing = -len(tensor) % size
    return torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])]) if missing else tensor


def _zeros(like: Tensor | None) -> Tensor | None:
    return None if like is None else torch.zeros_like(like, dtype=torch.float32)


def _rows_loss(
    z: Tensor,
    slope: Tensor,
    bias: Tensor | None,
    target_ids: Tensor,
    target_weights: Tensor,
    shape: _Shape,
    *,
    weighted: bool,
    needs_slope: bool,
) -> Tensor:
    """The weighted loss of some rows of logits. ``z`` and ``slope`` hold them as the head's product gives
    them, and are overwritten: ``slope`` by the loss's slope at them. Not ``weighted``: all weights are 1."""
    _behind_the_head(z, bias, shape)
    capped = z / shape.softcap if shape.softcap is not None and needs_slope else None
    targets = target_ids[:, None]
    torch.softmax(z, dim=1, out=z)
    shares = z.gather(1, targets)[:, 0]
    losses = -shares.log()
    if (shares < TINY).any():  # too small to be told from 0; rare, so that its cost does not matter
        again = _behind_the_head(slope.float(), bias, shape)
        losses = again.logsumexp(1) - again.gather(1, targets)[:, 0]
    if needs_slope:
        if weighted:
            z *= target_weights[:, None]
        z.scatter_add_(1, targets, -target_weights[:, None])
        if capped is not None:
            z *= 1 - capped.square()
        if shape.scale != 1.0:
            z *= shape.scale
        slope.copy_(z)
    return torch.dot(losses, target_weights)


def _behind_the_head(z: Tensor, bias: Tensor | None, shape: _Shape) -> Tensor:
    """What happens to logits behind the head's product, in place."""
    if bias is not None:
        z += bias
    if shape.scale != 1.0:
        z *= shape.scale
    if shape.softcap is not None:
        z.div_(shape.softcap).tanh_().mul_(shape.softcap)
    return z
