"""New adapters on a frozen base: through peft and in its file format, where peft has the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from burnish.adapters import saved
from burnish.adapters.bottleneck import add_bottlenecks
from burnish.adapters.experts import lora_targets
from burnish.adapters.targets import (
    attention_names,
    chosen_layers,
    ia3_names,
    layer_numbers,
    linear_names,
    names_ending,
    shortest_endings,
    target_endings,
)
from burnish.adapters.virtual import begin_as_text, require_prefix_layout, virtual_config
from burnish.config import AdapterConfig
from burnish.errors import ModelError
from burnish.model.layers import layers_of
from burnish.model.quantize import weight_count

STARTS_IN_WEIGHT = ("olora", "pissa")
"""Starts of LoRA that subtract their product from the base's weight: W = (W - s B A) + s B A."""


@dataclass(frozen=True)
class AdaptedModel:
    """A model with a new adapter in place. ``model`` is what runs: for virtual tokens peft's wrapper, else
    the base itself with more in its layers. ``save`` writes the adapter into a folder."""

    model: PreTrainedModel
    save: Callable[[Path], None]


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model, and those that are trained."""

    total: int
    trainable: int

    def __str__(self) -> str:
        share = self.trainable / self.total
        return f"{self.trainable:,} of {self.total:,} parameters trained ({share:.2%})"


def add_adapter(model: PreTrainedModel, config: AdapterConfig, train_tokens: Sequence[int]) -> AdaptedModel:
    """Freeze ``model`` and add what ``config`` says, on the base's device, the meta device too.

    LoRA adds (alpha / rank) B A to its layers' weights (Hu et al. 2021, arXiv:2106.09685); B starts at zero,
    so at first the model is its base exactly. DoRA gives each row of the sum a trained length (Liu et al.
    2024, arXiv:2402.09353). The others: ``targets``, ``virtual`` and ``bottleneck``.

    The embeddings of ``train_tokens`` are trained beside it, the others not; where the head has a table
    of its own, so are their rows in it. Raises ``ModelError`` where the model has no such layers.
    """
    assert config.kind != "none"
    modules = list(config.modules_to_save) or None
    rows = _token_rows(model, train_tokens, config.modules_to_save) if train_tokens else None
    if config.kind == "bottleneck":
        extras = saved.Extras(modules, rows)
        add_bottlenecks(model, config)
        _as_model_error(extras.add_to, model)
        return AdaptedModel(model, lambda folder: saved.save_bottlenecks(model, folder, config, extras))
    if config.kind in ("prompt", "prefix"):
        settings = virtual_config(model, config)
    elif config.kind == "ia3":
        settings = _ia3_config(model, config, modules)
    else:
        settings = _lora_config(model, config, modules)
    settings.trainable_token_indices = rows
    wanted = copy(settings)  # peft fills in and changes its own
    # Without the cast, adapters have the type of the base: their fp32 masters are the optimizer's.
    wrapper = _as_model_error(get_peft_model, model, settings, autocast_adapter_dtype=False)
    saved.set_dtypes(wrapper)
    if config.kind in ("prompt", "prefix"):
        saved.use_trained_embeddings(wrapper)
        if config.kind == "prefix":
            require_prefix_layout(model, settings, wanted)
            begin_as_text(model, wrapper.prompt_encoder["default"], config.virtual_tokens)
        return AdaptedModel(wrapper, lambda folder: saved.save_adapter(wrapper, folder))
    start = _first_matrices(wrapper) if config.init in STARTS_IN_WEIGHT else {}
    return AdaptedModel(
        wrapper.get_base_model(), lambda folder: saved.save_adapter(wrapper, folder, start=start)
    )


def count_parameters(model: torch.nn.Module) -> ParameterCount:
    """Parameters of a model and the trained ones. Packed ones count as the weights that they stand for."""
    sizes = [(weight_count(p), p.requires_grad) for p in model.parameters()]
    return ParameterCount(sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained))


@torch.no_grad()
def untrained_tokens(model: PreTrainedModel, candidates: Sequence[int]) -> list[int]:
    """Those of ``candidates`` whose embedding the base never learned.

    A base reserves special tokens that its text never held. Their rows stay near zero, or move all the
    same way as the softmax pushes them down together: a row is called untrained when its norm is under
    a quarter of the median row's, or its cosine with another candidate's or a neighbouring id's row is
    above 0.9. Trained rows of different tokens do not come near that.
    """
    table = model.get_input_embeddings().weight.float()
    median = table.norm(dim=1).median()
    found = []
    for token in candidates:
        row = table[token]
        others = [o for o in {*candidates, token - 1, token + 1} if o != token and 0 <= o < len(table)]
        alike = functional.cosine_similarity(row[None], table[others]).max() if others else torch.tensor(0)
        if row.norm() < 0.25 * median or alike > 0.9:
            found.append(token)
    return found


def _lora_config(model: PreTrainedModel, config: AdapterConfig, to_save: list[str] | None) -> LoraConfig:
    alpha = config.alpha if config.alpha is not None else 2 * config.rank
    targets = lora_targets(model, config)
    numbers = layer_numbers(config.layers, len(layers_of(model))) if config.layers else None
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=alpha,
        lora_dropout=config.dropout,
        use_rslora=config.rslora,
        use_dora=config.kind == "dora",
        rank_pattern=dict(config.rank_pattern),
        alpha_pattern=dict(config.alpha_pattern),
        init_lora_weights=True if config.init == "default" else config.init,
        target_modules=targets.modules,
        target_parameters=targets.weights or None,
        layers_to_transform=numbers if targets.modules else None,
        modules_to_save=to_save,
    )


def _ia3_config(model: PreTrainedModel, config: AdapterConfig, to_save: list[str] | None) -> IA3Config:
    linear, attention = linear_names(model), attention_names(model)
    if config.targets == "auto":
        behind, before = ia3_names(model)
        wanted = [*behind, *before]
    else:
        wanted = names_ending(model, target_endings(model, config) or shortest_endings(linear, []))
        before = [name for name in wanted if name not in attention]
    if config.layers:
        wanted = chosen_layers(model, config.layers, wanted)
        before = chosen_layers(model, config.layers, before)
    return IA3Config(
        task_type="CAUSAL_LM",
        target_modules=shortest_endings(wanted, linear),
        feedforward_modules=shortest_endings(before, linear),
        modules_to_save=to_save,
    )


def _token_rows(
    model: PreTrainedModel, tokens: Sequence[int], modules: Sequence[str]
) -> dict[str, list[int]] | None:
    """The tables to train these tokens' rows of, by the names of their modules: those that are not trained
    whole."""
    names = {id(module): name for name, module in model.named_modules()}
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    ends = [table] if head is None else [table, head]
    rest = [end for end in ends if not any(names[id(end)].endswith(name) for name in modules)]
    if head is not None and head.weight is table.weight:
        if len(rest) == 1:
            raise ModelError(
                f"the head of {type(model).__name__} is its embedding table, of which rows are to be trained",
                why="One of the two cannot be trained whole beside them.",
                fix="Take it out of adapter.modules_to_save, or set adapter.trainable_tokens=[].",
            )
        rest = rest[:1]
    elif head in rest and getattr(head, "bias", None) is not None:
        raise ModelError(
            f"the head of {type(model).__name__} has a bias, which peft leaves out beside trained rows",
            why="Every answer would be that of a model without it.",
            fix="Set adapter.trainable_tokens=[], or adapter.modules_to_save=[lm_head].",
        )
    return {names[id(end)]: list(tokens) for end in rest} or None


def _first_matrices(wrapper: PeftModel) -> dict[str, Tensor]:
    """LoRA's matrices as they are now, by peft's names for them in a file."""
    return {
        name: tensor.detach().clone()
        for name, tensor in saved.adapter_tensors(wrapper).items()
        if ".lora_A." in name or ".lora_B." in name
    }


def _as_model_error(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call peft, and raise what it cannot do as a ``ModelError``."""
    try:
        return call(*arguments, **named)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        what = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the adapter cannot be put on {type(arguments[0]).__name__}",
            why=f"peft does not take it: {what[0]}",
            fix="Change adapter.targets or adapter.modules_to_save, or choose another adapter.kind.",
        ) from error
