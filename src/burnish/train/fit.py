"""The training loop: one optimizer step after another, each reported to whoever iterates.

``fit`` is a generator. It trains one step and yields what it measured; the recipe that iterates decides
what happens in between (evaluate, save, print, stop). So the loop knows nothing of files or screens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from burnish.config import TrainConfig
from burnish.errors import TrainingError
from burnish.model.forward import Forward, shares_prefixes
from burnish.tokens import Order, TokenTable, micro_batches
from burnish.train.objective import next_token_loss
from burnish.train.optimizer import MasterAdamW
from burnish.train.schedule import learning_rate


@dataclass(frozen=True)
class Step:
    """What one optimizer step measured; ``loss`` is nats a trained token, before the step was taken."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    trained_tokens: int
    seconds: float


def total_steps(table: TokenTable, settings: TrainConfig) -> int:
    """Optimizer steps of the whole run: all epochs, or ``max_steps`` where that is less."""
    order = Order(len(table), settings.batch_size, settings.seed)
    steps = math.ceil(order.steps_per_epoch * settings.epochs)
    return min(steps, settings.max_steps) if settings.max_steps else steps


def fit(
    model: PreTrainedModel,
    table: TokenTable,
    settings: TrainConfig,
    *,
    optimizer: MasterAdamW,
    forward: Forward,
    start: int = 0,
) -> Iterator[Step]:
    """Train from step ``start`` to the end, yielding after each optimizer step.

    The loss of a step is its sum over all micro-batches divided once by the step's trained tokens, so
    the micro-batch budget changes memory and speed but not the gradient. Raises ``TrainingError`` when
    the loss or the gradient is not finite, or when a trained weight gets no gradient in the first step.
    """
    assert settings.learning_rate is not None, "load_config fills it in"
    order = Order(len(table), settings.batch_size, settings.seed)
    steps = total_steps(table, settings)
    warmup = math.ceil(settings.warmup * steps)
    device = next(model.parameters()).device
    share = shares_prefixes(model, forward)
    for step in range(start, steps):
        began = time.perf_counter()
        model.train()
        torch.manual_seed(settings.seed * 1_000_003 + step)
        rows = order.step(step)
        batches = micro_batches(table, rows, settings.micro_batch_tokens, share=share)
        count = sum(float(batch.target_weights.sum()) for batch in batches)
        loss_sum = 0.0
        for batch in batches:
            moved = batch.to(device)
            loss = next_token_loss(forward(model, moved), moved)
            (loss / count).backward()
            optimizer.accumulate()
            loss_sum += loss.item()
        if not math.isfinite(loss_sum):
            raise TrainingError(
                f"the loss of step {step + 1} is {loss_sum}",
                why="Going on would destroy the weights; this step was not taken.",
                fix="Lower train.learning_rate, or look for broken rows in the data.",
            )
        if step == start:
            _require_gradients(optimizer)
        rate = learning_rate(step, steps, settings.learning_rate, warmup, settings.decay, settings.decay_to)
        norm = optimizer.step(rate, settings.max_grad_norm)
        yield Step(
            step=step + 1,
            epoch=(step + 1) / order.steps_per_epoch,
            loss=loss_sum / count,
            learning_rate=rate,
            grad_norm=norm,
            tokens=sum(table.length(row) for row in rows),
            trained_tokens=sum(int(np.count_nonzero(table.document(row)[1][1:])) for row in rows),
            seconds=time.perf_counter() - began,
        )


def _require_gradients(optimizer: MasterAdamW) -> None:
    missing = optimizer.without_gradient()
    if missing:
        raise TrainingError(
            f"{len(missing)} trained tensors got no gradient: {', '.join(missing[:5])}",
            why="They would stay as they are while the run reports them as trained.",
            fix="Leave them out of adapter.targets, or check that the model uses them.",
        )


@torch.no_grad()
def mean_loss(model: PreTrainedModel, table: TokenTable, forward: Forward, budget: int) -> float:
    """The loss over a whole table, in nats a trained token."""
    model.eval()
    device = next(model.parameters()).device
    loss_sum = count = 0.0
    for batch in micro_batches(table, range(len(table)), budget):
        moved = batch.to(device)
        loss_sum += next_token_loss(forward(model, moved), moved).item()
        count += float(batch.target_weights.sum())
    return loss_sum / count
