"""Low-rank adapters on a frozen base, through peft and in its file format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import PreTrainedModel

from burnish.config import AdapterConfig
from burnish.errors import ModelError


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model, and those that are trained."""

    total: int
    trainable: int

    def __str__(self) -> str:
        share = self.trainable / self.total
        return f"{self.trainable:,} of {self.total:,} parameters trained ({share:.2%})"


def add_lora(model: PreTrainedModel, config: AdapterConfig, train_tokens: Sequence[int]) -> PeftModel:
    """Freeze ``model`` and give its linear layers W the product (alpha / rank) B A (Hu et al. 2021,
    arXiv:2106.09685). B starts at zero, so at first the model is its base exactly.

    The embeddings of ``train_tokens`` are trained beside it, the others not; where the head has a table
    of its own, so are their rows in it. The layers are put into ``model`` itself; the wrapper that is
    returned knows how to save them.
    """
    alpha = config.alpha if config.alpha is not None else 2 * config.rank
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        trainable_token_indices=_token_rows(model, train_tokens) if train_tokens else None,
    )
    try:
        # Without the cast, adapters have the type of the base: their fp32 masters are the optimizer's.
        return get_peft_model(model, settings, autocast_adapter_dtype=False)
    except ValueError as error:
        raise ModelError(f"adapter.targets: {error}", fix="Name linear layers, or use all-linear.") from error


def _token_rows(model: PreTrainedModel, tokens: Sequence[int]) -> dict[str, list[int]]:
    """The tables to train these tokens' rows of, by the names of their modules."""
    tables = [model.get_input_embeddings()]
    head = model.get_output_embeddings()
    if head is not None and head.weight is not tables[0].weight:
        tables.append(head)
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(table)]: list(tokens) for table in tables}


def count_parameters(model: torch.nn.Module) -> ParameterCount:
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
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
