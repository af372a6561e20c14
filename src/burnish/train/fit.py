"""The training loop: one optimizer step after another, each reported to whoever iterates.

``fit`` is a generator. It trains one step and yields what it measured; the recipe that iterates decides
what happens in between (evaluate, save, print, stop). So the loop knows nothing of files or screens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from burnish.config import TrainConfig
from burnish.errors import TrainingError
from burnish.model.forward import Forward, rotary_reach
from burnish.tokens import Batch, Order, TokenTable, micro_batches
from burnish.train.objective import next_token_loss
from burnish.train.optimizer import MasterAdamW
from burnish.train.ranks import Ranks
from burnish.train.schedule import learning_rate


@dataclass(frozen=True)
class Step:
    """What one optimizer step measured; ``loss`` is nats a trained token, before the step was taken.

    ``skipped``: why the step was not taken, empty where it was; ``rows``: its rows in the token table.
    ``micro_batch_tokens``: the budget that it took, less than the settings' where memory ran out.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    trained_tokens: int
    seconds: float
    micro_batch_tokens: int
    skipped: str
    rows: tuple[int, ...]


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
    share: bool = False,
    start: int = 0,
    budget: int | None = None,
    skipped: int = 0,
    ranks: Ranks = Ranks(),
) -> Iterator[Step]:
    """Train from step ``start`` to the end, yielding after each optimizer step.

    The loss of a step is its sum over all micro-batches divided once by the step's trained tokens, so
    the micro-batch budget changes memory and speed but not the gradient. Where memory runs out, the budget is
    halved for good and the step is done again. A step whose loss or gradient is not finite is not taken.

    ``share``: what a step's rows begin with alike stands once (where ``shares_prefixes`` says that it may).
    ``budget``, ``skipped``: for a run that goes on, the budget it had come to and how many steps in a row it
    had just skipped. ``ranks``: over which the model is split; each takes its share of a step's
    micro-batches and yields the same. Raises ``TrainingError`` after too many skipped steps, where the
    smallest budget is too large, or when a trained weight gets no gradient in the first step.
    """
    assert settings.learning_rate is not None, "load_config fills it in"
    order = Order(len(table), settings.batch_size, settings.seed)
    steps = total_steps(table, settings)
    warmup = math.ceil(settings.warmup * steps)
    budget = budget or settings.micro_batch_tokens
    assert budget, "the recipe chooses one where the settings leave it open"
    proven = False
    for step in range(start, steps):
        began = time.perf_counter()
        rows = order.step(step)
        torch.manual_seed(settings.seed * 1_000_003 + step + (ranks.rank << 40))
        loss, budget = _gradients(model, table, rows, budget, share, optimizer, forward, ranks)
        if not proven and math.isfinite(loss):
            _require_gradients(model, optimizer)
            proven = True
        norm = optimizer.clip(settings.max_grad_norm) if math.isfinite(loss) else math.nan
        rate = learning_rate(step, steps, settings.learning_rate, warmup, settings.decay, settings.decay_to)
        fault = _not_finite(loss, norm)
        if fault:
            optimizer.drop_gradients()
        else:
            optimizer.step(rate)
        skipped = skipped + 1 if fault else 0
        yield Step(
            step=step + 1,
            epoch=(step + 1) / order.steps_per_epoch,
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            tokens=sum(table.length(row) for row in rows),
            trained_tokens=sum(int(np.count_nonzero(table.document(row)[1][1:])) for row in rows),
            seconds=time.perf_counter() - began,
            micro_batch_tokens=budget,
            skipped=fault,
            rows=tuple(rows),
        )
        # Not back to a checkpoint and on without these rows: each skipped step has left the weights as they
        # were, so there is nothing to undo, and what fails over and over is the rate or the data.
        if skipped >= settings.max_skipped:
            raise TrainingError(
                f"{skipped} steps in a row were skipped, up to step {step + 1}: {fault}",
                why="The same would happen to the next ones. No skipped step changed a weight.",
                fix="Start anew with a lower train.learning_rate, or without the rows in metrics.jsonl.",
            )


def _gradients(
    model: PreTrainedModel,
    table: TokenTable,
    rows: Sequence[int],
    budget: int,
    share: bool,
    optimizer: MasterAdamW,
    forward: Forward,
    ranks: Ranks,
) -> tuple[float, int]:
    """Leave the gradients of one optimizer step with the optimizer. Returns the loss, nats a trained token,
    and the budget with which it went."""
    model.train()
    count = sum(table.weight(row) for row in rows)
    reach = rotary_reach(model)
    while True:
        torch.manual_seed(torch.initial_seed())  # on every device, so a step done again draws the same
        batches = micro_batches(
            table, rows, budget, share=share, apart=reach, rank=ranks.rank, ranks=ranks.count
        )
        try:
            loss = sum(_backward(model, batch, count, optimizer, forward) for batch in batches)
            return ranks.sum(loss), budget
        except (RuntimeError, MemoryError) as error:
            optimizer.drop_gradients()
            if not _out_of_memory(error):
                raise
            if ranks.count > 1:
                raise TrainingError(
                    f"memory ran out on rank {ranks.rank} with micro-batches of {budget} tokens",
                    why="The other ranks are in the middle of the step, so it cannot be done again.",
                    fix="Start anew with a lower train.micro_batch_tokens, or with more ranks.",
                ) from error
            if len(batches) == len(rows):
                raise TrainingError(
                    f"memory ran out with micro-batches of {budget} tokens, each a single row",
                    why="They cannot be made smaller.",
                    fix="Shorten rows with tokens.max_length, or train an adapter instead of all weights.",
                ) from error
        budget //= 2


def _backward(
    model: PreTrainedModel, batch: Batch, count: float, optimizer: MasterAdamW, forward: Forward
) -> float:
    moved = batch.to(model.device)
    loss = next_token_loss(forward(model, moved), moved) / count
    loss.backward()
    optimizer.accumulate()
    return loss.item()


def _out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out. CUDA has a type for it; the CPU's allocator says it in
    words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _not_finite(loss: float, norm: float) -> str:
    """What is not finite, in words; empty where both are."""
    if not math.isfinite(loss):
        return f"the loss was {loss}"
    return "" if math.isfinite(norm) else f"the gradient's norm was {norm}"


def _require_gradients(model: PreTrainedModel, optimizer: MasterAdamW) -> None:
    missing = optimizer.without_gradient()
    if missing:
        raise TrainingError(
            f"{len(missing)} trained tensors got no gradient: {', '.join(missing[:5])}",
            why="They would stay as they are while the run reports them as trained.",
            fix="Leave them out of adapter.targets, or check that the model uses them.",
        )
    # The optimizer has taken the gradients of what it trains; one that is left is of something frozen.
    stray = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert not stray, f"not to be trained, but with a gradient: {', '.join(stray[:5])}"


@torch.no_grad()
def mean_loss(
    model: PreTrainedModel, table: TokenTable, forward: Forward, budget: int, ranks: Ranks = Ranks()
) -> float:
    """The loss over a whole table, in nats a trained token."""
    model.eval()
    device = next(model.parameters()).device
    rows = range(len(table))
    loss_sum = 0.0
    reach = rotary_reach(model)
    for batch in micro_batches(table, rows, budget, apart=reach, rank=ranks.rank, ranks=ranks.count):
        moved = batch.to(device)
        loss_sum += next_token_loss(forward(model, moved), moved).item()
    return ranks.sum(loss_sum) / sum(table.weight(row) for row in rows)
