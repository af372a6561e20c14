"""AdamW over fp32 master weights.

A bf16 weight near 1 has neighbours 0.008 away, so a step of 1e-5 would vanish. Each trained weight
therefore has an fp32 master that takes the step, and the model's weight is its rounding.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from burnish.config import TrainConfig
from burnish.errors import ConfigError
from burnish.model.shard import free_gathered, gathered, local, split_like
from burnish.train.ranks import Ranks


def optimizer_of(
    model: nn.Module, settings: TrainConfig, *, quantized: bool = False, ranks: Ranks = Ranks()
) -> MasterAdamW:
    """The optimizer that the settings name; ``quantized``: whether the model stands on a base of few bits."""
    device = next(model.parameters()).device.type
    return MasterAdamW(
        model,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        eight_bit=uses_eight_bits(settings, device, quantized),
        ranks=ranks,
    )


def uses_eight_bits(settings: TrainConfig, device: str, quantized: bool) -> bool:
    """Whether the moments have eight bits each, on a device of this type."""
    wanted = settings.optimizer
    return wanted == "adamw-8bit" or (wanted == "auto" and quantized and device == "cuda")


class MasterAdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on the masters of a model's trained weights.

    Gradients of micro-batches add up in fp32 as well: ``accumulate`` moves them from the model to the masters
    after each backward pass. Matrices decay, vectors (norms, biases) do not. Of weights that are split over
    ``ranks``, each rank keeps and steps the masters of its own part. With ``eight_bit`` the moments have
    eight bits each, in blocks of 256 (Dettmers et al. 2021, arXiv:2110.02861), and move out of a GPU's memory
    while it is short.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weight_decay: float,
        betas: tuple[float, float],
        eight_bit: bool = False,
        ranks: Ranks = Ranks(),
    ) -> None:
        self.model, self.ranks = model, ranks
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = {name: local(p.detach()).float().clone() for name, p in self.weights.items()}
        matrices = [m for m in self.masters.values() if m.ndim >= 2]
        vectors = [m for m in self.masters.values() if m.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.eight_bit = eight_bit
        self.adam: Any
        if eight_bit:
            self.adam = _paged_adamw_8bit(groups, betas)
        else:
            self.adam = torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)

    def accumulate(self) -> None:
        """Move the gradients of a backward pass from the model to the masters, where they add up."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            master = self.masters[name]
            gradient = local(weight.grad)
            if master.grad is None:
                master.grad = gradient.float()
            else:
                master.grad += gradient
            weight.grad = None

    def without_gradient(self) -> list[str]:
        """Trained weights that the last backward passes did not reach."""
        return [name for name, master in self.masters.items() if master.grad is None]

    def clip(self, max_norm: float) -> float:
        """Scale the gradients to a global norm of at most ``max_norm``; returns the norm before."""
        masters = list(self.masters.values())
        norm = nn.utils.get_total_norm([m.grad for m in masters if m.grad is not None])
        if self.ranks.count > 1:
            norm = norm.new_tensor(math.sqrt(self.ranks.sum(float(norm) ** 2)))
        nn.utils.clip_grads_with_norm_(masters, max_norm, norm)
        return float(norm)

    def step(self, learning_rate: float) -> None:
        """Take one step and round the masters into the model."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.step()
        self.drop_gradients()
        self._round_into_model()

    def drop_gradients(self) -> None:
        """Drop all gradients, those of the model's weights too."""
        self.adam.zero_grad(set_to_none=True)
        for weight in self.weights.values():
            weight.grad = None

    def state(self, keep: bool = True) -> dict[str, Tensor]:
        """Masters and moments, gathered, as a flat table for a checkpoint. Of weights that are split all
        ranks must call it; the table is empty on those that do not ``keep`` it."""
        table = {}
        for name, master in self.masters.items():
            for key, part in {"master": master, **self._moments(master)}.items():
                full = gathered(part, self.weights[name]) if part.shape == master.shape else part
                if keep:
                    table[f"{key}/{name}"] = full if self.ranks.count == 1 else full.cpu()
        return table

    @torch.no_grad()
    def load(self, table: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave, and round the masters into the model."""
        for name, master in self.masters.items():
            weight = self.weights[name]
            master.copy_(split_like(table[f"master/{name}"], weight))
            if self.eight_bit:
                self._load_eight_bit(master, name, table)
                continue
            moments = {key: split_like(table[f"{key}/{name}"], weight) for key in ("exp_avg", "exp_avg_sq")}
            self.adam.state[master] = {
                "step": table[f"step/{name}"].clone(),
                **{key: moment.to(master.device, copy=True) for key, moment in moments.items()},
            }
        self._round_into_model()

    def _moments(self, master: Tensor) -> dict[str, Tensor]:
        """Of eight bits: the codes and the scale of each block; what the codes mean is always the same."""
        state = self.adam.state[master]
        kept = {key: value for key, value in state.items() if not key.startswith("qmap")}
        return {
            key: value if isinstance(value, Tensor) else torch.tensor(value) for key, value in kept.items()
        }

    def _load_eight_bit(self, master: Tensor, name: str, table: dict[str, Tensor]) -> None:
        for number, group in enumerate(self.adam.param_groups):
            for place, parameter in enumerate(group["params"]):
                if parameter is master:
                    self.adam.init_state(group, master, number, place)  # in memory of its own kind
        state = self.adam.state[master]
        for key in self._moments(master):
            if key == "step":
                state[key] = int(table[f"{key}/{name}"])
            else:
                state[key].copy_(table[f"{key}/{name}"])

    @torch.no_grad()
    def _round_into_model(self) -> None:
        for name, weight in self.weights.items():
            local(weight).copy_(self.masters[name])
        free_gathered(self.model)


def _paged_adamw_8bit(groups: list[dict[str, Any]], betas: tuple[float, float]) -> Any:
    try:
        from bitsandbytes.optim import PagedAdamW8bit
    except ImportError as error:
        raise ConfigError(
            "train.optimizer adamw-8bit needs bitsandbytes", fix="Type: pip install 'burnish[quant]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a CPU nothing is moved, which is no matter for a warning
        return PagedAdamW8bit(groups, lr=0.0, betas=betas)
