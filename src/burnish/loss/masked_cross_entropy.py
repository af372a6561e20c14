"""The loss of a hand-written loop, on a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.errors import BurnishError
from burnish.loss.cross_entropy import cross_entropy


def masked_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The mean negative log-likelihood of the masked targets, in nats a token; a scalar with a gradient.

    ``logits`` (B, T, V) in any floating type, ``targets`` (B, T) of an integer type, ``mask`` (B, T): bool,
    or numbers from 0 up that say how much each target counts. The mean is
    ``sum_i mask_i (-log softmax(logits_i)[targets_i]) / sum_i mask_i``; the softmax is taken in fp32. A
    target outside the mask is not read, so it may be -100.

    Nothing is shifted: ``logits[b, t]`` is what predicts ``targets[b, t]``. A causal model predicts token
    t + 1 at place t, so of its logits the last are left out and of the labels the first::

        loss = masked_cross_entropy(logits[:, :-1], labels[:, 1:], labels[:, 1:] != -100)

    One row of two places by hand, V = 2: logits ``[[0, 0], [0, ln 3]]``, targets ``[0, 1]``. With the mask
    ``[1, 1]`` the mean is ``(ln 2 + ln 4/3) / 2``, with ``[0, 1]`` it is ``ln 4/3``.

    Raises ``BurnishError`` for shapes and types that are not these, for tensors on different devices, for a
    mask that lets nothing through or is not finite and at least 0, and for a target under the mask that is
    none of the V.
    """
    _require_shapes(logits, targets, mask)
    kept = mask != 0
    weights = mask[kept].float()
    if not len(weights):
        raise BurnishError(
            "the mask lets no target through",
            why="The mean over nothing is not a number, and would make all weights so.",
            fix="Leave out batches in which nothing is trained.",
        )
    if not bool((torch.isfinite(weights) & (weights > 0)).all()):
        raise BurnishError("the mask holds a number that is negative or not finite", fix="Give 0 or more.")
    wanted = targets[kept].long()
    low, high = int(wanted.min()), int(wanted.max())
    if low < 0 or high >= logits.shape[-1]:
        raise BurnishError(
            f"a target under the mask is {low if low < 0 else high}, of {logits.shape[-1]} classes",
            why="There is no logit for it.",
            fix="Mask it out (a label of -100 is not to be trained), or give the model the vocabulary of its "
            "tokenizer.",
        )
    loss, count = cross_entropy(logits[kept], wanted, weights)
    return loss / count


def _require_shapes(logits: Tensor, targets: Tensor, mask: Tensor) -> None:
    shapes = [tuple(tensor.shape) for tensor in (logits, targets, mask)]
    if len(shapes[0]) != 3 or shapes[1] != shapes[0][:2] or shapes[2] != shapes[0][:2]:
        raise BurnishError(
            f"logits {shapes[0]}, targets {shapes[1]} and mask {shapes[2]} do not fit together",
            why="A target is predicted by the logits at its own place.",
            fix="Give logits (B, T, V), targets (B, T) and a mask (B, T).",
        )
    if not logits.is_floating_point() or targets.is_floating_point() or targets.dtype == torch.bool:
        raise BurnishError(
            f"logits are {logits.dtype} and targets {targets.dtype}",
            fix="Give logits of a floating type and targets of an integer type, in this order.",
        )
    devices = {tensor.device for tensor in (logits, targets, mask)}
    if len(devices) > 1:
        raise BurnishError(
            f"logits are on {logits.device}, targets on {targets.device}, the mask on {mask.device}",
            fix="Put all three on one device.",
        )
