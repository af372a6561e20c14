"""Models of any size that take no memory: built on the meta device from a config alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from burnish.errors import ModelError
from burnish.model.layers import layers_of
from burnish.model.load import is_adapter, locate
from burnish.model.quantize import Kind

BLOCK, OUTER = 64, 256
"""Weights under one 8-bit scale of NF4, and scales under one of fp32."""


def shape_of(name: str, revision: str | None = None) -> PretrainedConfig:
    """The config of a model: of a name as ``load_model`` takes it, or of a folder with config.json alone."""
    folder = Path(name)
    alone = (folder / "config.json").is_file() and not (folder / "config.yaml").exists()
    place = str(folder) if alone else locate(name)
    if is_adapter(place):
        raise ModelError(f"{name} is an adapter, not a whole model", fix="Name its base.")
    try:
        return AutoConfig.from_pretrained(place, revision=revision, local_files_only=Path(place).is_dir())
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name} has no config that loads: {reason}",
            fix="Give a folder with config.json, a Hub id (owner/name) or pebble, that transformers knows.",
        ) from error


def blank_model(config: PretrainedConfig, dtype: torch.dtype, quantize: Kind = "none") -> PreTrainedModel:
    """The causal language model of this shape, on the meta device. ``ModelError`` where there is none."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except (ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"a {config.model_type} is no causal language model that transformers knows: {reason}"
        ) from error
    if quantize != "none":
        for layer in layers_of(model):
            for name, module in list(layer.named_modules()):
                if type(module) is nn.Linear:
                    parent, _, last = name.rpartition(".")
                    setattr(layer.get_submodule(parent), last, FewBits(module, quantize))
    return model


class FewBits(nn.Linear):
    """In the place of a layer of packed weights: it takes as much while it computes. See ``quantize``."""

    def __init__(self, plain: nn.Linear, kind: Kind) -> None:
        super().__init__(
            plain.in_features, plain.out_features, plain.bias is not None, "meta", plain.weight.dtype
        )
        self.kind = kind

    @property
    def bytes(self) -> float:
        """NF4: half a byte a weight, and of each block a scale of one byte and its part of an fp32 one."""
        count = self.weight.numel()
        rest = 0 if self.bias is None else self.bias.nbytes
        if self.kind == "int8":
            return count + 4 * self.out_features + rest
        return count / 2 + count / BLOCK * (1 + 4 / OUTER) + rest

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]

    def whole(self) -> Tensor:
        if self.kind == "int8":
            return (self.weight.float() * self.weight.new_empty((), dtype=torch.float32)).to(
                self.weight.dtype
            )
        return torch.empty_like(self.weight)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FewBits) -> Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.whole(), layer.bias)

    @staticmethod
    def backward(ctx: Any, *outside: Tensor) -> tuple[Tensor, None]:
        return outside[0] @ ctx.layer.whole(), None


def weight_bytes(model: nn.Module) -> float:
    """Bytes of all parameters, packed ones as they are kept."""
    packed = [module for module in model.modules() if isinstance(module, FewBits)]
    theirs = {id(weight) for module in packed for weight in module.parameters(recurse=False)}
    plain: int = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in theirs)
    return plain + sum(module.bytes for module in packed)
