"""How fast a model's layers run here: one of them, with random weights of the real shape, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from burnish.adapters.adapter import add_adapter
from burnish.adapters.lora import fused, fused_lora
from burnish.config import RunConfig
from burnish.model.blank import blank_model
from burnish.model.forward import flat
from burnish.model.layers import layers_of
from burnish.model.recompute import recomputed
from burnish.tokens import flatten
from burnish.train.objective import next_token_loss

TOKENS = 1024
LARGEST = 600_000_000
"""Parameters of embeddings, head and one layer beyond which making them alone takes too long."""
TIMES = 3
SLOWER = 1.6
"""A whole run against the best of the timed passes: loading, evaluation, steps of other shapes."""


@dataclass(frozen=True)
class Speed:
    """Seconds a token for forward and backward: the best and the worst of the passes."""

    best: float
    worst: float

    def seconds(self, tokens: int) -> tuple[float, float]:
        return self.best * tokens, max(self.worst, SLOWER * self.best) * tokens


def measure_speed(
    config: RunConfig, shape: PretrainedConfig, dtype: torch.dtype, device: str
) -> Speed | None:
    """Time two models of one and two layers; the difference is a layer. Returns None where this machine
    has no such device, or where the shape is too large to be made quickly."""
    if device == "cuda" and not torch.cuda.is_available():
        return None
    layers = len(layers_of(blank_model(shape, dtype)))
    times = []
    for count in (1, 2):
        small = _with_layers(shape, count)
        if small is None or sum(p.numel() for p in blank_model(small, dtype).parameters()) > LARGEST:
            return None
        times.append(_timed(_pass_of(config, small, dtype, device)))
    (first, first_worst), (second, second_worst) = times
    best = first + max(second - first, 0.1 * first) * (layers - 1)
    worst = first_worst + max(second_worst - first, 0.1 * first) * (layers - 1)
    return Speed(best / TOKENS, max(worst, best) / TOKENS)


def _with_layers(shape: PretrainedConfig, count: int) -> PretrainedConfig | None:
    small = deepcopy(shape)
    text = small.get_text_config()
    if not hasattr(text, "num_hidden_layers"):
        return None
    text.num_hidden_layers = count
    if vars(text).get("layer_types"):  # of some families it follows from the number
        text.layer_types = text.layer_types[:count]
    return small


def _pass_of(
    config: RunConfig, shape: PretrainedConfig, dtype: torch.dtype, device: str
) -> Callable[[], None]:
    model = AutoModelForCausalLM.from_config(shape, dtype=dtype, trust_remote_code=False).to(device)
    if config.adapter.kind == "none":
        model.requires_grad_(True)
    else:
        adapter = config.adapter.model_copy(update={"layers": None, "init": "default"})
        model = add_adapter(model, adapter, ()).model
    model.train()
    length = min(config.tokens.max_length, TOKENS // 4)
    row = np.ones(length, np.int32), np.ones(length, np.float32)
    batch = flatten([row] * (TOKENS // length)).to(torch.device(device))
    forward = recomputed(flat, fused_lora) if config.train.recompute is True else fused(flat)

    def once() -> None:
        next_token_loss(forward(model, batch), batch).backward()
        model.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return once


def _timed(call: Callable[[], None]) -> tuple[float, float]:
    """The shortest and the longest of some calls, after a first one."""
    call()
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds), max(seconds)
