"""Models of any size that take no memory: built on the meta device from a config alone."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from burnish.model.layers import layers_of
from burnish.model.load import opening
from burnish.model.quantize import Kind, MetaQuantizedLinear, can_be_quantized, quantized_share


def blank_model(config: PretrainedConfig, dtype: torch.dtype, quantize: Kind = "none") -> PreTrainedModel:
    """The causal language model of this shape, on the meta device. Raises ``ModelError`` where there is
    none, or nothing of it to quantize."""
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
                if can_be_quantized(module):
                    parent, _, last = name.rpartition(".")
                    setattr(layer.get_submodule(parent), last, MetaQuantizedLinear(module, quantize))
        quantized_share(model, quantize)  # none is an error
    return model
