"""LoRA layers run fused give what peft's give, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.lora import Linear

from burnish.config import AdapterConfig
from burnish.model.adapter import add_adapter
from burnish.model.forward import flat
from burnish.model.lora import fused, fused_lora
from burnish.tokens import flatten
from burnish.train.objective import next_token_loss
from conftest import tiny_model
from test_train import table


def outcome(run: object, family: str, dropout: float = 0.0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = tiny_model(family)
    torch.manual_seed(1)
    add_adapter(model, AdapterConfig(rank=4, dropout=dropout), [])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    batch = flatten([table().document(row) for row in range(4)])
    assert callable(run)
    torch.manual_seed(2)
    loss = next_token_loss(run(model.train(), batch), batch)
    loss.backward()
    assert not any("forward" in vars(module) for module in model.modules())  # all is as it was
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("family", "dropout"), [("llama", 0.0), ("qwen2", 0.0), ("gpt2", 0.0), ("llama", 0.2)]
)
def test_value_and_gradients_are_those_of_peft(family: str, dropout: float) -> None:
    """qwen2 has biases, gpt2 no plain linear layers, dropout is peft's own: those run as they did."""
    loss, gradients = outcome(flat, family, dropout)
    fused_loss, fused_gradients = outcome(fused(flat), family, dropout)
    torch.testing.assert_close(fused_loss, loss, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == fused_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_plain_layers_are_fused_and_others_left_to_peft() -> None:
    model = tiny_model("qwen2")  # biases on q, k and v alone
    add_adapter(model, AdapterConfig(rank=4), [])
    with fused_lora(model):
        run = {n.rsplit(".")[-1]: "forward" in vars(m) for n, m in model.named_modules() if type(m) is Linear}
    assert run == {
        "q_proj": False,
        "k_proj": False,
        "v_proj": False,
        "o_proj": True,
        "gate_proj": True,
        "up_proj": True,
        "down_proj": True,
    }
