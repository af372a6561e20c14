"""What a run takes is said before it: counted as it is, part by part, and what would make it fit."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from burnish import BurnishError, load_config
from burnish.adapters.adapter import add_adapter
from burnish.adapters.load import shape_of
from burnish.adapters.lora import fused_lora
from burnish.cli.main import main
from burnish.config import AdapterConfig
from burnish.files import read_json
from burnish.model.attention import BLOCK
from burnish.model.blank import blank_model
from burnish.model.forward import flat
from burnish.model.quantize import weight_bytes
from burnish.model.recompute import recomputed
from burnish.model.tally import KEPT, Tally, pass_peak
from burnish.plan.plan import Plan, as_bytes, changed, fit_into, plan, plan_inputs
from burnish.run.folder import RunFolder
from burnish.train.objective import next_token_loss
from conftest import tiny_config, tiny_model
from families import model_of
from families import shape_of as family_shape
from test_recompute import batch
from test_runs import small_data, train

PAGE = Path(__file__).parents[1] / "docs" / "plan.md"

SEVEN = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=11008)
SEVENTY = LlamaConfig(
    hidden_size=8192,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    intermediate_size=28672,
)


def planned(shape: LlamaConfig, folder: Path, settings: tuple[str, ...], **given: Any) -> Plan:
    """Of a folder that holds config.json and nothing else."""
    shape.save_pretrained(folder)
    config = load_config(None, settings, **{"model.name": str(folder)})
    return plan(config, plan_inputs(config), **{"device": "cuda", "available": 2**45} | given)


# Every adapter that can be trained


SMALL = LlamaConfig(
    hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, vocab_size=500
)


@pytest.mark.parametrize(
    ("settings", "copies", "moments"),
    [
        (("adapter.init=gaussian", "adapter.rslora=true"), 1, 8),
        (("adapter.init=pissa", "adapter.dropout=0.1"), 2, 8),
        (("adapter.init=olora", "adapter.layers=0-1"), 2, 8),
        (("adapter.kind=dora", "adapter.targets=attention", "train.recompute=true"), 1, 8),
        (("adapter.kind=dora", "model.quantize=nf4"), 1, 2),
        (("adapter.rank_pattern={q_proj: 64}", "adapter.targets=[q_proj]", "model.quantize=int8"), 1, 2),
        (("adapter.kind=ia3", "adapter.modules_to_save=[lm_head]"), 1, 8),
        (("adapter.kind=bottleneck", "adapter.layers=1"), 1, 8),
        (("adapter.kind=prefix", "model.quantize=nf4"), 1, 2),
        (("adapter.kind=prompt", "train.optimizer=adamw-8bit"), 1, 2),
    ],
)
def test_it_is_planned(settings: tuple[str, ...], copies: int, moments: int, tmp_path: Path) -> None:
    """``copies``: a start that is computed from the base is kept until the end, and saved beside."""
    made = planned(SMALL, tmp_path, settings)
    parts, trained = made.memory.parts, made.memory.count.trainable
    assert (parts["masters"], parts["moments"]) == (4 * trained, moments * trained)
    for size in (parts["adapter weights"], made.disk["final/"]):
        assert 2 * copies * trained <= size <= 4 * copies * trained  # bf16, or fp32 where small
    assert made.memory.phases["forward and backward"] > made.memory.phases["loading"] > 0


@pytest.mark.parametrize("family", ["GPT-2", "Falcon", "Mixtral"])
def test_a_prefix_is_laid_out_on_the_meta_device_as_on_real_weights(family: str) -> None:
    config, found = AdapterConfig(kind="prefix", virtual_tokens=6), []
    for model in (model_of(family), blank_model(family_shape(family, 97), torch.float32)):
        adapted = add_adapter(model, config, []).model
        found.append({name: w.shape for name, w in adapted.named_parameters() if w.requires_grad})
    assert found[0] == found[1]


# The count


def test_what_shares_memory_counts_once_and_what_is_let_go_of_is_gone() -> None:
    with torch.device("meta"), Tally() as tally:
        first = torch.empty(1000, dtype=torch.bfloat16)
        view = first[10:].view(torch.int16)
        second = torch.empty(500)
        assert sum(tally.held.values()) == 2000 + 2000
        del second
        assert sum(tally.held.values()) == 2000
        del first
        assert sum(tally.held.values()) == 2000  # the view is still there
        del view
    assert sum(tally.held.values()) == 0 and sum(tally.at_peak.values()) == 4000


def test_a_linear_layers_gradients_are_those_by_hand() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(30, 70, bias=False), torch.empty(100, 30)
    taken = pass_peak(lambda: layer(x), lambda y: y.square().sum())
    # y is kept for the square's gradient; then come 2 y and d loss / d y beside it.
    assert taken[KEPT] == 4 * 100 * 70
    assert layer.weight.grad is not None and layer.weight.grad.shape == (70, 30)


def test_a_plan_is_the_same_each_time() -> None:
    """Though masks are kept from one pass to the next."""
    model = blank_model(tiny_config("llama", 97), torch.float32)
    rows = batch(share=False).to(torch.device("meta"))
    first, second = (pass_peak(lambda: flat(model, rows), lambda f: next_token_loss(f, rows)) for _ in "ab")
    assert first == second


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_count_on_the_meta_device_is_what_real_tensors_take(family: str) -> None:
    """A real pass under the same count; only the padding of a CPU's batch differs, so there is none."""
    found: list[Counter[str]] = []
    real = tiny_model(family).requires_grad_(True)
    blank = blank_model(tiny_config(family, 97), torch.float32).requires_grad_(True)
    for model, device in ((real, "cpu"), (blank, "meta")):
        rows = batch(share=False)
        filled = rows.to(torch.device(device))
        model.train()

        def forward(model: Any = model, rows: Any = filled) -> Any:
            return flat(model, rows)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("burnish.model.forward.STEP", 1)
            found.append(pass_peak(forward, lambda f, rows=filled: next_token_loss(f, rows)))
    on_cpu, on_meta = (sum(taken.values()) for taken in found)
    assert on_meta == pytest.approx(on_cpu, rel=0.03)


def test_what_is_computed_again_is_not_kept() -> None:
    model = blank_model(tiny_config("llama", 97, num_hidden_layers=8), torch.float32)
    model = add_adapter(model, AdapterConfig(rank=4), []).model.train()
    rows = batch(share=False).to(torch.device("meta"))
    kept, again = (
        pass_peak(lambda way=way: way(model, rows), lambda f: next_token_loss(f, rows))
        for way in (flat, recomputed(flat, fused_lora))
    )
    mask = 4 * BLOCK**2  # kept by both for the next pass
    assert sum(again.values()) - mask < 0.5 * (sum(kept.values()) - mask)


# Shapes of known sizes


def test_all_weights_of_7b_take_16_bytes_a_parameter_and_the_fp32_sums(tmp_path: Path) -> None:
    settings = ("adapter.kind=none", "train.micro_batch_tokens=2048", "train.recompute=true")
    made = planned(SEVEN, tmp_path, settings)
    count, parts = made.memory.count, made.memory.parts
    assert count.total == count.trainable == 6_738_415_616
    assert parts["base weights"] == 2 * count.total
    assert parts["masters"] + parts["moments"] == 12 * count.total
    # The backward pass ends with every gradient in bf16 there, and little of the activations.
    assert parts["gradients and the backward pass"] == pytest.approx(2 * count.total, rel=0.05)
    assert parts["gradient sums"] == 4 * count.total
    assert made.memory.peak == pytest.approx(20 * count.total + parts["activations kept"], rel=0.03)


def test_a_70b_base_in_nf4_takes_about_half_a_byte_a_parameter(tmp_path: Path) -> None:
    SEVENTY.save_pretrained(tmp_path)
    model = blank_model(shape_of(str(tmp_path)), torch.bfloat16, "nf4")
    ends = 2 * 32000 * 8192
    count = sum(p.numel() for p in model.parameters())
    norms = (2 * 80 + 1) * 8192
    assert count == 68_976_648_192
    packed = count - ends - norms
    assert weight_bytes(model) == pytest.approx(packed * (0.5 + 1 / 64 + 4 / 64 / 256) + 2 * (ends + norms))
    assert weight_bytes(model) / count == pytest.approx(0.527, abs=0.001)


def test_devices_split_weights_and_state_but_not_activations(tmp_path: Path) -> None:
    settings = ("adapter.kind=none", "train.micro_batch_tokens=2048", "train.recompute=true")
    shape = LlamaConfig(hidden_size=1024, num_hidden_layers=3, num_attention_heads=8, intermediate_size=2816)
    one, eight = (planned(shape, tmp_path, settings, devices=count) for count in (1, 8))
    for part in ("base weights", "masters", "moments"):
        assert eight.memory.parts[part] == one.memory.parts[part] / 8
    assert eight.memory.parts["layers put together"] > 0


# What would fit


def test_changes_come_in_order_of_harm_and_end_where_it_fits(tmp_path: Path) -> None:
    shape = LlamaConfig(
        hidden_size=512, num_hidden_layers=2, num_attention_heads=8, intermediate_size=1408, vocab_size=4096
    )
    settings = ("adapter.kind=none", "train.micro_batch_tokens=4096", "tokens.max_length=1024")
    whole = planned(shape, tmp_path, settings)
    config = load_config(None, settings, **{"model.name": str(tmp_path)})
    found = plan_inputs(config)
    limit = round(0.9 * whole.memory.peak)
    fitted = fit_into(config, found, limit, device="cuda")
    assert fitted.fits and fitted.plan.memory.peak <= limit
    assert [list(change.settings) for change in fitted.changes] == [["train.micro_batch_tokens"]]
    # What is said to fit is what the plan of these settings says.
    again = config
    for change in fitted.changes:
        again = changed(again, change.settings)
    assert plan(again, found, device="cuda", available=limit).memory.peak == fitted.plan.memory.peak
    assert fitted.settings["train.micro_batch_tokens"] == fitted.plan.resolved.budget
    nothing = fit_into(config, found, 10**6, device="cuda")
    keys = [key for change in nothing.changes for key in change.settings]
    assert not nothing.fits and keys.index("train.micro_batch_tokens") < keys.index("adapter.kind")


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 * 10**9), ("80GiB", 80 * 2**30), ("512 mb", 512 * 10**6), ("1.5g", 15 * 10**8)],
)
def test_sizes(text: str, size: int) -> None:
    assert as_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0GB", "5 parsecs", "7i"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BurnishError, match="no size"):
        as_bytes(text)


def test_unknown_models_are_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(BurnishError):
            shape_of(name)
    (tmp_path / "config.json").write_text('{"model_type": "nobody"}', "utf-8")
    with pytest.raises(BurnishError, match="no config that loads"):
        shape_of(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}', "utf-8")
    with pytest.raises(BurnishError, match="causal language model"):
        blank_model(shape_of(str(tmp_path)), torch.bfloat16)


def test_a_model_that_does_not_run_flat_is_named(tmp_path: Path) -> None:
    tiny_config("falcon", 97).save_pretrained(tmp_path)
    config = load_config(None, ("adapter.kind=none",), **{"model.name": str(tmp_path)})
    with pytest.raises(BurnishError, match=r"Falcon.*cannot be counted"):
        plan(config, plan_inputs(config), device="cpu")


# The command


def test_the_plan_of_pebble_counts_its_data_and_a_run_writes_its_peak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    command = ["plan", "--data", str(data), "--json", "--no-probe", "--set", "train.max_steps=2"]
    monkeypatch.setattr(sys, "argv", ["burnish", *command])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert made["steps"] == 2 and 0 < made["trained_tokens"] < made["tokens"]
    assert made["peak_bytes"] == pytest.approx(max(made["phases"].values()))
    run = train(data, tmp_path / "run", train__max_steps=2, evaluate__samples=0)
    assert read_json(RunFolder(run.path).provenance)["peak_bytes"] > 300e6


def test_the_commands_of_the_page_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_data(tmp_path / "rows.jsonl")
    Path("run.yaml").write_text("data: {train: [rows.jsonl]}\n", "utf-8")
    (tmp_path / "llama-7b").mkdir()
    small = LlamaConfig(hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=704)
    small.save_pretrained("llama-7b")
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    ours = [command for command in commands if command[:1] == ["burnish"]]
    assert len(ours) >= 4
    for command in ours:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as leaving:
            main()
            raise SystemExit(0)
        assert not leaving.value.code, command
        assert "peak" in capsys.readouterr().out
