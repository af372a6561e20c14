"""The language model's head, as what the loss needs to take it in chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Features:
    """What the loss reads: ``hidden`` (N, H) before the head ``weight`` (V, H), ``bias`` (V,).

    Logits are ``cap(scale (hidden W^T + bias))``. Where ``weight`` is None, ``hidden`` holds the logits
    (N, V) themselves. ``row_numbers`` (R,), ``row_values`` (R, H): the only rows of the weight that are
    trained, where not all are.
    """

    hidden: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    row_numbers: Tensor | None = None
    row_values: Tensor | None = None

    def with_hidden(self, hidden: Tensor) -> Features:
        return replace(self, hidden=hidden)

    def logits(self) -> Tensor:
        """(N, V), all at once: for few positions."""
        if self.weight is None:
            return self.hidden
        logits = nn.functional.linear(self.hidden, self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def head_of(model: PreTrainedModel) -> Features | None:
    """The model's head, hidden states still to come; None where it is none that is known.

    What models do to logits behind the head stands in their configs under these names; whether that was all
    is seen on the first batch (``choose_forward``).
    """
    head, config = model.get_output_embeddings(), model.config
    scale = float(getattr(config, "logit_scale", None) or 1.0)  # Cohere multiplies
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)  # Granite divides
    softcap = getattr(config, "final_logit_softcapping", None)
    behind = Features(torch.empty(0), scale=scale, softcap=softcap)
    if (
        isinstance(head, ModulesToSaveWrapper)
        and len(head.active_adapters) == 1
        and not head.disable_adapters
    ):
        head = head.modules_to_save[head.active_adapters[0]]
    if isinstance(head, TrainableTokensWrapper):
        adapter = head.token_adapter
        if len(adapter.active_adapters) != 1 or not isinstance(adapter.base_layer, nn.Linear):
            return None
        (name,) = adapter.active_adapters
        base, values = adapter.base_layer, adapter.trainable_tokens_delta[name]
        numbers = torch.tensor(adapter.token_indices[name], device=base.weight.device)
        with torch.no_grad():
            weight = base.weight.index_copy(0, numbers, values.to(base.weight))
        return replace(behind, weight=weight, bias=base.bias, row_numbers=numbers, row_values=values)
    if type(head) is nn.Linear:
        return replace(behind, weight=head.weight, bias=head.bias)
    return None
