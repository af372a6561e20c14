"""How many tokens go through a model at a time in training: as many as are fast, if they fit into memory."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.layers import layers_of
from burnish.model.quantize import is_quantized, weight_bytes

FAST = {"cpu": 4096, "cuda": 16384}
"""Tokens in a micro-batch beyond which little is won. On two cores 1,024 were a fifth slower, and 8,192 5 %
faster for 2 GB more; that of CUDA is a guess until it has been measured."""

LEAST, STEP = 512, 128

TRAINED = 4 + 4 + 8
"""Bytes beside each trained weight: its fp32 master, the gradient's sum and Adam's two moments."""

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""Where a container is told how much of the machine's memory it may have."""

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Budget:
    """Tokens a micro-batch; ``recompute``: whether activations must be computed again for so many to fit."""

    tokens: int
    recompute: bool


def fitting_budget(
    model: PreTrainedModel, memory: int, longest: int, ranks: int = 1, device: str = ""
) -> Budget:
    """For a model whose weights are split over so many ranks of ``memory`` bytes each, and a longest document
    of so many tokens; ``device``: its type, where the model is on no device. Half of what the weights and the
    optimizer leave is for activations; the rest for the head's chunks, products' buffers and all that is not
    counted here. From totals, so that it comes out the same each time.
    """
    weights = weight_bytes(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    room = (memory - (weights + trained * TRAINED) / ranks) / 2
    fast, needed = FAST[device or model.device.type], max(LEAST, longest)
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
        _ends(module, weight) * (weight if weight.is_floating_point() else model).dtype.itemsize
        for module in model.modules()
        if id(module) not in embeddings
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2 and not isinstance(module, nn.Embedding)  # of positions
    )
    return 1.5 * wide


def _ends(module: nn.Module, weight: Tensor) -> int:
    """What goes into and out of a linear layer, whose weight may be packed."""
    if is_quantized(module):
        return int(module.in_features) + int(module.out_features)  # type: ignore[arg-type]
    return sum(weight.shape)


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


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held: of a GPU, or resident where the device is a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.is_file():
        # Not from getrusage: there a process begins with the peak of the one that started it.
        (line,) = [line for line in STATUS.read_text("utf-8").splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
