"""How flat batches are run, and what is noticed where it goes wrong; ``test_packing_law.py`` has the law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.model import forward as forward_module
from burnish.model.attention import BLOCK, FLAT, flat_attention_over
from burnish.model.forward import choose_forward, flat, padded
from burnish.tokens import Batch, flatten
from conftest import tiny_model

VOCABULARY = 97


def documents(*lengths: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random tokens, each but the first a target."""
    draw = np.random.default_rng(0)
    return [(draw.integers(1, VOCABULARY, n), np.ones(n, np.float32)) for n in lengths]


@torch.no_grad()
def test_documents_of_several_blocks_are_exact_too() -> None:
    model = tiny_model("llama", VOCABULARY)
    batch = flatten(documents(BLOCK + 9, 30))
    torch.testing.assert_close(
        flat(model, batch).logits(), padded(model, batch).logits(), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_a_document_never_sees_what_comes_later_in_it() -> None:
    model = tiny_model("llama", VOCABULARY)
    before, after = documents(12), documents(12)
    after[0][0][-1] = (after[0][0][-1] + 1) % VOCABULARY
    logits, moved = flat(model, flatten(before)).logits(), flat(model, flatten(after)).logits()
    torch.testing.assert_close(moved, logits, rtol=0, atol=1e-6)


def test_positions_that_do_not_start_anew_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def running_on(model: PreTrainedModel, batch: Batch) -> Tensor:
        return plain(model, replace(batch, position_ids=torch.arange(len(batch.input_ids))))

    plain = forward_module._flat_output
    monkeypatch.setattr(forward_module, "_flat_output", running_on)
    chosen, why = choose_forward(tiny_model("gpt2", VOCABULARY), flatten(documents(23, 20)))
    assert chosen is padded
    assert "rounding would explain" in why


def test_logits_that_are_not_finite_are_not_taken_for_equal() -> None:
    model = tiny_model("llama", VOCABULARY)
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    assert choose_forward(model, flatten(documents(23, 20)))[0] is padded


def test_the_attention_of_before_is_put_back() -> None:
    model = tiny_model("llama", VOCABULARY)
    before = model.config._attn_implementation
    with flat_attention_over(model, ()):
        assert model.config._attn_implementation == FLAT
    assert model.config._attn_implementation == before
    with pytest.raises(ZeroDivisionError), flat_attention_over(model, ()):
        _ = 1 / 0
    assert model.config._attn_implementation == before


def test_attention_that_cannot_be_replaced_is_refused_by_name() -> None:
    chosen, why = choose_forward(tiny_model("falcon", VOCABULARY), flatten(documents(23, 20)))
    assert (chosen, why) == (
        padded,
        "flat batches do not run on FalconForCausalLM (its attention cannot be replaced)",
    )
