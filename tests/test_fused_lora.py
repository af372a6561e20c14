"""LoRA and DoRA layers run fused give what peft's give, in value and in gradient."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from peft.tuners.lora import Linear

from burnish.adapters.adapter import add_adapter
from burnish.adapters.lora import fused, fused_lora, row_lengths
from burnish.config import AdapterConfig
from burnish.model.forward import flat
from burnish.tokens import flatten
from burnish.train.objective import next_token_loss
from conftest import tiny_model
from test_train import table

Kind = Literal["lora", "dora"]


def outcome(
    run: object, family: str, kind: Kind, dropout: float = 0.0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = tiny_model(family)
    torch.manual_seed(1)
    add_adapter(model, AdapterConfig(kind=kind, rank=4, dropout=dropout), [])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
        elif "magnitude" in name:
            weight.data *= torch.empty_like(weight).uniform_(0.7, 1.4)
    batch = flatten([table().document(row) for row in range(4)])
    assert callable(run)
    torch.manual_seed(2)
    loss = next_token_loss(run(model.train(), batch), batch)
    loss.backward()
    assert not any("forward" in vars(module) for module in model.modules())  # all is as it was
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize(
    ("family", "dropout"), [("llama", 0.0), ("qwen2", 0.0), ("gpt2", 0.0), ("llama", 0.2)]
)
def test_value_and_gradients_are_those_of_peft(family: str, dropout: float, kind: Kind) -> None:
    """qwen2 has biases, gpt2 no plain linear layers, dropout is peft's own: those run as they did."""
    loss, gradients = outcome(flat, family, kind, dropout)
    fused_loss, fused_gradients = outcome(fused(flat), family, kind, dropout)
    assert (kind == "dora") == any("magnitude" in name for name in gradients)
    torch.testing.assert_close(fused_loss, loss, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == fused_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_lengths_of_rows_by_hand() -> None:
    """|W + s B A|, which is never made."""
    weight, down, up = torch.randn(6, 5), torch.randn(3, 5), torch.randn(6, 3)
    torch.testing.assert_close(row_lengths(weight, down, up, 0.5), (weight + 0.5 * up @ down).norm(dim=1))
    low = [matrix.bfloat16() for matrix in (weight, down, torch.zeros(6, 3))]
    assert torch.equal(row_lengths(*low, 0.5), torch.linalg.norm(low[0], dim=1).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dora_begins_as_its_base_exactly(dtype: torch.dtype) -> None:
    model = tiny_model("llama").to(dtype)
    batch = flatten([table().document(row) for row in range(4)])
    base = flat(model, batch).logits()
    add_adapter(model, AdapterConfig(kind="dora", rank=4), [])
    assert torch.equal(fused(flat)(model, batch).logits(), base)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_plain_layers_are_fused_and_others_left_to_peft(kind: Kind) -> None:
    model = tiny_model("qwen2")  # biases on q, k and v alone
    add_adapter(model, AdapterConfig(kind=kind, rank=4), [])
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
