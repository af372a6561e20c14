"""How many tokens go through a model at a time: as the settings say, or as memory has the room."""

from __future__ import annotations

from transformers import PreTrainedModel

from burnish.config import TrainConfig
from burnish.model.budget import Budget, fitting_budget


def budget_of(
    settings: TrainConfig,
    model: PreTrainedModel,
    memory: int,
    longest: int,
    ranks: int = 1,
    device: str = "",
) -> Budget:
    """What the settings leave open is filled in by what fits: the other arguments are those of
    ``fitting_budget``."""
    fitting = fitting_budget(model, memory, longest, ranks, device)
    recompute = fitting.recompute if settings.recompute == "auto" else settings.recompute
    return Budget(settings.micro_batch_tokens or fitting.tokens, recompute)
