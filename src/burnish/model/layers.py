"""The blocks of attention and MLP that a model consists of, and how another call is put in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The model's layers: the units that transformers marks, in all of its families, for recomputation."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


@contextmanager
def replaced_calls(layers: Sequence[nn.Module], calls: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Within the block each layer runs the call in its place. It stands where ``nn.Module.compile`` would put
    it, so that what surrounds the layer notices nothing."""
    for layer, call in zip(layers, calls, strict=True):
        layer._compiled_call_impl = call
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
