"""An adapter added into the weights of its base: W + s B A, or what its method makes of W."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.adapters.folder import kind_of
from burnish.errors import ModelError

WRAPPERS = (BaseTunerLayer, AuxiliaryTrainingWrapper)
"""What peft puts in the place of a layer."""

NO_WEIGHT = {
    "prompt": "it is embeddings in front of the text: there is no weight to add them to",
    "prefix": "it is keys and values in front of the text: there is no weight to add them to",
    "bottleneck": "its networks are functions that are not linear: no weight does the same",
}
"""Methods that stay beside their base, and why."""


def require_mergeable(folder: Path) -> None:
    """Raises ``ModelError`` for an adapter that cannot become part of weights."""
    kind = kind_of(folder)
    if kind in NO_WEIGHT:
        raise ModelError(
            f"{folder} is of the kind {kind}, which cannot be merged",
            why=f"With this method, {NO_WEIGHT[kind]}.",
            fix="Use it as it is, on its base; for one folder of weights train with lora, dora or ia3.",
        )


def adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that peft has replaced, by their names in the base."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, WRAPPERS) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


@torch.no_grad()
def merge_adapter(
    model: PreTrainedModel,
    dtype: torch.dtype,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Turn a base with an adapter in its layers into a plain model of the type ``dtype``, in place.

    Each layer is added up in fp32 and cast at once, so that no more than one of them is held in fp32. Trained
    rows of tokens and modules that were trained whole take the place of the base's. A head that is its
    embedding table stays so, unless the adapter made one differ from the other.
    """
    tables, found = _shared(model), adapted_layers(model)
    for done, (name, layer) in enumerate(found.items(), 1):
        model.set_submodule(name, _merged(layer.float(), tables).to(dtype=dtype))
        progress(done, len(found))
    model.to(dtype)
    head = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False
    if hasattr(model, "peft_config"):
        del model.peft_config  # it is a plain model now


def _shared(model: nn.Module) -> set[int]:
    """Weights that several modules have in common."""
    counts = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    return {weight for weight, count in counts.items() if count > 1}


def _merged(layer: Any, shared: set[int]) -> nn.Module:
    """The plain layer that does what the adapted one did."""
    plain: Any
    try:
        if isinstance(layer, AuxiliaryTrainingWrapper | ParamWrapper):
            plain = layer.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
        else:
            plain = layer.get_base_layer()
            if id(plain.weight) in shared:  # the other one was not adapted
                plain.weight = nn.Parameter(plain.weight.clone())
            layer.merge(safe_merge=True)
    except (NotImplementedError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the adapter cannot be merged: {lines[0]}",
            why="Its method cannot be made part of weights, or its weights are not finite.",
            fix="Use it as it is, beside its base.",
        ) from error
    return cast(nn.Module, plain)


def divergence(live: Tensor, merged: Tensor) -> Tensor:
    """KL(live || merged) in nats at each position, of logits (N, V)."""
    before, after = live.double().log_softmax(-1), merged.double().log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1)
