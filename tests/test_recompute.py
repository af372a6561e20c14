"""Activations that are computed again give the same gradients, and are not kept meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.adapters.adapter import add_adapter
from burnish.adapters.lora import fused, fused_lora
from burnish.config import AdapterConfig
from burnish.model.forward import Forward, flat, padded
from burnish.model.recompute import recomputed
from burnish.run.folder import RunFolder
from burnish.tokens import Batch, flatten
from burnish.train.objective import next_token_loss
from conftest import tiny_model
from test_packing_law import documents
from test_runs import losses, small_data, train


def batch(share: bool) -> Batch:
    rows = documents()
    rows += [
        (ids.copy(), weights) for ids, weights in rows[:2]
    ]  # they begin alike, from one end to the other
    return flatten(rows, share=share)


def learnt(model: PreTrainedModel, forward: Forward, batch: Batch) -> tuple[dict[str, Tensor], int]:
    """The gradients, and the bytes that were kept for the backward pass, each tensor once."""
    torch.manual_seed(1)  # of what is dropped
    model.train()
    model.zero_grad()
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = next_token_loss(forward(model, batch), batch)
    size = sum(kept.values())
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, size


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "mixtral"])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("share", [False, True])
def test_the_gradients_are_the_same_to_the_last_bit(family: str, lora: bool, share: bool) -> None:
    model = tiny_model(family).requires_grad_(True)
    if lora:
        add_adapter(model, AdapterConfig(rank=4), [3, 5])
    expected, kept = learnt(model, fused(flat), batch(share))
    found, kept_now = learnt(model, recomputed(flat, fused_lora), batch(share))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert kept_now < 0.6 * kept


def test_dropout_draws_the_same_again() -> None:
    model = tiny_model("llama").requires_grad_(True)
    add_adapter(model, AdapterConfig(rank=4, dropout=0.5), [])
    gradients = [
        learnt(model, way, batch(share=False))[0] for way in (fused(flat), recomputed(flat, fused_lora))
    ]
    assert all(torch.equal(gradients[0][name], gradient) for name, gradient in gradients[1].items())


def test_padded_batches_are_computed_again_too() -> None:
    model = tiny_model("llama").requires_grad_(True)
    expected, kept = learnt(model, padded, batch(share=False))
    found, kept_now = learnt(model, recomputed(padded, fused_lora), batch(share=False))
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert kept_now < kept


def test_a_run_comes_to_the_same_losses(tmp_path: Path) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    runs: list[RunFolder] = [
        train(data, tmp_path / str(again), train__recompute=again, train__max_steps=3, evaluate__samples=0)
        for again in (False, True)
    ]
    assert losses(runs[0]) == losses(runs[1])
