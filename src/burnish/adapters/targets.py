"""Which modules of a model an adapter goes to, found by what they are and not by each family's names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from burnish.errors import ConfigError, ModelError
from burnish.model.layers import layers_of

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
    """The full names of the linear layers within the model's layers."""
    names = {id(module): name for name, module in model.named_modules()}
    return [
        names[id(module)] for layer in layers_of(model) for module in layer.modules() if is_linear(module)
    ]


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
    """The linear layers whose names end in one of these; each must be the end of some."""
    names = linear_names(model)
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
