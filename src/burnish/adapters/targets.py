"""Which modules of a model an adapter goes to, found by what they are and not by each family's names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from burnish.config import AdapterConfig
from burnish.errors import ConfigError, ModelError
from burnish.model.layers import expert_weights, expert_weights_of, layers_of

KEYS_AND_VALUES = re.compile(r"(^|_)(k|v|kv|qkv|key|value|key_value)(_|$)|^c_attn$|^Wqkv$")
"""Names of the linear layers that give attention its keys or values, those that give its queries too among
them (GPT-2's ``c_attn``, Phi-3's ``qkv_proj``)."""


def layer_numbers(text: str | None, count: int) -> list[int]:
    """``0-2,5`` of a model of ``count`` layers: [0, 1, 2, 5]; None: all of them."""
    if text is None:
        return list(range(count))
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    if beyond := sorted(number for number in numbers if number >= count):
        raise ConfigError(
            f"adapter.layers: there is no layer {beyond[0]}",
            why=f"The model has {count} layers, numbered from 0 to {count - 1}.",
        )
    return sorted(numbers)


def is_linear(module: nn.Module) -> bool:
    """Quantized ones are linear layers too, and GPT-2's are transposed."""
    return isinstance(module, nn.Linear | Conv1D)


def linear_names(model: PreTrainedModel) -> list[str]:
    """The full names of the linear layers within the model's layers, routers left out."""
    names = {id(module): name for name, module in model.named_modules()}
    left_out = {id(router) for router in routers(model)}
    return [
        names[id(module)]
        for layer in layers_of(model)
        for module in layer.modules()
        if is_linear(module) and id(module) not in left_out
    ]


def routers(model: PreTrainedModel) -> list[nn.Module]:
    """The linear layers of mixtures that weigh experts: beside fused experts, and as wide as there are of
    them, or 1 wide. What they choose is as discrete as a token; an adapter there would move tokens to experts
    that know nothing of them."""
    found = []
    for layer in layers_of(model):
        for block in layer.modules():
            beside = [expert_weights_of(child).values() for child in block.children()]
            counts = {weight.shape[0] for weights in beside for weight in weights}
            if counts:
                wide = {1, *counts}
                found += [m for m in block.modules() if is_linear(m) and _shape(m)[1] in wide]
    return found


def chosen_layers(model: PreTrainedModel, layers: str | None, names: Sequence[str]) -> list[str]:
    """Those of the names, of modules or of weights, that are in the layers of these numbers."""
    if layers is None:
        return list(names)
    paths = {id(module): name for name, module in model.named_modules()}
    all_layers = layers_of(model)
    inside = [f"{paths[id(all_layers[number])]}." for number in layer_numbers(layers, len(all_layers))]
    return [name for name in names if any(name.startswith(start) for start in inside)]


def target_endings(model: PreTrainedModel, config: AdapterConfig) -> list[str] | None:
    """Endings of the names of what is to be adapted; None for all linear layers. Raises ``ModelError`` where
    there is no such thing."""
    if config.targets == "attention":
        names = attention_names(model)
        if not names:
            raise ModelError(
                f"adapter.targets: no attention was found in {type(model).__name__}",
                fix="Name linear layers, or use all-linear.",
            )
        return shortest_endings(names, linear_names(model))
    if isinstance(config.targets, tuple):
        names_ending(model, config.targets)  # each must be there
        return list(config.targets)
    return None


def attention_names(model: PreTrainedModel) -> list[str]:
    """The full names of those within attention."""
    names = {id(module): name for name, module in model.named_modules()}
    return [
        names[id(module)]
        for layer in layers_of(model)
        for half in layer.children()
        if "attention" in type(half).__name__.lower()
        for module in half.modules()
        if is_linear(module)
    ]


def ia3_names(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """What IA3 scales (Liu et al. 2022, arXiv:2205.05638): the keys and values that come out of attention's
    layers, and what goes into the MLP's last layer. Returns both lists of names."""
    attention = attention_names(model)
    scaled_behind = [name for name in attention if KEYS_AND_VALUES.search(_last(name))]
    width = model.get_input_embeddings().weight.shape[1]
    modules = dict(model.named_modules())
    scaled_before = [
        name
        for name in linear_names(model)
        if name not in attention and (shape := _shape(modules[name]))[1] == width and shape[0] > width
    ]
    if not scaled_before and expert_weights(model):
        raise ModelError(
            f"IA3 has no scales for the fused experts of {type(model).__name__}",
            why="It scales what goes into the MLP's last layer, and the experts have no layers of their own.",
            fix="Use adapter.kind=lora.",
        )
    if not scaled_behind or not scaled_before:
        raise ModelError(
            f"what IA3 would scale in {type(model).__name__} was not found",
            why="It looks for layers of attention named after keys and values, and for the MLP's last layer.",
            fix="Name linear layers in adapter.targets: what goes into those of the MLP is scaled.",
        )
    return scaled_behind, scaled_before


def shortest_endings(wanted: Sequence[str], others: Sequence[str]) -> list[str]:
    """The fewest and shortest endings of the wanted names that no other name has: ``q_proj``, or where that
    does not do ``attn.c_proj``. Tools that read an adapter expect short names."""
    unwanted = set(others) - set(wanted)
    endings = set()
    for name in wanted:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            ending = ".".join(parts[-length:])
            if not any(other == ending or other.endswith(f".{ending}") for other in unwanted):
                endings.add(ending)
                break
    return sorted(endings)


def names_ending(model: PreTrainedModel, endings: Sequence[str]) -> list[str]:
    """The linear layers and fused experts whose names end in one of these; each must be the end of some."""
    names = [*linear_names(model), *expert_weights(model)]
    for ending in endings:
        if not any(_ends(name, ending) for name in names):
            known = ", ".join(sorted({_last(name) for name in names}))
            raise ModelError(
                f"adapter.targets: no linear layer of {type(model).__name__} is named {ending}",
                fix=f"Name some of these, or use all-linear: {known}.",
            )
    return [name for name in names if any(_ends(name, ending) for ending in endings)]


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shape(module: Any) -> tuple[int, int]:
    """(in, out) of a linear layer, whose weight may be packed."""
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.nf)
    return int(module.in_features), int(module.out_features)
