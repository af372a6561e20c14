"""The loss that training minimises, of what the model's head reads."""

from __future__ import annotations

from torch import Tensor

from burnish.loss import Rows, cross_entropy, linear_cross_entropy
from burnish.model.head import Features
from burnish.tokens import Batch


def next_token_loss(features: Features, batch: Batch) -> Tensor:
    """The batch's weighted negative log-likelihood in nats, summed: not yet divided by its count."""
    if features.weight is None:
        return cross_entropy(features.hidden, batch.target_ids, batch.target_weights)[0]
    rows = None
    if features.row_numbers is not None and features.row_values is not None:
        rows = Rows(features.row_numbers, features.row_values)
    return linear_cross_entropy(
        features.hidden,
        features.weight,
        batch.target_ids,
        batch.target_weights,
        bias=features.bias,
        scale=features.scale,
        softcap=features.softcap,
        rows=rows,
    )
