"""Houlsby's bottleneck adapters: small networks behind each half of a layer.

    h + U gelu(D h + b) + c        D (width, H), U (H, width)

where h is what attention or the MLP gives to the residual stream (Houlsby et al. 2019, arXiv:1902.00751). U
and c start at zero, so that at first the model is its base exactly. peft has no such method; the folder that
is written has its layout and file names, and burnish reads it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from burnish.adapters.targets import is_linear, layer_numbers
from burnish.config import AdapterConfig
from burnish.errors import ModelError
from burnish.model.layers import expert_weights_of, layers_of

NAME = "bottleneck"
"""Of the network within its half of a layer."""


class Bottleneck(nn.Module):
    """The network. ``like``: (..., H), of the type and on the device that it gets."""

    def __init__(self, width: int, dropout: float, like: Tensor) -> None:
        super().__init__()
        size = like.shape[-1]
        kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self.down, self.up = nn.Linear(size, width, **kind), nn.Linear(width, size, **kind)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def added(self, hidden: Tensor) -> Tensor:
        """What it adds to its input, of the same shape."""
        result: Tensor = self.up(functional.gelu(self.down(self.dropout(hidden))))
        return result

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.added(hidden)


def add_bottlenecks(model: PreTrainedModel, config: AdapterConfig) -> None:
    """Freeze ``model`` and put a network behind each half of its layers, which keep their own names."""
    model.requires_grad_(False)
    like = model.get_input_embeddings().weight
    layers = layers_of(model)
    chosen = [layers[number] for number in layer_numbers(config.layers, len(layers))]
    halves = [half for layer in chosen for half in _halves(layer, config)]
    if not halves:
        raise ModelError(
            f"adapter.targets: {type(model).__name__} has no such half of a layer",
            fix="Use all-linear for attention and the MLP, or attention, or name modules such as mlp.",
        )
    for half in halves:
        half.add_module(NAME, Bottleneck(config.width, config.dropout, like))
        half.register_forward_hook(_through_the_network)


def bottlenecks_of(model: nn.Module) -> list[Bottleneck]:
    return [module for module in model.modules() if isinstance(module, Bottleneck)]


def _halves(layer: nn.Module, config: AdapterConfig) -> list[nn.Module]:
    """Attention and the MLP of a layer: what of it has weights and is no norm."""
    found = []
    for name, half in layer.named_children():
        attention = "attention" in type(half).__name__.lower()
        if is_linear(half) or not _multiplies(half):
            continue
        if isinstance(config.targets, tuple):
            wanted = name in config.targets
        else:
            wanted = attention or config.targets != "attention"
        if wanted:
            found.append(half)
    return found


def _multiplies(half: nn.Module) -> bool:
    """Whether it has linear layers, or fused experts."""
    return any(is_linear(module) or expert_weights_of(module) for module in half.modules())


def _through_the_network(half: nn.Module, _: Any, output: Any) -> Any:
    """The hook behind a half. Attention returns more than hidden states, some MLPs too."""
    network = getattr(half, NAME)
    if isinstance(output, torch.Tensor):
        return network(output)
    return network(output[0]), *output[1:]
