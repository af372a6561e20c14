"""Where LoRA goes: linear layers by their modules, fused experts by their weights.

transformers keeps the experts of a mixture as weights (experts, out, in), without a module for each. peft
adapts such a weight as it is: to each expert its own product, W_e + s B_e A_e.
"""

from __future__ import annotations

from dataclasses import dataclass

from peft import LoraConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel

from burnish.adapters.targets import (
    chosen_layers,
    linear_names,
    names_ending,
    shortest_endings,
    target_endings,
)
from burnish.config import AdapterConfig
from burnish.errors import ModelError
from burnish.model.layers import expert_weights
from burnish.model.quantize import is_quantized

ONLY_WITH = (("kind", "lora"), ("dropout", 0.0), ("init", ("default", "gaussian")))
"""Keys of the adapter section with the values that peft has for weights without a module."""


@dataclass(frozen=True)
class LoraTargets:
    """Endings of the names of modules, and of weights that are adapted without one."""

    modules: list[str]
    weights: list[str]


def lora_targets(model: PreTrainedModel, config: AdapterConfig) -> LoraTargets:
    """What ``config`` says of a model. Raises ``ModelError`` for what peft cannot adapt."""
    endings = target_endings(model, config) or shortest_endings(linear_names(model), _other_modules(model))
    linear = linear_names(model)
    if config.targets in ("auto", "all-linear"):
        weights = list(expert_weights(model))
    else:
        weights = [name for name in names_ending(model, endings) if name not in linear]
    # Of some mixtures peft takes a layer's name for that of experts as they were once kept.
    taken = [ending for ending in endings if _names_old_experts(model, ending)]
    apart = [name for name in names_ending(model, taken) if name in linear] if taken else []
    weights = chosen_layers(model, config.layers, [*weights, *(f"{name}.weight" for name in apart)])
    modules = [e for e in endings if e not in taken and any(n == e or n.endswith(f".{e}") for n in linear)]
    if weights:
        _require_plain(model, config, apart)
    others = [name for name, _ in model.named_parameters()]
    return LoraTargets(modules, shortest_endings(weights, others))


def adapts_weights(model: nn.Module) -> bool:
    """Whether a model has adapters on weights without a module."""
    return any(isinstance(module, ParamWrapper) for module in model.modules())


def _other_modules(model: PreTrainedModel) -> list[str]:
    linear = set(linear_names(model))
    return [name for name, _ in model.named_modules() if name and name not in linear]


def _names_old_experts(model: PreTrainedModel, ending: str) -> bool:
    settings = LoraConfig(task_type="CAUSAL_LM", target_modules=[ending])
    try:
        convert_peft_config_for_transformers(settings, model, None)
    except ValueError:  # it wants the other half of what is fused
        return True
    return set(settings.target_modules) != {ending}


def _require_plain(model: PreTrainedModel, config: AdapterConfig, layers: list[str]) -> None:
    """Raises ``ModelError`` for what peft has for modules only."""
    for key, fine in ONLY_WITH:
        value = getattr(config, key)
        if value != fine and not (isinstance(fine, tuple) and value in fine):
            raise ModelError(
                f"adapter.{key} {value} is not for the fused experts of {type(model).__name__}",
                why="Its experts are weights without layers of their own, on which peft has plain lora only.",
                fix="Use adapter.targets=attention, or plain lora (adapter.kind=lora, no dropout, no init).",
            )
    packed = [name for name in layers if is_quantized(model.get_submodule(name))]
    if packed:
        raise ModelError(
            f"lora cannot go to {packed[0]} of {type(model).__name__} while it is quantized",
            why="peft takes its name for that of experts, and adapts it as a weight, which is packed here.",
            fix="Use adapter.targets=attention, or leave model.quantize out.",
        )
