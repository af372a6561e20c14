"""Packing changes nothing, in any family of models: a document in a batch gets the logits and gives the
gradients that it gets and gives alone, whatever lies beside it and whether or not its beginning is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from burnish.config import TrainConfig
from burnish.errors import ModelError
from burnish.loss.linear_cross_entropy import linear_cross_entropy
from burnish.model import attention
from burnish.model import forward as forward_module
from burnish.model.forward import choose_forward, flat, padded, rotary_reach
from burnish.tokens import Batch, Segment, TokenTable, flatten, micro_batches
from burnish.train.fit import fit
from burnish.train.optimizer import MasterAdamW
from conftest import tiny_model

VOCABULARY = 97
LENGTHS = (23, 20, 9, 1, 12, 2, 2)

ALTERNATING = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
SCALED = {"query_pre_attn_scalar": 8}  # by default scores would be too small for a cap to tell
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}

FLAT = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 5},
    "gemma2": {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 3.0, **ALTERNATING, **SCALED},
    "gemma3_text": ALTERNATING,
    "gpt2": {},
    "gpt_neox": {},
    "phi3": {},
    "olmo2": {},
    "gpt_oss": ALTERNATING | EXPERTS,
    "granite": {"logits_scaling": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5},
    "cohere2": {"logit_scale": 0.5, **ALTERNATING},
    "smollm3": {"no_rope_layers": [1, 0]},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2},
    "mixtral": {"sliding_window": 5, **EXPERTS},
    "qwen3_moe": {"num_experts": 4, **EXPERTS},
}
"""Families that flat batches are right for, by transformers' model type; windows shorter than documents."""

PADDED = {
    "mamba": {"state_size": 8, "time_step_rank": 4},
    "falcon_h1": {"mamba_d_ssm": 64, **STATES},
    "bamba": {"attn_layer_indices": [1], **STATES},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon": {},  # attention of its own kind
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "phimoe": {"sliding_window": 512, **EXPERTS},  # its window stands in its mask alone
    "llama4_text": {"attention_chunk_size": 512, "intermediate_size_mlp": 48, **EXPERTS},
}
"""Families that they are wrong for, or cannot be had."""


def model_of(family: str) -> PreTrainedModel:
    return tiny_model(family, VOCABULARY, **(FLAT | PADDED)[family])


def documents(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random tokens, each but the first a target."""
    draw = np.random.default_rng(seed)
    return [(draw.integers(1, VOCABULARY, n), np.ones(n, np.float32)) for n in lengths]


def alone(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits at the targets, a plain call of the model for each document."""
    rows = [batch.input_ids[s.start : s.start + s.length] for s in batch.segments]
    return torch.cat([model(input_ids=row[None], use_cache=False).logits[0] for row in rows])[
        batch.target_positions
    ]


def packed_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    read = flat(model, batch)
    assert read.weight is not None
    return linear_cross_entropy(
        read.hidden,
        read.weight,
        batch.target_ids,
        batch.target_weights,
        bias=read.bias,
        scale=read.scale,
        softcap=read.softcap,
    )


def gradients(model: PreTrainedModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Each to ``tolerance`` of itself, but for what is rounding beside the largest: that of a key's bias is
    nothing else."""
    assert found.keys() == wanted.keys()
    rounding = 1e-6 * max(gradient.norm() for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= tolerance * gradient.norm() + rounding, name


@pytest.mark.parametrize("family", FLAT)
@torch.no_grad()
def test_a_packed_document_has_the_logits_that_it_has_alone(family: str) -> None:
    model, batch = model_of(family), flatten(documents())
    expected = alone(model, batch)
    assert expected.std() > 0.3  # else closeness would say little
    torch.testing.assert_close(flat(model, batch).logits(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded(model, batch).logits(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        *((family, {"sliding_window": 512}) for family in ("mistral", "mixtral", "gemma2", "gemma3_text")),
        *((family, {"sliding_window": 512}) for family in ("gpt_oss", "cohere2")),
        ("gemma2", {"attn_logit_softcapping": 50.0}),
        ("gemma2", {"final_logit_softcapping": 50.0}),
        ("granite", {"logits_scaling": 1.0}),
        ("cohere2", {"logit_scale": 1.0}),
        ("smollm3", {"no_rope_layers": [1, 1]}),
    ],
    ids=str,
)
@torch.no_grad()
def test_what_sets_a_family_apart_tells_in_its_logits(family: str, changes: dict[str, object]) -> None:
    """Else the laws below would say nothing of it."""
    plain = tiny_model(family, VOCABULARY, **(FLAT[family] | changes))
    batch = flatten(documents())
    assert (alone(plain, batch) - alone(model_of(family), batch)).abs().max() > 0.1


@pytest.mark.parametrize("family", FLAT)
@torch.no_grad()
def test_a_packed_document_does_not_notice_another(family: str) -> None:
    model, before, after = model_of(family), documents(), documents()
    after[1] = documents(seed=1)[1]
    batch, changed = flatten(before), flatten(after)
    logits, moved = flat(model, batch).logits(), flat(model, changed).logits()
    start, end = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    inside = (batch.target_positions >= start) & (batch.target_positions < end)
    assert torch.equal(moved[~inside], logits[~inside])
    assert (moved[inside] - logits[inside]).abs().amax(-1).min() > 0.1


@pytest.mark.parametrize("family", FLAT)
def test_loss_and_gradients_are_those_of_one_document_at_a_time(family: str) -> None:
    model, batch = model_of(family), flatten(documents())
    loss = packed_loss(model, batch)
    found = gradients(model, loss)
    expected = cross_entropy(alone(model, batch), batch.target_ids, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert_same_gradients(found, gradients(model, expected), tolerance=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FLAT | PADDED)
def test_each_family_is_given_the_batches_that_are_right_for_it(family: str, dtype: torch.dtype) -> None:
    model = model_of(family).to(dtype)
    for lengths in (LENGTHS, (40,), (2,), (600, 3)):  # one document may hide what two show, and so on
        chosen, why = choose_forward(model, flatten(documents(lengths)))
        assert (chosen, bool(why)) == ((flat, False) if family in FLAT else (padded, True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("family", "changes"),
    [("bert", {}), ("roberta", {}), ("gemma3_text", {"use_bidirectional_attention": True, **ALTERNATING})],
    ids=["bert", "roberta", "gemma3"],
)
def test_a_model_that_looks_ahead_is_refused(
    family: str, changes: dict[str, object], dtype: torch.dtype
) -> None:
    """And the same weights are taken where they look back alone."""
    model = tiny_model(family, VOCABULARY, **changes).to(dtype)
    for lengths in (LENGTHS, (2,)):
        with pytest.raises(ModelError, match=r"looks ahead: a later token") as refused:
            choose_forward(model, flatten(documents(lengths)))
    assert "causal" in refused.value.fix
    if family != "gemma3_text":
        causal = tiny_model(family, VOCABULARY, is_decoder=True).to(dtype)
        choose_forward(causal, flatten(documents()))


@pytest.mark.parametrize("family", PADDED)
@torch.no_grad()
def test_padded_documents_have_the_logits_that_they_have_alone(family: str) -> None:
    model, batch = model_of(family), flatten(documents())
    torch.testing.assert_close(padded(model, batch).logits(), alone(model, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gpt_oss", "phimoe", "llama4_text"])
def test_windows_are_as_they_were_after_the_choice(family: str) -> None:
    model = model_of(family)
    before = [dict(vars(part)) for part in (model.config, *model.modules())]
    choose_forward(model, flatten(documents()))
    for part, state in zip((model.config, *model.modules()), before, strict=True):
        assert {k: v for k, v in vars(part).items() if "window" in k or "chunk" in k} == {
            k: v for k, v in state.items() if "window" in k or "chunk" in k
        }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FLAT)
@pytest.mark.parametrize("late", [3, 5], ids=["segment on a parent", "document"])
def test_a_leak_of_one_token_is_caught(
    family: str, late: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment begins one token early, so that it sees the last token of the one before."""

    def leaking(model: PreTrainedModel, batch: Batch) -> Tensor:
        before, after = batch.segments[late - 1 : late + 1]
        shorter = replace(before, length=before.length - 1)
        longer = replace(after, start=after.start - 1, length=after.length + 1)
        segments = (*batch.segments[: late - 1], shorter, longer, *batch.segments[late + 1 :])
        return plain(model, replace(batch, segments=segments))

    plain = forward_module._flat_output
    model = model_of(family).to(dtype)
    monkeypatch.setattr(forward_module, "_flat_output", leaking)
    chosen, why = choose_forward(model, flatten(documents()))
    assert chosen is padded
    assert "when other documents change" in why


@dataclass(frozen=True)
class Tree:
    """Pieces of tokens, each (number of the piece that it continues, tokens)."""

    pieces: tuple[tuple[int | None, tuple[int, ...]], ...]

    def line(self, number: int) -> list[int]:
        parent = self.pieces[number][0]
        return [number] if parent is None else [*self.line(parent), number]

    def as_segments(self) -> Batch:
        """Each piece once. A token's weight is the number of documents that it is in."""
        lengths = [len(tokens) for _, tokens in self.pieces]
        starts = list(accumulate(lengths, initial=0))
        segments, positions, before = [], [], []
        for number, (parent, tokens) in enumerate(self.pieces):
            depth = sum(lengths[n] for n in self.line(number)[:-1])
            segments.append(Segment(starts[number], len(tokens), parent))
            positions += range(depth, depth + len(tokens))
            ahead = -1 if parent is None else starts[parent] + lengths[parent] - 1
            before += [ahead, *range(starts[number], starts[number] + len(tokens) - 1)]
        counts = [
            sum(number in self.line(leaf) for leaf in self.leaves()) for number in range(len(self.pieces))
        ]
        ids = [token for _, tokens in self.pieces for token in tokens]
        weights = np.repeat(counts, lengths)
        real = [n for n, position in enumerate(before) if position >= 0]
        return Batch(
            input_ids=torch.tensor(ids),
            position_ids=torch.tensor(positions),
            segments=tuple(segments),
            target_positions=torch.tensor([before[n] for n in real]),
            target_ids=torch.tensor([ids[n] for n in real]),
            target_weights=torch.tensor([float(weights[n]) for n in real]),
        )

    def leaves(self) -> list[int]:
        parents = {parent for parent, _ in self.pieces}
        return [number for number in range(len(self.pieces)) if number not in parents]

    def as_documents(self) -> Batch:
        """A document for each piece that nothing continues, laid whole."""
        whole = [[t for n in self.line(leaf) for t in self.pieces[n][1]] for leaf in self.leaves()]
        return flatten([(np.array(ids), np.ones(len(ids), np.float32)) for ids in whole])

    def spread(self, logits: Tensor) -> Tensor:
        """Logits at the targets of ``as_segments``, in the order of those of ``as_documents``."""
        targets, numbers = {}, iter(range(len(logits)))
        for number, (parent, tokens) in enumerate(self.pieces):
            targets[number] = [next(numbers) for _ in range(len(tokens) - (parent is None))]
        return logits[[t for leaf in self.leaves() for n in self.line(leaf) for t in targets[n]]]


def assert_segments_are_documents(model: PreTrainedModel, tree: Tree) -> None:
    """Logits, loss and gradients are the same with shared beginnings once and with every document whole."""
    shared, whole = tree.as_segments(), tree.as_documents()
    expected = alone(model, whole)
    torch.testing.assert_close(tree.spread(flat(model, shared).logits()), expected, rtol=1e-5, atol=1e-5)
    loss, wanted = packed_loss(model, shared), cross_entropy(expected, whole.target_ids, reduction="sum")
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    assert_same_gradients(gradients(model, loss), gradients(model, wanted), tolerance=1e-5)


def tree_of(*pieces: tuple[int | None, int]) -> Tree:
    """Random tokens; each piece is given as (parent, length)."""
    draw = np.random.default_rng(0)
    return Tree(tuple((parent, tuple(draw.integers(1, VOCABULARY, n).tolist())) for parent, n in pieces))


TREES = {
    "one shared prefix": tree_of((None, 7), (0, 5), (0, 9), (0, 1)),
    "a nested one": tree_of((None, 11), (0, 4), (1, 6), (0, 17), (1, 2), (None, 8)),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("blocks", [None, 4], ids=["one block", "many blocks"])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "gpt_oss"])
def test_a_shared_beginning_gives_what_whole_documents_give(
    family: str, blocks: int | None, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks:
        make_small(monkeypatch, blocks)
    assert_segments_are_documents(model_of(family), tree)


def make_small(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    monkeypatch.setattr(attention, "STEP", 4)
    attention._later.cache_clear()  # of the size of the blocks of before


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    pieces: list[tuple[int | None, int]] = [(None, draw(st.integers(1, 12)))]
    for number in range(1, draw(st.integers(1, 7))):
        pieces.append((draw(st.none() | st.integers(0, number - 1)), draw(st.integers(1, 12))))
    return tree_of(*pieces)


@given(trees().filter(lambda tree: len(tree.as_segments().target_ids) > 0), st.sampled_from([4, 8, 512]))
@settings(max_examples=60)
def test_any_tree_of_shared_beginnings_gives_what_whole_documents_give(tree: Tree, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, block)
        assert_segments_are_documents(model_of("llama"), tree)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt_oss"])
@torch.no_grad()
def test_documents_of_many_blocks_have_the_logits_that_they_have_alone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch, 8)
    model, batch = model_of(family), flatten(documents((29, 8, 16, 3)))
    torch.testing.assert_close(flat(model, batch).logits(), alone(model, batch), rtol=1e-4, atol=1e-5)


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": 16,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 3.0, 2.0, 1.5],
}


def test_a_document_beyond_the_reach_of_longrope_changes_the_angles_of_no_other() -> None:
    table = TokenTable.from_documents(documents())
    rows = range(len(table))
    model = tiny_model("phi3", VOCABULARY, rope_parameters=LONGROPE, original_max_position_embeddings=16)
    model.requires_grad_(False)

    def loss_of(batches: Sequence[Batch]) -> float:
        return sum(packed_loss(model, batch).item() for batch in batches)

    by_themselves = loss_of([batch for row in rows for batch in micro_batches(table, [row], 1000)])
    apart = rotary_reach(model)
    assert apart == 16
    batches = micro_batches(table, rows, 1000, share=True, apart=apart)
    assert [len(batch.segments) for batch in batches] == [1, 1, len(table) - 2]
    assert loss_of(batches) == pytest.approx(by_themselves, rel=1e-5)
    mixed = micro_batches(table, rows, 1000)
    assert loss_of(mixed) != pytest.approx(by_themselves, rel=1e-4), "or this test shows nothing"
    settings = TrainConfig(learning_rate=1e-3, batch_size=len(table), max_steps=1)
    model.requires_grad_(True)
    optimizer = MasterAdamW(model, weight_decay=0.0, betas=(0.9, 0.999))
    (step,) = fit(model, table, settings, optimizer=optimizer, forward=flat, budget=1000)
    assert step.loss * sum(table.weight(row) for row in rows) == pytest.approx(by_themselves, rel=1e-5)
    assert rotary_reach(tiny_model("llama", VOCABULARY)) is None
