"""The next-token objective."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, target_ids: Tensor, target_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted negative log-likelihood in nats, as (sum, count).

    ``logits`` (N, V) in any floating type, ``target_ids`` (N,) int64, ``target_weights`` (N,) fp32.
    Sum: ``-sum_i w_i log softmax(logits_i)[target_i]``; count: ``sum_i w_i``. The softmax is taken in
    fp32 whatever the type of the logits: bf16 has 8 bits of mantissa, too few for a sum over V terms.

    Two rows by hand: logits ``[[0, 0], [0, ln 3]]``, targets ``[0, 1]``, weights ``[1, 2]`` give
    ``ln 2 + 2 ln(4/3)`` and a count of 3.
    """
    losses = functional.cross_entropy(logits.float(), target_ids, reduction="none")
    return torch.dot(losses, target_weights), target_weights.sum()
