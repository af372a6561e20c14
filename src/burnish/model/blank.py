"""Models of any size that take no memory: built on the meta device from a config alone."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from burnish.model.layers import layers_of
from burnish.model.load import opening
from burnish.model.quantize import Kind, MetaQuantizedLinear


def blank_model(config: PretrainedConfig, dtype: torch.dtype, quantize: Kind = "none") -> PreTrainedModel:
    """The causal language model of this shape, on the meta device. Raises ``ModelError`` where there is
    none."""
    with (
        opening(f"a {config.model_type} is no causal language model that transformers knows"),
        torch.device("meta"),
    ):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=False
        )
    if quantize != "none":
        for layer in layers_of(model):
            for name, module in list(layer.named_modules()):
                if type(module) is nn.Linear:
                    parent, _, last = name.rpartition(".")
                    setattr(layer.get_submodule(parent), last, MetaQuantizedLinear(module, quantize))
    return model
