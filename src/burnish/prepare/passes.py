"""How a model is run over batches: flat or padded, how many tokens at a time, compiled or computed again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from burnish.adapters.lora import DORA, EXPERTS, fused, fused_lora
from burnish.config import TrainConfig
from burnish.model.allocator import keep_freed_memory
from burnish.model.budget import FAST, Budget, memory_of
from burnish.model.compiled import compiled, worth_compiling
from burnish.model.forward import Forward, choose_forward, shares_prefixes
from burnish.model.recompute import recomputed
from burnish.run.screen import Screen
from burnish.tokens import Batch, Order, TokenTable, flatten
from burnish.train.budget import budget_of
from burnish.train.ranks import Ranks


@dataclass(frozen=True)
class Passes:
    """``measuring``: the pass for figures; ``training``: the one for steps, of ``micro_batch_tokens`` at a
    time. ``share``: whether what a step's rows begin with alike may stand once."""

    measuring: Forward
    training: Forward
    micro_batch_tokens: int
    share: bool


def choose_passes(
    model: PreTrainedModel, table: TokenTable, settings: TrainConfig, ranks: Ranks, screen: Screen
) -> Passes:
    """Compute a few rows of the first step in several ways, and choose the fastest one that gives the logits
    of each document alone and fits into memory. Called on the weights as they begin in a run that goes on
    too, so that it comes to the same choice."""
    trial = _trial_batch(table, settings).to(model.device)
    measuring, why_padded = choose_forward(model, trial)
    if why_padded:
        screen.warn(f"Training with padded batches, which is slower: {why_padded}.")
    if model.device.type == "cpu":
        keep_freed_memory()
    budget = _budget(model, table.longest, settings, ranks, screen)
    if budget.recompute:
        training = recomputed(measuring, fused_lora)
    elif ranks.count == 1 and compiles(model, math.ceil(table.tokens * settings.epochs), settings):
        # Untried with weights that are split over several ranks.
        training = _compiled(measuring, model, trial, screen)
    else:
        training = fused(measuring)
    return Passes(measuring, training, budget.tokens, shares_prefixes(model, measuring))


def _trial_batch(table: TokenTable, settings: TrainConfig) -> Batch:
    """Some short documents of the first step and its longest: enough for a leak between them to show."""
    first = Order(len(table), settings.batch_size, settings.seed).step(0)
    rows = sorted(first, key=table.length)
    return flatten([table.document(row) for row in dict.fromkeys((*rows[:3], rows[-1]))])


def _budget(
    model: PreTrainedModel, longest: int, settings: TrainConfig, ranks: Ranks, screen: Screen
) -> Budget:
    memory = memory_of(model.device)
    if model.device.type == "cpu":
        memory //= ranks.count  # as if all of them were on this machine
    budget = budget_of(settings, model, memory, longest, ranks.count)
    if budget.recompute:
        screen.say("Activations are computed again in the backward pass, to save memory.")
    if not settings.micro_batch_tokens and budget.tokens < FAST[model.device.type]:
        screen.say(f"Micro-batches of {budget.tokens:,} tokens: memory has no room for larger ones.")
    return budget


def compiles(model: nn.Module, tokens: int, settings: TrainConfig) -> bool:
    """Whether a run of so many tokens compiles its layers, where it can."""
    return worth_compiling(model, tokens) if settings.compile == "auto" else settings.compile


def _compiled(forward: Forward, model: PreTrainedModel, trial: Batch, screen: Screen) -> Forward:
    screen.say("Compiling the layers, which takes up to a minute.")
    known = fused(forward, DORA, EXPERTS)  # LoRA's sums the compiler knows as well
    faster, why = compiled(known, model, trial)
    if why:
        screen.warn(f"Training without compiled layers, which is slower: {why}.")
        return fused(forward)
    return faster
