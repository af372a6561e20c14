"""How many tokens go through a model at a time in training: as many as are fast, if memory has the room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from burnish.model.layers import layers_of

FAST = {"cpu": 4096, "cuda": 16384}
"""Tokens in a micro-batch beyond which little is won. On two cores 1,024 were a fifth slower, and 8,192 5 %
faster for 2 GB more; that of CUDA is a guess until it has been measured."""

LEAST, STEP = 512, 128

TRAINED = 4 + 4 + 8
"""Bytes beside each trained weight: its fp32 master, the gradient's sum and Adam's two moments."""

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""Where a container is told how much of the machine's memory it may have."""


@dataclass(frozen=True)
class Budget:
    """Tokens a micro-batch; ``recompute``: whether activations must be computed again for so many to fit."""

    tokens: int
    recompute: bool


def fitting_budget(model: PreTrainedModel, memory: int, longest: int, ranks: int = 1) -> Budget:
    """For a model whose weights are split over so many ranks of ``memory`` bytes each, and a longest document
    of so many tokens. Half of what the weights and the optimizer leave is for activations; the rest for the
    head's chunks, products' buffers and all that is not counted here. From totals, so that it comes out the
    same each time.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    room = (memory - (weights + trained * TRAINED) / ranks) / 2
    fast, needed = FAST[model.device.type], max(LEAST, longest)
    kept = int(room / token_bytes(model)) // STEP * STEP
    if kept >= needed:
        return Budget(min(fast, kept), recompute=False)
    again = int(room / token_bytes_recomputed(model)) // STEP * STEP
    return Budget(max(LEAST, min(fast, again)), recompute=True)


def token_bytes(model: PreTrainedModel) -> float:
    """Bytes that a token's activations take until the backward pass, about: what goes into and out of each
    linear layer but the head, and half as much again for norms, gates and attention."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    # An adapter that trains some tokens wraps them, so they are found by what is within.
    embeddings = {id(part) for end in ends if end is not None for part in end.modules()}
    wide: int = sum(
        sum(weight.shape) * weight.element_size()
        for module in model.modules()
        if id(module) not in embeddings
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2 and not isinstance(module, nn.Embedding)  # of positions
    )
    return 1.5 * wide


def token_bytes_recomputed(model: PreTrainedModel) -> float:
    """The same where each layer keeps only what goes into it: that, and all of one layer."""
    layers = max(1, len(layers_of(model)))
    width: int = model.get_input_embeddings().weight.shape[1]
    size: int = model.dtype.itemsize
    return layers * width * size + token_bytes(model) / layers


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has, or that this process may take of the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text("utf-8").strip() if CGROUP.is_file() else "max"
    return whole if limit == "max" else min(whole, int(limit))
