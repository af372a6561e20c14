"""The memory of a run, part by part and phase by phase, before anything of it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from burnish.adapters.adapter import STARTS_IN_WEIGHT, ParameterCount, count_parameters
from burnish.adapters.lora import fused, fused_lora
from burnish.config import RunConfig
from burnish.errors import ModelError
from burnish.evaluate.evaluation import BUDGET
from burnish.loss.linear_cross_entropy import LOGITS
from burnish.model.forward import flat, shares_prefixes
from burnish.model.layers import layers_of
from burnish.model.quantize import weight_bytes
from burnish.model.recompute import recomputed
from burnish.model.tally import BACK, HEAD, KEPT, pass_peak
from burnish.plan.workload import Workload, held_out_batch, largest_batch
from burnish.prepare.passes import compiles
from burnish.tokens import Batch
from burnish.train.objective import next_token_loss

PROCESS = {"cpu": 580e6, "cuda": 600e6}
"""Python, torch and the other libraries with what they set up at their first products. On a CPU some 420 MB
once they are imported, 50 with a tokenizer, and the rest of kernels and their pages. On CUDA a guess at its
context, for want of a measurement; it is no part of the peak that a run writes down there."""

SPARE, HOLES = 3, 0.12
"""What a CPU's memory holds besides: so many layers' worth of activations, for buffers within products and
for pieces of other sizes that the allocator keeps, and this share of all that comes and goes. Both, and
``PROCESS``, are fitted to the runs of ``benchmarks/memory.py``, rather over than under."""

COMPILER = 100e6
"""What the compiler brings into the process, about."""

BITSANDBYTES = 30e6
"""What it and accelerate bring, imported and once used."""

COMPILED = 0.65
"""Of what layers keep for the backward pass, what compiled ones do: the rest is computed again from it. Both
figures are fitted to one run of a 39 M model, so they hold less well than what is counted."""


@dataclass(frozen=True)
class Footprint:
    """Bytes for each device. ``parts``: what stands in memory together where forward and backward take most;
    ``phases``: the most of each phase."""

    parts: dict[str, float]
    phases: dict[str, float]
    count: ParameterCount
    batch_tokens: int
    compiled: bool

    @property
    def fullest(self) -> str:
        return max(self.phases, key=lambda name: self.phases[name])

    @property
    def peak(self) -> float:
        return self.phases[self.fullest]


@dataclass(frozen=True)
class ResolvedSettings:
    """How a run computes: what its config leaves open is filled in. ``budget``: tokens of a micro-batch."""

    budget: int
    recompute: bool
    eight_bit: bool
    device: str
    ranks: int


def footprint(
    config: RunConfig, model: PreTrainedModel, workload: Workload, resolved: ResolvedSettings
) -> Footprint:
    """Count the memory of a model on the meta device with its adapter, trained with these settings. Raises
    ``ModelError`` where the model cannot be counted."""
    count = count_parameters(model)
    ranks, trained = resolved.ranks, count.trainable / resolved.ranks
    theirs = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    whole = config.adapter.kind == "none"
    weights = weight_bytes(model) / ranks
    copies = 2 if config.adapter.init in STARTS_IN_WEIGHT else 1  # as it began, for when it is saved
    parts = {
        "base weights": weights if whole else weights - theirs / ranks,
        "adapter weights": 0.0 if whole else copies * theirs / ranks,
        "masters": 4 * trained,
        "moments": trained * (2 if resolved.eight_bit else 8),
    }
    standing = sum(parts.values())
    model.train()
    share = shares_prefixes(model, flat)
    batch, several = largest_batch(config, workload, resolved.budget, share, ranks)
    sums = 4 * trained
    forward = recomputed(flat, fused_lora) if resolved.recompute else fused(flat)
    try:
        taken = pass_peak(lambda: forward(model, batch), lambda features: next_token_loss(features, batch))
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"the memory of {type(model).__name__} cannot be counted: {error}",
            why="It does not run in flat batches, or what it computes decides what it does next.",
            fix="Try a run of a few steps: --set train.max_steps=2; provenance.json then has its peak_bytes.",
        ) from error
    parts["gradient sums"] = sums if several else 0.0
    compiled = not resolved.recompute and ranks == 1 and compiles(model, workload.tokens, config.train)
    gathered = gathered_bytes(model) if ranks > 1 else 0.0
    moved = {
        "activations kept": taken[KEPT] * (COMPILED if compiled else 1.0),
        "the head's chunks and gradient": taken[HEAD] + (4.0 * LOGITS if resolved.device == "cuda" else 0.0),
        "gradients and the backward pass": float(taken[BACK]),
        "layers put together": gathered,
    }
    spare = 0.0
    if resolved.device == "cpu":
        kept = _kept_by_layers(model, batch) if resolved.recompute else taken[KEPT]
        spare = SPARE * kept / max(1, len(layers_of(model))) + HOLES * sum(moved.values())
    process = PROCESS[resolved.device] + (BITSANDBYTES if config.model.quantize != "none" else 0.0)
    process += COMPILER if compiled and resolved.device == "cpu" else 0.0
    parts |= moved | {"spare": spare, "torch and the other libraries": process}
    phases = {
        "loading": weights * ranks + process if ranks > 1 else weights + process,
        "measuring the base": weights + 4 * trained + _evaluating(model, workload) + process,
        "forward and backward": sum(parts.values()),
        "the optimizer's step": standing + sums + process,
    }
    return Footprint(parts, phases, count, len(batch.input_ids), compiled)


def _kept_by_layers(model: PreTrainedModel, batch: Batch) -> float:
    """What they keep where nothing is computed again."""
    return pass_peak(lambda: fused(flat)(model, batch), lambda f: next_token_loss(f, batch))[KEPT]


def _evaluating(model: PreTrainedModel, workload: Workload) -> float:
    batch = held_out_batch(workload, BUDGET)
    if batch is None:
        return 0.0
    model.eval()
    taken = pass_peak(lambda: fused(flat)(model, batch), lambda f: next_token_loss(f, batch), learns=False)
    return float(sum(taken.values()))


def gathered_bytes(model: PreTrainedModel) -> float:
    """What a device of several puts together while it computes: two layers, one of them ahead, and what is
    outside of the layers."""
    layers = layers_of(model)
    sizes = [weight_bytes(layer) for layer in layers]
    return weight_bytes(model) - sum(sizes) + 2 * max(sizes, default=0.0)
