"""How many tokens go through a model at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from burnish.adapters.adapter import add_adapter
from burnish.config import AdapterConfig
from burnish.model import budget
from burnish.model.budget import (
    FAST,
    LEAST,
    TRAINED,
    Budget,
    fitting_budget,
    memory_of,
    token_bytes,
    token_bytes_recomputed,
)
from conftest import tiny_model

# Two layers, 32 wide, MLP of 48, keys and values 16 wide, by hand: what goes in and out of each product.
WIDE = 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))


def test_a_token_takes_what_goes_in_and_out_of_each_product_and_half_as_much_again() -> None:
    model = tiny_model("llama")
    assert token_bytes(model) == 1.5 * 4 * WIDE
    assert token_bytes(model.to(torch.bfloat16)) == 1.5 * 2 * WIDE


def test_an_adapter_adds_its_own_products() -> None:
    model = tiny_model("llama")
    add_adapter(model, AdapterConfig(rank=4, targets=("q_proj",)), [])
    assert token_bytes(model) == 1.5 * 4 * (WIDE + 2 * ((32 + 4) + (4 + 32)))


def test_embeddings_and_head_are_no_products_of_a_layer_nor_are_their_trained_tokens() -> None:
    model = tiny_model("llama")
    add_adapter(model, AdapterConfig(rank=4, targets=("q_proj",)), [3, 5])
    assert token_bytes(model) == 1.5 * 4 * (WIDE + 2 * ((32 + 4) + (4 + 32)))


def test_half_of_what_weights_and_optimizer_leave_is_filled() -> None:
    model = tiny_model("llama").requires_grad_(True)
    weights = sum(p.numel() for p in model.parameters())
    state = weights * (4 + TRAINED)
    wanted = int(1024 * token_bytes(model))
    fits = Budget(1024, recompute=False)
    assert fitting_budget(model, state + 2 * wanted, 99) == fits
    assert fitting_budget(model, state // 2 + 2 * wanted, 99, ranks=2) == fits
    assert fitting_budget(model.requires_grad_(False), weights * 4 + 2 * wanted, 99) == fits


def test_never_more_than_is_fast_nor_so_few_that_it_crawls() -> None:
    model = tiny_model("llama")
    assert fitting_budget(model, 2**40, 99) == Budget(FAST["cpu"], recompute=False)
    assert fitting_budget(model, 0, 99) == Budget(LEAST, recompute=True)


def test_activations_are_computed_again_where_the_longest_row_does_not_fit() -> None:
    model = tiny_model("llama").requires_grad_(False)
    memory = sum(p.numel() for p in model.parameters()) * 4 + 2 * int(1024 * token_bytes(model))
    again = 2 * 32 * 4 + token_bytes(model) / 2  # what goes into each of two layers, and all of one
    assert token_bytes_recomputed(model) == again
    assert fitting_budget(model, memory, 1024).recompute is False
    assert fitting_budget(model, memory, 1025) == Budget(
        int(1024 * token_bytes(model) / again) // 128 * 128, recompute=True
    )


def test_a_container_has_the_memory_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(budget, "CGROUP", tmp_path / "max")
    for text, expected in (("12345678\n", 12345678), ("max\n", machine)):
        (tmp_path / "max").write_text(text, "utf-8")
        assert memory_of(torch.device("cpu")) == expected
