"""Trained vectors in front of a text: prompt tuning and prefix tuning.

Prompt tuning (Lester et al. 2021, arXiv:2104.08691) puts embeddings before the text's, prefix tuning (Li and
Liang 2021, arXiv:2101.00190) gives each layer keys and values that stand before the text's.
``model/virtual_tokens.py`` reads them for flat batches.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig, PrefixTuningConfig, PromptTuningConfig, PromptTuningInit
from transformers import PreTrainedModel

from burnish.config import AdapterConfig
from burnish.model.virtual_tokens import virtual_count


def virtual_config(config: AdapterConfig) -> PeftConfig:
    """peft's config for the kind ``prompt`` or ``prefix``."""
    if config.kind == "prefix":
        return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=config.virtual_tokens)
    return PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=config.virtual_tokens,
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
    )


def without_virtual(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with nothing before its texts."""
    return model.get_base_model() if virtual_count(model) else model


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
