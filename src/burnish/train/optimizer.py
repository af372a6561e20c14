"""AdamW over fp32 master weights.

A bf16 weight near 1 has neighbours 0.008 away, so a step of 1e-5 would vanish. Each trained weight
therefore has an fp32 master that takes the step, and the model's weight is its rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MasterAdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on the masters of a model's trained weights.

    Gradients of micro-batches add up in fp32 as well: ``accumulate`` moves them from the model to the
    masters after each backward pass. Matrices decay, vectors (norms, biases) do not.
    """

    def __init__(self, model: nn.Module, *, weight_decay: float, betas: tuple[float, float]) -> None:
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = {name: p.detach().float().clone() for name, p in self.weights.items()}
        matrices = [m for m in self.masters.values() if m.ndim >= 2]
        vectors = [m for m in self.masters.values() if m.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=0.0, betas=betas, fused=True
        )

    def accumulate(self) -> None:
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            master = self.masters[name]
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad += weight.grad
            weight.grad = None

    def without_gradient(self) -> list[str]:
        """Trained weights that the last backward passes did not reach."""
        return [name for name, master in self.masters.items() if master.grad is None]

    def clip(self, max_norm: float) -> float:
        """Scale the gradients to a global norm of at most ``max_norm``; gives the norm before."""
        return float(nn.utils.clip_grad_norm_(list(self.masters.values()), max_norm))

    def step(self, learning_rate: float) -> None:
        """Take one step and round the masters into the model."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.step()
        self.drop()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.masters[name])

    def drop(self) -> None:
        """Throw the gradients away, those of the model's weights too."""
        self.adam.zero_grad(set_to_none=True)
        for weight in self.weights.values():
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """Masters and moments as a flat table, for a checkpoint."""
        table = {f"master/{name}": master for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self.adam.state[master].items():
                table[f"{key}/{name}"] = value
        return table

    @torch.no_grad()
    def load(self, table: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave, and round the masters into the model."""
        for name, master in self.masters.items():
            master.copy_(table[f"master/{name}"])
            self.weights[name].copy_(master)
            self.adam.state[master] = {
                key: table[f"{key}/{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
            }
