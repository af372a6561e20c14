"""Frozen bases in few bits: NF4 with double quantization, and int8, through bitsandbytes.

NF4 (Dettmers et al. 2023, arXiv:2305.14314) keeps a weight as one of sixteen levels times the largest of its
block of 64; these scales are themselves kept in eight bits, in blocks of 256. int8 keeps a weight as a 127th
of the largest of its row (Dettmers et al. 2022, arXiv:2208.07339). Norms, embeddings and the head stay whole.

Products are taken with the weights as whole numbers again, and activations are never quantized: LLM.int8's
outliers are found over a whole batch, so that a document's logits would depend on its neighbours.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from burnish.errors import ModelError
from burnish.model.layers import expert_weights

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PretrainedConfig

Kind = Literal["none", "nf4", "int8"]

QUANTIZED_MARKS = (
    "is_loaded_in_4bit",
    "is_loaded_in_8bit",
    "is_quantized",
    "hf_quantizer",
    "quantization_method",
)
"""By which transformers and peft know such a model."""

BLOCK, OUTER = 64, 256
"""Weights under one 8-bit scale of NF4, and scales under one of fp32."""

PACKAGES = ("bitsandbytes", "accelerate")
"""What the extra ``quant`` installs."""


def quantization(kind: Kind, dtype: torch.dtype) -> BitsAndBytesConfig:
    """What transformers loads a model with; ``dtype``: that of the products. Raises ``ModelError`` where the
    extra is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"model.quantize {kind} needs {' and '.join(missing)}",
            fix="Type: pip install 'burnish[quant]'",
        )
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def require_whole_weights(location: str, config: PretrainedConfig) -> None:
    """Raises ``ModelError`` for a base that is kept in few bits."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return
    method = given.get("quant_method") if isinstance(given, dict) else getattr(given, "quant_method", None)
    raise ModelError(
        f"{location} is quantized already ({getattr(method, 'value', method) or 'unknown'})",
        why="What is trained on it could be neither merged nor saved whole.",
        fix="Train from the weights that it was made of, with model.quantize=nf4 or int8.",
    )


def use_dequantized_products(model: PreTrainedModel) -> None:
    """Make the layers of a quantized model multiply with dequantized weights, in training as in answering. On
    a CPU bitsandbytes would repack NF4 weights for answering and round their scales."""
    for module in quantized_layers(model):
        if multiplies_dequantized(module):
            module.forward = _forward_of(module)  # found before the method of the class


class MetaQuantizedLinear(nn.Linear):
    """A quantized layer of a model on the meta device: it has a plain weight's shape, and computes and takes
    memory as one of bitsandbytes' does."""

    def __init__(self, plain: nn.Linear | Conv1D, kind: Kind) -> None:
        transposed = isinstance(plain, Conv1D)
        inputs, outputs = reversed(plain.weight.shape) if not transposed else plain.weight.shape
        super().__init__(inputs, outputs, plain.bias is not None, "meta", plain.weight.dtype)
        self.kind = kind

    @property
    def bytes(self) -> float:
        """NF4: half a byte a weight, and of each block a scale of one byte and its part of an fp32 one."""
        count = self.weight.numel()
        rest = 0 if self.bias is None else self.bias.nbytes
        if self.kind == "int8":
            return count + 4 * self.out_features + rest
        return count / 2 + count / BLOCK * (1 + 4 / OUTER) + rest

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]


def can_be_quantized(module: nn.Module) -> bool:
    """Whether bitsandbytes packs such a layer: plain linear ones and GPT-2's transposed ones, no classes of a
    family's own."""
    return type(module) is nn.Linear or isinstance(module, Conv1D)


@dataclass(frozen=True)
class QuantizedShare:
    """Weights of a model in few bits, those that were left whole in its fused experts, and all."""

    packed: int
    experts: int
    total: int

    def __str__(self) -> str:
        text = f"{self.packed:,} of {self.total:,} weights quantized ({self.packed / self.total:.1%})"
        return f"{text}; {self.experts:,} in fused experts stay whole" if self.experts else text


def quantized_share(model: PreTrainedModel, kind: Kind) -> QuantizedShare:
    """How much of a model that was loaded in few bits is in few bits. Raises ``ModelError`` where nothing
    is."""
    packed = sum(weight_count(module.weight) for module in quantized_layers(model))
    if not packed:
        classes = sorted({type(m).__name__ for m in model.modules() if isinstance(m, nn.Linear)})
        raise ModelError(
            f"model.quantize {kind} leaves every weight of {type(model).__name__} as it is",
            why="bitsandbytes packs plain linear layers; the classes of this model's are its own "
            f"({', '.join(classes)}), so that no memory would be saved.",
            fix="Leave model.quantize out.",
        )
    experts = sum(weight.numel() for weight in expert_weights(model).values())
    return QuantizedShare(packed, experts, sum(weight_count(p) for p in model.parameters()))


@torch.no_grad()
def require_runs_quantized(model: PreTrainedModel, kind: Kind) -> None:
    """Run a few tokens through a model in few bits. Raises ``ModelError`` where its code reads weights around
    their layers, and finds packed ones: Mamba's does."""
    try:
        model(input_ids=torch.zeros(1, 8, dtype=torch.long, device=model.device), use_cache=False)
    except RuntimeError as error:
        raise ModelError(
            f"{type(model).__name__} does not run with model.quantize {kind}",
            why="Its code reads weights around their layers, where they are packed.",
            fix="Leave model.quantize out.",
        ) from error


def is_quantized(module: nn.Module) -> bool:
    """Whether a layer is one of bitsandbytes' or stands for one on the meta device."""
    kind = type(module)  # peft has classes of the same names
    packed = kind.__module__.startswith("bitsandbytes") and kind.__name__ in ("Linear4bit", "Linear8bitLt")
    return packed or kind is MetaQuantizedLinear


def multiplies_dequantized(module: Any) -> bool:
    """Whether a layer is quantized and dequantizes its weight to multiply; NF4 on a GPU need not."""
    return is_quantized(module) and (module.weight.device.type != "cuda" or module.weight.dtype == torch.int8)


def quantized_layers(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if is_quantized(module))


def dequantized_weight(module: Any, dtype: torch.dtype) -> Tensor:
    """The weight (out, in) that a quantized layer stands for."""
    weight = module.weight
    if type(module) is MetaQuantizedLinear:
        made = weight.float() * 1.0 if module.kind == "int8" else torch.empty_like(weight)
        return made.to(dtype)  # as much memory as the ways below take
    if type(module).__name__ == "Linear4bit":
        import bitsandbytes.functional as bnb

        whole: Tensor = bnb.dequantize_4bit(weight.data, weight.quant_state)
        return whole.to(dtype)
    scales = weight.SCB if weight.SCB is not None else module.state.SCB
    rows: Tensor = weight.data.float() * (scales.float() / 127)[:, None]
    return rows.to(dtype)


def weight_bytes(model: nn.Module) -> float:
    """Bytes of all parameters of a model on the meta device, packed ones as they are kept."""
    packed = [module for module in model.modules() if isinstance(module, MetaQuantizedLinear)]
    theirs = {id(weight) for module in packed for weight in module.parameters(recurse=False)}
    plain: int = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in theirs)
    return plain + sum(module.bytes for module in packed)


def weight_count(parameter: nn.Parameter) -> int:
    """Weights that a parameter stands for: of NF4, two in each byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


@torch.no_grad()
def dequantize(model: PreTrainedModel) -> PreTrainedModel:
    """Replace quantized layers by plain ones in fp32, and cast the rest to fp32 too, in place."""
    for name, module in list(model.named_modules()):
        if is_quantized(module):
            plain = _plain_layer(module)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, plain)
    for mark in QUANTIZED_MARKS:
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.float()


def _plain_layer(module: Any) -> nn.Module:
    """The layer that a quantized one was made of, in fp32, with the values that it stands for."""
    weight, device = dequantized_weight(module, torch.float32), module.weight.device
    plain: Any
    if issubclass(getattr(module, "source_cls", nn.Linear), Conv1D):
        plain, weight = Conv1D(module.out_features, module.in_features), weight.T.contiguous()
    else:
        plain = nn.Linear(module.in_features, module.out_features, bias=False, device=device)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = module.bias
    return cast(nn.Module, plain)


def _forward_of(module: Any) -> Any:
    def forward(x: Tensor) -> Tensor:
        return _Product.apply(x, module)  # type: ignore[no-any-return, no-untyped-call]

    return forward


class _Product(torch.autograd.Function):
    """y = x W^T + b, W dequantized only while it is multiplied: in the backward pass it is made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any) -> Tensor:
        ctx.module = module
        bias = None if module.bias is None else module.bias.to(x.dtype)
        return functional.linear(x, dequantized_weight(module, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *outside: Tensor) -> tuple[Tensor, None]:
        return outside[0] @ dequantized_weight(ctx.module, outside[0].dtype), None
