"""Packing changes nothing: a document in a flat batch gets the logits that it gets alone."""

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
from burnish.tokens import Batch, Segment, flatten
from conftest import tiny_model

VOCABULARY = 97
LENGTHS = (23, 20, 9, 1, 12, 2, 2)

FLAT_FAMILIES = {
    "llama": {},
    "qwen2": {},
    "mistral without window": {"sliding_window": None},
    "mistral with a window no document reaches": {"sliding_window": 64},
    "gpt2": {},
}


def model_named(name: str) -> PreTrainedModel:
    return tiny_model(name.split()[0], VOCABULARY, **FLAT_FAMILIES[name])


def documents(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random tokens, each but the first a target."""
    draw = np.random.default_rng(seed)
    return [(draw.integers(1, VOCABULARY, n), np.ones(n, np.float32)) for n in lengths]


def each_alone(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits at the targets, a plain call of the model for each document."""
    pieces = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows_of(batch)]
    return torch.cat(pieces)[batch.target_positions]


def rows_of(batch: Batch) -> list[Tensor]:
    return [batch.input_ids[s.start : s.start + s.length] for s in batch.segments]


@pytest.mark.parametrize("name", FLAT_FAMILIES)
@torch.no_grad()
def test_packed_logits_are_those_of_each_document_alone(name: str) -> None:
    model, batch = model_named(name), flatten(documents())
    alone = each_alone(model, batch)
    assert alone.abs().max() > 0.5  # else closeness would say little
    torch.testing.assert_close(flat(model, batch).logits(), alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded(model, batch).logits(), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FLAT_FAMILIES)
def test_families_that_can_have_flat_batches_are_given_them(name: str) -> None:
    assert choose_forward(model_named(name), flatten(documents())) == (flat, "")


@pytest.mark.parametrize("name", FLAT_FAMILIES)
def test_rounding_of_bf16_is_no_reason_for_padding(name: str) -> None:
    model = model_named(name).to(torch.bfloat16)
    assert choose_forward(model, flatten(documents())) == (flat, "")


@torch.no_grad()
def test_documents_of_several_blocks_are_exact_too() -> None:
    model = tiny_model("llama", VOCABULARY)
    batch = flatten(documents((BLOCK + 9, 30)))
    torch.testing.assert_close(flat(model, batch).logits(), each_alone(model, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FLAT_FAMILIES)
@torch.no_grad()
def test_another_document_changes_nothing(name: str) -> None:
    model = model_named(name)
    before, after = documents(), documents()
    after[1] = documents(seed=1)[1]
    batch, changed = flatten(before), flatten(after)
    logits, moved = flat(model, batch).logits(), flat(model, changed).logits()
    start, end = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    inside = (batch.target_positions >= start) & (batch.target_positions < end)
    torch.testing.assert_close(moved[~inside], logits[~inside], rtol=0, atol=1e-6)
    assert not torch.allclose(moved[inside], logits[inside], atol=0.1)


@torch.no_grad()
def test_a_document_never_sees_what_comes_later_in_it() -> None:
    model = tiny_model("llama", VOCABULARY)
    before, after = documents((12,)), documents((12,))
    after[0][0][-1] = (after[0][0][-1] + 1) % VOCABULARY
    logits, moved = flat(model, flatten(before)).logits(), flat(model, flatten(after)).logits()
    torch.testing.assert_close(moved, logits, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_window_in_force_is_kept_in_flat_batches() -> None:
    model, batch = tiny_model("mistral", VOCABULARY, sliding_window=8), flatten(documents())
    chosen, why = choose_forward(model, batch)
    assert (chosen, why) == (flat, "")
    alone = each_alone(model, batch)
    torch.testing.assert_close(chosen(model, batch).logits(), alone, rtol=1e-4, atol=1e-5)
    free = tiny_model("mistral", VOCABULARY, sliding_window=None)
    assert not torch.allclose(each_alone(free, batch), alone, atol=0.1)  # the window was in force


@torch.no_grad()
def test_a_soft_cap_is_kept_in_flat_batches() -> None:
    model, batch = tiny_model("gemma2", VOCABULARY), flatten(documents())
    chosen, why = choose_forward(model, batch)
    assert (chosen, why) == (flat, "")
    torch.testing.assert_close(chosen(model, batch).logits(), each_alone(model, batch), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_choice_holds_for_longer_documents_than_those_it_was_made_on() -> None:
    model = tiny_model("mistral", VOCABULARY, sliding_window=16)
    chosen, _ = choose_forward(model, flatten(documents((10, 8))))
    batch = flatten(documents((30, 8)))
    torch.testing.assert_close(chosen(model, batch).logits(), each_alone(model, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FLAT_FAMILIES)
def test_a_leak_between_documents_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two documents as one segment, so that the second sees the first."""

    def leaking(model: PreTrainedModel, batch: Batch) -> Tensor:
        first, second, *others = batch.segments
        both = Segment(first.start, first.length + second.length)
        return plain(model, replace(batch, segments=(both, *others)))

    plain = forward_module._flat_output
    monkeypatch.setattr(forward_module, "_flat_output", leaking)
    chosen, why = choose_forward(model_named(name), flatten(documents()))
    assert chosen is padded
    assert "packed logits differ" in why


def test_positions_that_do_not_start_anew_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def running_on(model: PreTrainedModel, batch: Batch) -> Tensor:
        return plain(model, replace(batch, position_ids=torch.arange(len(batch.input_ids))))

    plain = forward_module._flat_output
    monkeypatch.setattr(forward_module, "_flat_output", running_on)
    assert choose_forward(tiny_model("gpt2", VOCABULARY), flatten(documents()))[0] is padded


def test_logits_that_are_not_finite_are_not_taken_for_equal() -> None:
    model = tiny_model("llama", VOCABULARY)
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    assert choose_forward(model, flatten(documents()))[0] is padded


def test_the_attention_of_before_is_put_back() -> None:
    model = tiny_model("llama", VOCABULARY)
    before = model.config._attn_implementation
    with flat_attention_over(model, ()):
        assert model.config._attn_implementation == FLAT
    assert model.config._attn_implementation == before
    with pytest.raises(ZeroDivisionError), flat_attention_over(model, ()):
        _ = 1 / 0
    assert model.config._attn_implementation == before


def test_gradients_of_packed_and_padded_are_the_same() -> None:
    batch = flatten(documents())
    gradients = []
    for way in (flat, padded):
        model = tiny_model("llama", VOCABULARY)
        way(model, batch).logits().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
