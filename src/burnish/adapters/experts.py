"""Where LoRA goes: linear layers by their modules, fused experts by their weights.

transformers keeps the experts of a mixture as weights (experts, out, in), without a module for each. peft
adapts such a weight as it is: to each expert its own product, W_e + s B_e A_e.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel

from burnish.adapters.targets import (
    chosen_layers,
    is_linear,
    linear_names,
    names_ending,
    shortest_endings,
    target_endings,
)
from burnish.config import AdapterConfig
from burnish.errors import ModelError
from burnish.model.layers import expert_weights
from burnish.model.quantize import is_quantized
from burnish.model.tally import Tally

ONLY_WITH = (("kind", "lora"), ("dropout", 0.0), ("init", ("default", "gaussian")))
"""Keys of the adapter section with the values that peft has for weights without a module."""


@dataclass(frozen=True)
class LoraTargets:
    """Endings of the names of modules, and of weights that are adapted without one."""

    modules: list[str]
    weights: list[str]


def lora_targets(model: PreTrainedModel, config: AdapterConfig) -> LoraTargets:
    """What ``config`` says of a model. Raises ``ModelError`` for what peft cannot adapt."""
    linear = linear_names(model)
    endings = target_endings(model, config) or shortest_endings(linear, _namesakes(model, linear))
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
    others = [name for name, _ in model.named_parameters()] if weights else []
    targets = LoraTargets(modules, shortest_endings(weights, others))
    _require_targets(model, config.kind, targets)
    return targets


def _require_targets(model: PreTrainedModel, kind: str, targets: LoraTargets) -> None:
    """Raises ``ModelError`` where peft has no adapter for some of the modules, or where the model reads their
    weights around them, as Mamba's does: naming those that work."""
    working = [ending for ending in targets.modules if _peft_takes(model, ending)]
    if working == targets.modules:
        return
    refused = ", ".join(ending for ending in targets.modules if ending not in working)
    called = _called(model)
    named = [e for e in working if any(n == e or n.endswith(f".{e}") for n in called)]
    raise ModelError(
        f"{kind} cannot go to {refused} of {type(model).__name__}",
        why="The model's code reads these weights around their layers, where no adapter would count.",
        fix=f"Name layers that work: adapter.targets=[{','.join(named)}]." if named else "Use another kind.",
    )


def _peft_takes(model: PreTrainedModel, ending: str) -> bool:
    try:
        _check_lora_target_modules_mamba(LoraConfig(), model, ending.rpartition(".")[2])
    except ValueError:
        return False
    return True


@torch.no_grad()
def _called(model: PreTrainedModel) -> list[str]:
    """The linear layers that are called when the model runs."""
    names, found = {id(module): name for name, module in model.named_modules()}, []
    hooks = [
        module.register_forward_hook(lambda module, *_: found.append(names[id(module)]))
        for module in model.modules()
        if is_linear(module)
    ]
    try:
        with Tally() if model.device.type == "meta" else nullcontext():
            model(input_ids=torch.zeros(1, 8, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def adapts_weights(model: nn.Module) -> bool:
    """Whether a model has adapters on weights without a module."""
    return any(isinstance(module, ParamWrapper) for module in model.modules())


def _namesakes(model: PreTrainedModel, linear: list[str]) -> list[str]:
    """Other modules whose names end as those of linear layers do."""
    known, ends = set(linear), {name.rpartition(".")[2] for name in linear}
    names = (name for name, _ in model.named_modules())
    return [name for name in names if name not in known and name.rpartition(".")[2] in ends]


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
