"""Models of any size that take no memory: built on the meta device from a config alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from burnish.errors import ModelError
from burnish.model.layers import layers_of
from burnish.model.load import locate
from burnish.model.origin import is_adapter
from burnish.model.quantize import FewBits, Kind


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
