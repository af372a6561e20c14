"""Trained vectors in front of a text: prompt tuning and prefix tuning, in flat batches.

Prompt tuning (Lester et al. 2021, arXiv:2104.08691) puts embeddings before the text's. In a flat batch they
stand once, as a segment that is the parent of every document. Prefix tuning (Li and Liang 2021,
arXiv:2101.00190) gives each layer keys and values that stand before the text's; attention reads them in front
of each document. Either way a text's positions begin behind them, as peft has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.attention import Prefix


@dataclass(frozen=True)
class Virtual:
    """``count`` n virtual tokens: embeddings (n, H), or keys and values by layer."""

    count: int
    embeddings: Tensor | None = None
    prefix: Prefix | None = None


def virtual_count(model: nn.Module) -> int:
    """Virtual tokens before each text; they take positions."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return int(model.active_peft_config.num_virtual_tokens)
    return 0


def without_virtual(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with nothing before its texts."""
    return model.get_base_model() if virtual_count(model) else model


def virtual_of(model: PreTrainedModel) -> Virtual | None:
    """What stands before each text of a model, in the type of its weights; None where nothing does."""
    count = virtual_count(model)
    if not count:
        return None
    config = model.active_peft_config
    vectors = model.prompt_encoder[model.active_adapter].embedding.weight.to(model.dtype)
    if config.peft_type == PeftType.PROMPT_TUNING:
        return Virtual(count, embeddings=vectors)
    if config.peft_type != PeftType.PREFIX_TUNING:
        raise NotImplementedError(f"peft's {config.peft_type.value} is not laid flat")
    heads = config.num_attention_heads
    # As peft lays them out: a row a virtual token, and in it a layer's keys, its values, the next layer's.
    layers = vectors.view(count, config.num_layers, 2, heads, -1).permute(1, 2, 3, 0, 4)
    return Virtual(count, prefix=[(layer[0], layer[1]) for layer in layers])


@torch.no_grad()
def begin_as_text(model: Any, encoder: Any, count: int) -> None:
    """Let a prefix begin as the keys and values of some text, random tokens here: from random vectors it
    learns slowly and forgets much (Li and Liang, section 7.4)."""
    if model.device.type == "meta":
        return
    table = model.get_input_embeddings().weight
    tokens = torch.randint(0, table.shape[0], (1, count)).to(table.device)
    cache = model(input_ids=tokens, use_cache=True).past_key_values
    layers = [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
    rows = torch.stack(layers).permute(3, 0, 1, 2, 4).reshape(count, -1)  # layer, 2, heads, n, width
    encoder.embedding.weight.copy_(rows)
