"""Linear layers fused with their LoRA or DoRA: as few passes over memory as there are products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.forward import FlatInput, Forward
from burnish.model.head import Features
from burnish.model.quantize import dequantized_weight, is_quantized, multiplies_dequantized

LORA, DORA, EXPERTS = "lora", "dora", "experts"
KINDS = (LORA, DORA, EXPERTS)


def fused(forward: Forward, *kinds: str) -> Forward:
    """``forward`` with the model's plain LoRA and DoRA layers fused, and LoRA on fused experts, or those of
    some ``kinds`` alone."""

    def run(model: PreTrainedModel, batch: FlatInput) -> Features:
        with fused_lora(model, kinds or KINDS):
            return forward(model, batch)

    return run


@contextmanager
def fused_lora(model: nn.Module, kinds: Sequence[str] = KINDS) -> Iterator[None]:
    """Within the block plain layers of these kinds run fused. Those with dropout or several adapters, merged
    ones and trained bases run as peft has them, and so does NF4 on a GPU, which has products of its own."""
    with ExitStack() as undo:
        for module in model.modules():
            if not isinstance(module, LoraLayer) or not _is_alone(module):
                continue
            if EXPERTS in kinds and isinstance(module, ParamWrapper) and module.num_experts > 1:
                module.forward = _forward_of_experts(module)
            elif _is_plain(module) and _kind(module) in kinds:
                module.forward = _forward_of(module)  # found before the method of the class
            else:
                continue
            undo.callback(delattr, module, "forward")
        yield


def is_dora(module: Any, name: str = "default") -> bool:
    """Whether an adapter of a LoRA layer is a DoRA on a linear layer."""
    return isinstance(module.lora_variant.get(name), DoraLinearVariant)


def _kind(module: Any) -> str:
    return DORA if is_dora(module, *module.active_adapters) else LORA


def _is_alone(module: Any) -> bool:
    """Whether one adapter of a layer is at work, beside its base."""
    names = module.active_adapters
    return len(names) == 1 and names[0] in module.lora_A and not (module.merged or module.disable_adapters)


def _is_plain(module: Any) -> bool:
    names, base = module.active_adapters, module.get_base_layer()
    return (
        (not module.lora_variant or is_dora(module, names[0]))
        and (type(base) is nn.Linear or multiplies_dequantized(base))
        and not base.weight.requires_grad
        and getattr(base, "bias", None) is None
        and isinstance(module.lora_dropout[names[0]], nn.Identity)
        and not any(layer[names[0]].bias is not None for layer in (module.lora_A, module.lora_B))
        and (multiplies_dequantized(base) or module.lora_A[names[0]].weight.dtype == base.weight.dtype)
    )


def _forward_of(module: Any) -> Any:
    (name,) = module.active_adapters
    base, scale = module.get_base_layer(), module.scaling[name]
    down, up = module.lora_A[name], module.lora_B[name]
    lengths = module.lora_magnitude_vector[name] if _kind(module) == DORA else None

    def forward(x: Tensor) -> Tensor:
        # The weights are read here, since those of a model that is split over ranks are gathered only now.
        weights = base, base.weight, down.weight, up.weight
        rows = x.reshape(-1, x.shape[-1])  # here: the result must be no view, some models add to it in place
        if lengths is None:
            y = _FusedLora.apply(rows, *weights, scale)  # type: ignore[no-untyped-call]
        else:
            y = _FusedDora.apply(rows, *weights, lengths.weight, scale)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]

    return forward


def _forward_of_experts(module: Any) -> Any:
    """W_e + s B_e A_e for each expert, in the place of W while the experts run. peft puts a parametrization
    there, which makes the sum twice."""
    (name,) = module.active_adapters
    base, weight_name = module.get_base_layer(), module.parameter_name

    def forward(x: Tensor, *arguments: Any, **named: Any) -> Any:
        left, right, scale = module.get_delta_factors(name)
        whole = torch.baddbmm(getattr(base, weight_name), left, right, alpha=scale)
        vars(base)[weight_name] = whole  # found before the parameter
        try:
            return module.base_layer(x, *arguments, **named)
        finally:
            del vars(base)[weight_name]

    return forward


class _FusedLora(torch.autograd.Function):
    """y = x W^T + s (x A^T) B^T (Hu et al. 2021, arXiv:2106.09685), W frozen. The second product adds into
    the result of the first, where a sum of two results reads and writes each of them once more. A quantized W
    is dequantized only while it is multiplied."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, base: nn.Module, weight: Tensor, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        low, y = _sum(rows, _base_weight(base, weight, rows.dtype), down, up, scale)
        ctx.save_for_backward(rows, low, weight, down, up)
        ctx.scale, ctx.base = scale, base
        return y

    @staticmethod
    def backward(ctx: Any, *outside: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, weight, down, up = ctx.saved_tensors
        dx, d_down, d_up = _gradients(ctx, outside[0], rows, low, weight, down, up)
        return dx, None, None, d_down, d_up, None


class _FusedDora(torch.autograd.Function):
    """y = g (x W^T + s (x A^T) B^T) with g = m / |W + s B A|, a factor for each row of W, and its length a
    constant in the backward pass (Liu et al. 2024, arXiv:2402.09353, section 4.3).

    g is near 1, and is multiplied as 1 + (g - 1): so g - 1 may be as coarse as the activations. The gradient
    of m is the sum of y dy, over m, for which y is kept: as a rule what reads it keeps it too.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        base: nn.Module,
        weight: Tensor,
        down: Tensor,
        up: Tensor,
        lengths: Tensor,
        scale: float,
    ) -> Tensor:
        full = _base_weight(base, weight, rows.dtype)
        low, plain = _sum(rows, full, down, up, scale)
        more = (lengths / row_lengths(full, down, up, scale) - 1).to(rows.dtype)
        y = plain.addcmul_(plain, more)
        ctx.save_for_backward(rows, low, weight, down, up, lengths, more, y)
        ctx.scale, ctx.base = scale, base
        return y

    @staticmethod
    def backward(ctx: Any, *outside: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, weight, down, up, lengths, more, y = ctx.saved_tensors
        dy = outside[0]
        d_lengths = (dy * y).sum(0, dtype=lengths.dtype) / lengths
        dx, d_down, d_up = _gradients(ctx, dy.addcmul(dy, more), rows, low, weight, down, up)
        return dx, None, None, d_down, d_up, d_lengths, None


def row_lengths(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """|W + s B A| of each row (out,), in fp32 but rounded as W is, without the sum itself: its square is
    |W|^2 + 2 s B (W A^T) + s^2 B (A A^T) B^T, row by row."""
    lengths = torch.linalg.norm(weight, dim=1).float()
    wide, low = up.float(), down.float()
    across = (weight @ down.T.to(weight.dtype)).float()
    more = 2 * scale * (wide * across).sum(1) + scale**2 * (wide @ (low @ low.T) * wide).sum(1)
    grown: Tensor = lengths * (1 + more / lengths**2).clamp(min=0).sqrt()  # by 1 exactly where B is zero
    return grown.to(weight.dtype).float()


def _base_weight(base: nn.Module, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return dequantized_weight(base, dtype) if is_quantized(base) else weight


def _sum(rows: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    low = rows @ down.T
    low *= scale
    return low, torch.mm(rows, weight.T).addmm_(low, up.T)


def _gradients(
    ctx: Any, dy: Tensor, rows: Tensor, low: Tensor, weight: Tensor, down: Tensor, up: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Of the sum: for its input (N, in), where that is wanted, for A and for B."""
    d_low = dy @ up
    d_low *= ctx.scale
    dx = None
    if ctx.needs_input_grad[0]:
        dx = torch.mm(dy, _base_weight(ctx.base, weight, dy.dtype)).addmm_(d_low, down)
    return dx, d_low.T @ rows, dy.T @ low
