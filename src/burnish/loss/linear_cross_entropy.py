"""The next-token objective from hidden states: the head's product and its loss, a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 8 * 2**20
"""Bytes of logits held at a time: the product, the softmax and the products back then run in the cache."""


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
    fp32; cap(z) = softcap tanh(z / softcap). ``chunk``: rows at a time, by default as many as keep the logits
    in the cache. ``rows``: with it the weight gets no gradient, but they do.

    The gradient is taken in the forward pass, while the logits of a chunk are there, and scaled by what comes
    from behind: d loss / d z_ij = w_i (softmax(z_i)_j - [j = target_i]). So nothing is computed twice.
    The products are of the type of ``hidden``, the softmax of fp32, and so is the sum of the weight's
    gradients over the chunks.
    """
    size = chunk or max(1, CHUNK_BYTES // (4 * len(weight)))
    shape = _Shape(scale, softcap, size, torch.is_grad_enabled())
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
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = _zeros(weight) if needs_weight else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias and bias is not None else None
        to_values = (
            torch.zeros_like(values, dtype=torch.float32) if needs_values and values is not None else None
        )
        for start in range(0, len(hidden), shape.chunk):
            part = slice(start, start + shape.chunk)
            states = hidden[part]
            logits = states @ weight.T
            summed, slope = _chunk(logits, bias, target_ids[part], target_weights[part], shape, any(needs))
            loss += summed
            if slope is None:
                continue
            if to_hidden is not None:
                torch.mm(slope, weight, out=to_hidden[part])
            if to_weight is not None:
                to_weight += slope.T @ states
            if to_bias is not None:
                to_bias += slope.sum(0, dtype=torch.float32)
            if to_values is not None:
                to_values += slope[:, numbers].T @ states
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


def _zeros(like: Tensor | None) -> Tensor | None:
    return None if like is None else torch.zeros_like(like, dtype=torch.float32)


def _chunk(
    logits: Tensor,
    bias: Tensor | None,
    target_ids: Tensor,
    target_weights: Tensor,
    shape: _Shape,
    needs_slope: bool,
) -> tuple[Tensor, Tensor | None]:
    """The weighted loss of some rows, and its slope by their logits as the head's product gives them."""
    z = logits.float()
    if bias is not None:
        z = z + bias
    if shape.scale != 1.0:
        z = z * shape.scale
    capped = None
    if shape.softcap is not None:
        capped = torch.tanh(z / shape.softcap)
        z = capped * shape.softcap
    targets = target_ids[:, None]
    log_sum = torch.logsumexp(z, dim=1, keepdim=True)
    loss = torch.dot((log_sum - z.gather(1, targets))[:, 0], target_weights)
    if not needs_slope:
        return loss, None
    slope = (z - log_sum).exp_().mul_(target_weights[:, None])
    slope.scatter_add_(1, targets, -target_weights[:, None])
    if capped is not None:
        slope = slope * (1 - capped.square())
    if shape.scale != 1.0:
        slope = slope * shape.scale
    return loss, slope.to(logits.dtype)
