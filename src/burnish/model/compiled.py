"""The layers of a model compiled, so that what lies between their products runs in one pass over memory."""

from __future__ import annotations

import shutil

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.forward import FlatInput, Forward
from burnish.model.head import Features
from burnish.model.layers import layers_of, replaced_calls

LEAST_OPERATIONS = 2e14
"""Floating-point operations of a run from which compiling pays: it takes half a minute, and the steps of a
39 M model on two cores were a quarter faster with it. Counted and not timed, so that a run that is resumed
makes the same choice."""

ROUNDING = 1e-4
"""Of the largest logit: what sums in another order may come to over many layers in fp32."""

COMPARED = 256
"""Positions whose logits are compared: all of a large vocabulary's would take more memory than training."""


def worth_compiling(model: nn.Module, tokens: int) -> bool:
    """Whether a run over so many tokens is long enough for it, and a compiler is there. Forward and backward
    take 6 operations a parameter and token (Kaplan et al. 2020, arXiv:2001.08361)."""
    parameters = sum(p.numel() for p in model.parameters())
    return 6.0 * parameters * tokens >= LEAST_OPERATIONS and shutil.which("g++") is not None


def compiled(forward: Forward, model: PreTrainedModel, batch: FlatInput) -> tuple[Forward, str]:
    """``forward`` with the model's layers compiled, for training alone: evaluating and answering have other
    shapes, each of which would be compiled anew. All layers share one compilation, of any number of tokens.

    Compiled and tried on ``batch``. Returns ``forward`` itself where the compiler fails, or where the logits
    move by more than rounding, and why.
    """
    layers = layers_of(model)
    calls = [torch.compile(layer._call_impl, dynamic=True) for layer in layers]

    def run(model: PreTrainedModel, batch: FlatInput) -> Features:
        with replaced_calls(layers, calls):
            return forward(model, batch)

    model.train()
    try:
        logits = _some_logits(run(model, batch))
    except RuntimeError as error:  # the compiler's errors are its children
        return forward, str(error).strip().partition("\n")[0] or type(error).__name__
    expected = _some_logits(forward(model, batch))
    worst = (logits - expected).abs().max()
    if worst <= max(16 * torch.finfo(model.dtype).eps, ROUNDING) * expected.abs().max().clamp(min=1.0):
        return run, ""
    return forward, f"compiled logits differ by {worst:.2g}"


def _some_logits(features: Features) -> Tensor:
    return features.with_hidden(features.hidden.detach()[-COMPARED:]).logits().detach().float()
