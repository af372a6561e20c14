"""Activations computed again in the backward pass instead of kept (Chen et al. 2016, arXiv:1604.06174)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from burnish.model.attention import current_flat_batch, flat_attention_over
from burnish.model.forward import FlatInput, Forward
from burnish.model.head import Features
from burnish.model.layers import layers_of, replaced_calls

Within = Callable[[nn.Module], AbstractContextManager[Any]]
"""What must stand around a layer whenever it runs."""


def recomputed(forward: Forward, within: Within = nullcontext) -> Forward:
    """``forward``, of which each layer keeps what goes into it and nothing else, and runs once more when its
    gradient is asked for: a third more arithmetic for a fraction of the memory. Each layer runs ``within``
    the given block both times, such as ``fused_lora``."""

    def run(model: PreTrainedModel, batch: FlatInput) -> Features:
        layers = layers_of(model)
        with replaced_calls(layers, [_call_of(model, layer, within) for layer in layers]):
            return forward(model, batch)

    return run


def _call_of(model: PreTrainedModel, layer: nn.Module, within: Within) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        batch = current_flat_batch()

        def again(*arguments: Any, **named: Any) -> Any:
            # In the backward pass the model's own call is over, and with it all that stood around the layer.
            around = nullcontext() if batch is None else flat_attention_over(model, batch)
            with around, within(layer):
                return layer._call_impl(*arguments, **named)

        return checkpoint(again, *arguments, use_reentrant=False, **named)

    return call
