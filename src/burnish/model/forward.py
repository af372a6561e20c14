"""Logits where they are needed, from flat batches; padded batches for models that cannot have flat ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from burnish.model.attention import FLAT, SegmentLike, attention


class FlatInput(Protocol):
    """What a forward pass reads of a batch; shapes as in ``tokens.Batch``."""

    @property
    def input_ids(self) -> Tensor: ...
    @property
    def position_ids(self) -> Tensor: ...
    @property
    def segments(self) -> Sequence[SegmentLike]: ...
    @property
    def target_positions(self) -> Tensor: ...


Forward = Callable[[PreTrainedModel, FlatInput], Tensor]
"""(model, batch) -> logits (N, V) at the batch's N target positions."""


def flat_logits(model: PreTrainedModel, batch: FlatInput) -> Tensor:
    """The batch as one row of T tokens; the head is applied at the target positions only."""
    with attention(model, FLAT):
        output = model(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            segments=batch.segments,
            logits_to_keep=batch.target_positions,
            use_cache=False,
        )
    logits: Tensor = output.logits[0]
    return logits


def padded_logits(model: PreTrainedModel, batch: FlatInput) -> Tensor:
    """The batch with a row a document, padded on the right behind every real token."""
    device = batch.input_ids.device
    lengths = torch.tensor([segment.length for segment in batch.segments], device=device)
    rows = pad_sequence(list(batch.input_ids.split(lengths.tolist())), batch_first=True)
    real = torch.arange(rows.shape[1], device=device)[None] < lengths[:, None]
    logits: Tensor = model(input_ids=rows, attention_mask=real.long(), use_cache=False).logits
    return logits[real][batch.target_positions]


@torch.no_grad()
def choose_forward(model: PreTrainedModel, batch: FlatInput) -> tuple[Forward, str]:
    """Flat if this model gives the logits that it gives for each document alone, padded if it does not.

    Returns the way and, for padded, why. The tolerance is that of the arithmetic: a leak between
    documents moves logits by whole units, rounding by a few steps of the type at their magnitude.
    """
    model.eval()
    try:
        flat = flat_logits(model, batch).float()
    except (NotImplementedError, TypeError, ValueError) as error:
        return padded_logits, f"flat batches do not run on {type(model).__name__} ({error})"
    alone = padded_logits(model, batch).float()
    step = torch.finfo(model.dtype).eps
    allowed = 8 * step * alone.abs().max().clamp(min=1.0)
    worst = (flat - alone).abs().max()
    if bool(worst <= allowed):
        return flat_logits, ""
    return padded_logits, f"packed logits differ by {worst:.2g} (rounding would explain {allowed:.2g})"
