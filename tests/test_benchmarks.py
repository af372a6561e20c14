"""The benchmarks: the floor is what a step really multiplies, and peers count only if they train alike."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, LlamaForCausalLM

from benchmarks import before, material, rounds, sft
from benchmarks.floor import RANK, Product, needed_products
from benchmarks.material import SHAPES
from burnish.model.load import PEBBLE_FOLDER
from burnish.tokens import TokenTable, micro_batches

LENGTH, LEARNT = 48, 11


def one_row(shared: bool = False) -> TokenTable:
    weights = [0.0] * (LENGTH - LEARNT) + [1.0] * LEARNT
    rows = [list(range(LENGTH)), [*range(LENGTH - 1), 99]] if shared else [list(range(LENGTH))]
    return TokenTable.from_documents((ids, weights) for ids in rows)


def counted(model: torch.nn.Module) -> dict[str, float]:
    """Floating-point operations of a forward and a backward pass over the row, as torch counts them."""
    ids = torch.arange(LENGTH)[None]
    kept = torch.arange(LENGTH - LEARNT - 1, LENGTH - 1)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, logits_to_keep=kept, use_cache=False).logits.sum().backward()
    by_kind = counter.get_flop_counts()["Global"]
    return {str(kind).removeprefix("aten."): float(flops) for kind, flops in by_kind.items()}


@pytest.mark.parametrize("lora", [False, True])
def test_the_floor_is_what_torch_counts_with_attention_halved(lora: bool) -> None:
    shape = SHAPES["tiny"]
    model: Any = LlamaForCausalLM._from_config(shape.config(), attn_implementation="eager")
    if lora:
        model = get_peft_model(model, LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
    found = counted(model)
    table = one_row()
    needed = needed_products(shape, micro_batches(table, [0], 4096), lora)
    linear = sum(times * product.flops for product, times in needed.items() if product.batch == 1)
    attention = sum(times * product.flops for product, times in needed.items() if product.batch > 1)
    assert attention == pytest.approx(found.pop("bmm") * (LENGTH + 1) / (2 * LENGTH))
    assert set(found) == {"mm"} and linear == pytest.approx(found["mm"])


def test_what_rows_share_is_needed_once() -> None:
    shape, table = SHAPES["tiny"], one_row(shared=True)
    whole, shared = (
        needed_products(shape, micro_batches(table, [0, 1], 4096, share=share), lora=True)
        for share in (False, True)
    )
    queries = Product(1, 2 * LENGTH, shape.width, shape.width, right_transposed=True)
    once = Product(1, LENGTH + 1, shape.width, shape.width, right_transposed=True)
    assert whole[queries] == shared[once] == 2 * shape.layers


def run_of(**changes: Any) -> dict[str, Any]:
    return {
        "tokens": [100, 100, 50],
        "seconds": [9.0, 1.0, 0.5],
        "losses": [4.0, 3.5, 3.0],
        "norms": [1.0, 0.9, 0.8],
    } | changes


def test_a_peer_that_trains_something_else_gets_no_ratio() -> None:
    ours = run_of()
    assert sft.differs(run_of(losses=[4.001, 9.0, 3.001], norms=[1.01, 9.0, 9.0]), ours) == ""
    assert "first step" in sft.differs(run_of(losses=[4.1, 3.5, 3.0]), ours)
    assert "last step" in sft.differs(run_of(losses=[4.0, 3.5, 3.1]), ours)
    assert "gradient" in sft.differs(run_of(norms=[1.1, 0.9, 0.8]), ours)
    assert "tokens" in sft.differs(run_of(tokens=[100, 90, 60]), ours)


def test_the_first_step_is_not_timed_and_ratios_are_those_within_a_round() -> None:
    slow, fast = run_of(seconds=[0.1, 4.0, 2.0]), run_of()
    more = {"peak_bytes": 2e9, "started": 5.0}
    quiet = {"burnish": fast | more, "trl": slow | more}
    busy = copy.deepcopy(quiet)
    for figures in busy.values():
        figures["seconds"] = [2 * second for second in figures["seconds"]]
    line = dict(zip(sft.COLUMNS, sft.lines([quiet, busy])[1], strict=True))
    assert line["tokens/s"] == "19 (12-25)"
    assert line["faster"] == "4.00"
    assert line["memory, GB"] == "2.00"


def test_rows_without_the_shared_data_have_lengths_like_alpacas(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(material, "ALPACA", tmp_path / "absent.json")
    drawn = list(material._questions(AutoTokenizer.from_pretrained(PEBBLE_FOLDER), "alpaca"))
    asked = sum(len(question) for question, _ in drawn) / len(drawn)
    learnt = sum(len(answer) for _, answer in drawn) / len(drawn)
    assert len(drawn) == 1000
    assert 50 < asked < 62, "Alpaca's are 55 tokens"
    assert 130 < learnt < 200, "Alpaca's are 163"


@pytest.mark.slow
def test_burnish_and_trl_train_the_same(tmp_path: Path) -> None:
    """Two steps, the second of two rows, each tool in a process of its own."""
    pytest.importorskip("trl")
    made = {"folder": str(tmp_path), "shape": "tiny"}
    rounds.in_process("benchmarks.material:make_material", rows=34, data="alpaca", **made)
    ours, theirs = (
        rounds.in_process("benchmarks.peers:run", peer=peer, kind="lora", **made)
        for peer in ("burnish-eager", "trl-best")
    )
    assert sft.differs(theirs, ours) == ""
    assert len(ours["losses"]) == len(ours["seconds"]) == len(theirs["seconds"]) == 2
    assert ours["losses"][1] != ours["losses"][0]


@pytest.mark.slow
def test_a_checkout_steps_beside_itself() -> None:
    pairs = before.paired(before.ROOT, "tiny", "lora", 2, compile=False)
    assert len(pairs) == 2
    for one, other in pairs:
        assert one["loss"] == other["loss"] and one["tokens"] == other["tokens"] > 0
        assert one["seconds"] > 0 and other["seconds"] > 0
