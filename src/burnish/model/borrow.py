"""A model that a program holds in memory, as something to train that leaves it as it was."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.quantize import is_quantized

DTYPE_NAMES: dict[torch.dtype, Literal["float32", "bfloat16"]] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
}
"""By these names a config knows the types that are trained in."""


@torch.no_grad()
def borrow(
    model: PreTrainedModel, *, own_weights: bool, dtype: torch.dtype | None = None, device: str | None = None
) -> PreTrainedModel:
    """Modules of a model's class and config with its weights in them, as if it had been loaded.

    So nothing that is put into them, such as an adapter, is put into the model; and nothing that was done to
    the model's own modules (hooks, a trainer's ``forward`` in the place of its class's) is trained, since
    nothing of that would be saved. The weights are shared unless ``own_weights`` says that the copy's will be
    trained, and frozen in the copy alone. ``dtype`` and ``device`` are the copy's; unset: those of the model.
    Raises ``ModelError`` for what cannot be trained so.
    """
    require_whole(model)
    home, kind = torch.device(device or model.device), dtype or model.dtype
    copied = _blank_copy(model)
    weights: dict[int, nn.Parameter] = {}  # by the original: what is tied there is tied here
    for name, module in copied.named_modules():
        original = model.get_submodule(name)
        for key, weight in original._parameters.items():
            if weight is None:
                continue
            new = kind if weight.dtype == model.dtype else weight.dtype
            values = weight.detach().to(home, new, copy=own_weights)
            module._parameters[key] = weights.setdefault(
                id(weight), nn.Parameter(values, requires_grad=False)
            )
        for key, buffer in original._buffers.items():
            if buffer is not None:
                module._buffers[key] = buffer.detach().to(home, copy=True)
        for key, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_meta:  # such as a rotary table
                setattr(module, key, vars(original)[key].detach().to(home, copy=True))
    return copied.eval()


def _blank_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The model that its class makes of its config, without weights. Raises ``ModelError`` where its modules
    are others than the model's."""
    why = "Such a model could not be loaded again from what is saved of it: its config and its weights."
    fix = "Hand over a model of transformers as from_pretrained returns it."
    try:
        with torch.device("meta"):
            copied: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    except Exception as error:  # whatever a class of a user's own may raise
        what = f"no {type(model).__name__} can be made of its config: {error}"
        raise ModelError(what, why=why, fix=fix) from error
    ours, theirs = (_shape_of(one) for one in (copied, model))
    if ours != theirs:
        other = min(ours ^ theirs)[0] or type(model).__name__
        what = f"the model in memory is not the one that its config describes: {other}"
        raise ModelError(what, why=why, fix=fix)
    copied.generation_config = copy.deepcopy(model.generation_config)
    return copied


def _shape_of(model: nn.Module) -> set[tuple[str, ...]]:
    """What its modules and its weights are, by name."""
    modules = {(name, str(type(module))) for name, module in model.named_modules()}
    weights = model.named_parameters(remove_duplicate=False)
    return modules | {(name, str(tuple(weight.shape))) for name, weight in weights}


def require_whole(model: PreTrainedModel) -> None:
    """Raises ``ModelError`` for a model in memory that is none of transformers', has an adapter in it, is
    quantized, or stands on several devices or on none."""
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"a {type(model).__name__} is no model of transformers",
            fix="Hand over what AutoModelForCausalLM.from_pretrained returns: of peft's wrapper, "
            "wrapper.merge_and_unload(); of a compiled model, the one that was compiled.",
        )
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ModelError(
            "the model in memory has an adapter in its layers",
            why="An adapter on an adapter could not be loaded again by other tools.",
            fix="Merge it into the weights first, or load the base anew.",
        )
    if getattr(model, "is_quantized", False) or any(map(is_quantized, model.modules())):
        raise ModelError("the model in memory is quantized", fix="Give its name, and set model.quantize.")
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) > 1 or torch.device("meta") in devices:
        where = ", ".join(sorted(map(str, devices)))
        raise ModelError(
            f"the model in memory stands on {where}", fix="Load it onto one device, without device_map."
        )


@torch.no_grad()
def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 of a model's weights, by name, type, shape and content, in hex."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


@torch.no_grad()
def holds_weights_of(model: PreTrainedModel, folder: Path) -> bool:
    """Whether each weight of the model is the one in the folder's safetensors, in the model's type."""
    left = dict(model.state_dict(keep_vars=True))
    found = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                weight = left.pop(name, None)
                if weight is None or not _same(weight, file.get_tensor(name)):
                    return False
                found.add(id(weight))
    return bool(found) and all(id(weight) in found for weight in left.values())  # such as a head that is tied


def _same(weight: Tensor, written: Tensor) -> bool:
    return weight.shape == written.shape and torch.equal(weight.detach().cpu(), written.to(weight.dtype))
