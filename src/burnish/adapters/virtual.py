"""Trained vectors in front of a text: prompt tuning and prefix tuning.

Prompt tuning (Lester et al. 2021, arXiv:2104.08691) puts embeddings before the text's, prefix tuning (Li and
Liang 2021, arXiv:2101.00190) gives each layer keys and values that stand before the text's.
``model/virtual_tokens.py`` reads them for flat batches.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from peft import PeftConfig, PrefixTuningConfig, PromptTuningConfig, PromptTuningInit
from torch import Tensor
from transformers import PreTrainedModel

from burnish.config import AdapterConfig
from burnish.errors import ModelError
from burnish.model.layers import layers_of
from burnish.model.tally import Tally
from burnish.model.virtual_tokens import virtual_count


def virtual_config(model: PreTrainedModel, config: AdapterConfig) -> PeftConfig:
    """peft's config for the kind ``prompt`` or ``prefix``. What peft would guess by the names in a family's
    config is taken from the model itself. Raises ``ModelError`` for a prefix that the model cannot have."""
    count = config.virtual_tokens
    if config.kind == "prefix":
        layers, heads, width = _cache_shape(model, count)
        return PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=count,
            num_layers=layers,
            num_attention_heads=heads,
            token_dim=heads * width,
        )
    return PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=count,
        num_layers=len(layers_of(model)),
        num_attention_heads=getattr(model.config, "num_attention_heads", None) or 1,  # of no use here
        token_dim=model.get_input_embeddings().weight.shape[1],
        prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
    )


def without_virtual(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with nothing before its texts."""
    return model.get_base_model() if virtual_count(model) else model


def require_prefix_layout(model: PreTrainedModel, settings: PeftConfig, wanted: PeftConfig) -> None:
    """Raises ``ModelError`` where peft laid a prefix out otherwise than was ``wanted``: it goes by what a
    family's config calls its heads, and some families keep others."""
    (mine, theirs) = (
        (one.num_attention_heads, one.token_dim // one.num_attention_heads) for one in (wanted, settings)
    )
    if mine != theirs:
        raise ModelError(
            f"prefix tuning is not for {type(model).__name__}: each token has {mine[0]} heads of {mine[1]}, "
            f"and peft reads {theirs[0]} of {theirs[1]} from its config",
            why="What peft would put before the text does not fit.",
            fix="Use adapter.kind=prompt, or lora.",
        )


@torch.no_grad()
def begin_as_text(model: Any, encoder: Any, count: int) -> None:
    """Let a prefix begin as the keys and values of some text, random tokens here: from random vectors it
    learns slowly and forgets much (Li and Liang, section 7.4)."""
    if model.device.type == "meta":
        return
    tokens = torch.randint(0, model.get_input_embeddings().weight.shape[0], (1, count))
    cache = _cache_of(model, tokens)
    layers = [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
    rows = torch.stack(layers).permute(3, 0, 1, 2, 4).reshape(count, -1)  # layer, 2, heads, n, width
    encoder.embedding.weight.copy_(rows)


@torch.no_grad()
def _cache_of(model: Any, tokens: Tensor) -> Any:
    """What the model keeps of some tokens (1, n) for the ones to come; None where it keeps nothing."""
    meta = model.device.type == "meta"
    with Tally() if meta else nullcontext():  # within which code that looks at numbers runs
        output = model(input_ids=tokens.to(model.device), use_cache=True)
    return getattr(output, "past_key_values", None)


def _cache_shape(model: PreTrainedModel, count: int) -> tuple[int, int, int]:
    """(layers, heads, width) of the keys and values that a model keeps. Raises ``ModelError`` where it does
    not keep so many of each layer, all of one shape."""
    name, fix = type(model).__name__, "Use adapter.kind=prompt, or lora."
    cache = _cache_of(model, torch.zeros(1, count, dtype=torch.long))
    layers = getattr(cache, "layers", [])
    kept = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    states: list[Tensor] = [tensor for tensor in kept if tensor is not None]
    if not states or len(states) < len(kept):
        raise ModelError(
            f"prefix tuning is not for {name}: not all of its layers keep keys and values",
            why="A prefix is keys and values that stand before the text in every layer.",
            fix=fix,
        )
    shapes = {tuple(tensor.shape[1:]) for tensor in states}
    if any(length < count for _, length, _ in shapes):
        window = 1 + min(length for _, length, _ in shapes)
        raise ModelError(
            f"{name} sees {window} tokens at a time, and adapter.virtual_tokens is {count}",
            why="The first of them would stand outside of the window of every token of the text.",
            fix=f"Take at most {window - 1}, or use adapter.kind=lora.",
        )
    if len(shapes) > 1:
        given = " and ".join(f"{heads} x {width}" for heads, _, width in sorted(shapes))
        raise ModelError(
            f"prefix tuning is not for {name}: its keys and values are of several shapes ({given})",
            why="peft keeps a prefix as one table, in which all layers' keys and values have one shape.",
            fix=fix,
        )
    ((heads, _, width),) = shapes
    return len(layers), heads, width
