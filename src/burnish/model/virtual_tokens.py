"""What peft puts before each text of a model, as the flat pass reads it.

Embeddings stand in a flat batch once, as a segment that is the parent of every document; keys and values are
read by attention in front of each document. Either way a text's positions begin behind them, as peft has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from peft import PeftModel, PeftType
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.attention import Prefix


@dataclass(frozen=True)
class VirtualTokens:
    """``count`` n virtual tokens: embeddings (n, H), or keys and values by layer."""

    count: int
    embeddings: Tensor | None = None
    prefix: Prefix | None = None


def virtual_count(model: nn.Module) -> int:
    """Virtual tokens before each text; they take positions."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return int(model.active_peft_config.num_virtual_tokens)
    return 0


def virtual_of(model: PreTrainedModel) -> VirtualTokens | None:
    """What stands before each text of a model, in the type of its weights; None where nothing does."""
    count = virtual_count(model)
    if not count:
        return None
    config = model.active_peft_config
    vectors = model.prompt_encoder[model.active_adapter].embedding.weight.to(model.dtype)
    if config.peft_type == PeftType.PROMPT_TUNING:
        return VirtualTokens(count, embeddings=vectors)
    if config.peft_type != PeftType.PREFIX_TUNING:
        raise NotImplementedError(f"peft's {config.peft_type.value} is not laid flat")
    heads = config.num_attention_heads
    # As peft lays them out: a row a virtual token, and in it a layer's keys, its values, the next layer's.
    layers = vectors.view(count, config.num_layers, 2, heads, -1).permute(1, 2, 3, 0, 4)
    return VirtualTokens(count, prefix=[(layer[0], layer[1]) for layer in layers])
