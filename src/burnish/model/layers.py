"""The blocks of attention and MLP that a model consists of, and how another call is put in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The model's layers: the units that transformers marks, in all of its families, for recomputation."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def expert_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The fused experts within a model's layers, by name: the weights (experts, out, in), or transposed, that
    stand for a linear layer of each expert."""
    names = {id(module): name for name, module in model.named_modules()}
    return {
        f"{names[id(module)]}.{name}": weight
        for layer in layers_of(model)
        for module in layer.modules()
        for name, weight in expert_weights_of(module).items()
    }


def expert_weights_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """Those that a module has itself, by their names in it."""
    if isinstance(module, _ConvNd):  # whose kernels have three dimensions too
        return {}
    return {name: weight for name, weight in module.named_parameters(recurse=False) if weight.ndim == 3}


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
