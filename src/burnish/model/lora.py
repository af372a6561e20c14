"""A linear layer with its low-rank adapter in as few passes over memory as there are products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.forward import FlatInput, Forward
from burnish.model.head import Features
from burnish.model.quantize import is_quantized, multiplies_whole, whole_weight


def fused(forward: Forward) -> Forward:
    """``forward`` with the model's plain LoRA layers fused."""

    def run(model: PreTrainedModel, batch: FlatInput) -> Features:
        with fused_lora(model):
            return forward(model, batch)

    return run


@contextmanager
def fused_lora(model: nn.Module) -> Iterator[None]:
    """Within the block plain LoRA layers run fused. Those with dropout, DoRA or several adapters, merged ones
    and trained bases run as peft has them, and so does NF4 on a GPU, which has products of its own."""
    with ExitStack() as undo:
        for module in model.modules():
            if isinstance(module, LoraLayer) and _is_plain(module):
                module.forward = _forward_of(module)  # found before the method of the class
                undo.callback(delattr, module, "forward")
        yield


def _is_plain(module: Any) -> bool:
    names, base = module.active_adapters, module.get_base_layer()
    return (
        len(names) == 1
        and names[0] in module.lora_A
        and not (module.merged or module.disable_adapters or module.lora_variant)
        and (type(base) is nn.Linear or multiplies_whole(base))
        and not base.weight.requires_grad
        and getattr(base, "bias", None) is None
        and isinstance(module.lora_dropout[names[0]], nn.Identity)
        and not any(layer[names[0]].bias is not None for layer in (module.lora_A, module.lora_B))
        and (multiplies_whole(base) or module.lora_A[names[0]].weight.dtype == base.weight.dtype)
    )


def _forward_of(module: Any) -> Any:
    (name,) = module.active_adapters
    base, scale = module.get_base_layer(), module.scaling[name]
    down, up = module.lora_A[name], module.lora_B[name]

    def forward(x: Tensor) -> Tensor:
        # The weights are read here, since those of a model that is split over ranks are whole only now.
        return _FusedLora.apply(x, base, base.weight, down.weight, up.weight, scale)  # type: ignore[no-any-return, no-untyped-call]

    return forward


class _FusedLora(torch.autograd.Function):
    """y = x W^T + s (x A^T) B^T (Hu et al. 2021, arXiv:2106.09685), W frozen. The second product adds into
    the result of the first, where a sum of two results reads and writes each of them once more. A quantized W
    is whole only while it is multiplied."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: nn.Module, weight: Tensor, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ down.T
        low *= scale
        whole = whole_weight(base, x.dtype) if is_quantized(base) else weight
        y = torch.mm(rows, whole.T).addmm_(low, up.T)
        ctx.save_for_backward(rows, low, weight, down, up)
        ctx.scale, ctx.base = scale, base
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outside: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, weight, down, up = ctx.saved_tensors
        dy = outside[0].reshape(-1, outside[0].shape[-1])
        d_low = dy @ up
        d_low *= ctx.scale
        dx = None
        if ctx.needs_input_grad[0]:
            whole = whole_weight(ctx.base, dy.dtype) if is_quantized(ctx.base) else weight
            dx = torch.mm(dy, whole).addmm_(d_low, down).view(*outside[0].shape[:-1], -1)
        return dx, None, None, d_low.T @ rows, dy.T @ low, None
