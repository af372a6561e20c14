"""Bases in few bits: the levels of the paper, by hand, and adapters trained on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from burnish.adapters.adapter import add_adapter, count_parameters
from burnish.adapters.load import load_model
from burnish.adapters.lora import fused
from burnish.adapters.saved import attach
from burnish.config import load_config
from burnish.errors import ConfigError, ModelError
from burnish.loss import cross_entropy
from burnish.model import quantize
from burnish.model.blank import blank_model
from burnish.model.borrow import borrow
from burnish.model.forward import choose_forward, flat
from burnish.model.load import load_plain_tokenizer
from burnish.model.quantize import (
    dequantize,
    dequantized_weight,
    is_quantized,
    quantization,
    quantized_layers,
)
from burnish.recipes.merge import merge
from burnish.recipes.sft import sft
from burnish.run.folder import RunFolder
from burnish.train.optimizer import MasterAdamW
from conftest import tiny_config, tiny_model
from families import KeptLines, checkpoint
from test_adapters import KINDS, batch_of, logits, small, trained_run
from test_adapters import rows as rows  # a fixture

pytest.importorskip("bitsandbytes")

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The sixteen levels, from the paper's appendix E (arXiv:2305.14314)."""


@pytest.fixture(scope="module")
def pebble() -> nn.Module:
    return load_model("pebble", dtype="float32").model.eval()


def quantized(kind: Any, dtype: Any = "float32") -> Any:
    return load_model("pebble", dtype=dtype, quantize=kind).model.eval()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: dequantized_weight(module, torch.float32)
        for name, module in model.named_modules()
        if is_quantized(module)
    }


def test_each_nf4_weight_is_the_nearest_level_of_its_block(pebble: nn.Module) -> None:
    """By hand: a block of 64 over its largest, to the nearest of the sixteen levels. The scales are in eight
    bits, so a weight is a level times what its block's scale has become."""
    layer = next(quantized_layers(quantized("nf4")))
    original = pebble.get_submodule("model.layers.0.self_attn.q_proj").weight.detach().to(torch.float32)
    blocks = original.reshape(-1, 64)
    levels = torch.tensor(NF4)
    relative = blocks / blocks.abs().amax(1, keepdim=True)
    nearest = levels[(relative[..., None] - levels).abs().argmin(-1)]
    packed = layer.weight.data.flatten()
    codes = (
        torch.stack([packed >> 4, packed & 15], dim=1).flatten().long()
    )  # the first weight in the high half
    read = levels[codes].reshape(-1, 64)
    # A value half way between two levels may go to either.
    assert ((read - relative).abs() <= (nearest - relative).abs() + 1e-6).all()
    whole = dequantized_weight(layer, torch.float32).reshape(-1, 64)
    scales = whole.abs().amax(1)
    torch.testing.assert_close(whole, read * scales[:, None], atol=1e-6, rtol=1e-6)
    # Double quantization: a scale is off by less than 2 % of the largest of its 256.
    assert (scales - blocks.abs().amax(1)).abs().max() < 0.02 * blocks.abs().max()


def test_scales_are_quantized_a_second_time_by_hand() -> None:
    """Scale = code's level times the fp32 scale of its 256, plus their mean: 4 + 8/64 + 32/(64 256) bits a
    weight, 0.516 bytes."""
    layer = next(quantized_layers(quantized("nf4")))
    state = layer.weight.quant_state
    count = layer.in_features * layer.out_features
    assert state.nested and state.absmax.dtype == torch.uint8 and state.absmax.numel() == count // 64
    assert state.state2.absmax.numel() == -(-count // 64 // 256)
    again = state.state2.code[state.absmax.long()].reshape(-1, 256) * state.state2.absmax[:, None]
    scales = again.flatten() + state.offset
    whole = dequantized_weight(layer, torch.float32).reshape(-1, 64)
    torch.testing.assert_close(whole.abs().amax(1), scales, atol=1e-6, rtol=1e-5)
    held = layer.weight.numel() + state.absmax.numel() + 4 * state.state2.absmax.numel()
    assert held / count == pytest.approx(4.127 / 8, rel=1e-3)


def test_each_int8_weight_is_a_127th_of_the_largest_of_its_row(pebble: nn.Module) -> None:
    layer = next(quantized_layers(quantized("int8")))
    original = pebble.get_submodule("model.layers.0.self_attn.q_proj").weight.detach()
    step = original.abs().amax(1, keepdim=True) / 127
    whole = dequantized_weight(layer, torch.float32)
    assert layer.weight.dtype == torch.int8
    torch.testing.assert_close(whole, layer.weight.data * step)
    assert ((whole - original).abs() <= 0.51 * step).all()  # to the nearest, but for rounding on the way


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_norms_embeddings_and_the_head_are_left_as_they_are(kind: str, pebble: nn.Module) -> None:
    model = quantized(kind)
    assert {name.split(".")[-1] for name in weights(model)} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    plain = dict(pebble.named_parameters())
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float32:
            assert torch.equal(weight, plain[name]), name
    assert count_parameters(model).total == count_parameters(pebble).total


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_logits_are_those_of_the_weights_it_stands_for(kind: str) -> None:
    """So none of its products rounds anything more, and a merge into these weights is exact."""
    batch = batch_of(vocabulary=4096)
    model = quantized(kind)
    expected = logits(model, batch)
    assert torch.equal(logits(dequantize(model), batch), expected)
    assert not list(quantized_layers(model))


@pytest.mark.parametrize(
    ("kind", "bits"), [*((kind, "nf4") for kind in KINDS), ("lora", "int8"), ("ia3", "int8")]
)
def test_every_adapter_on_a_quantized_base(kind: str, bits: str, tmp_path: Path) -> None:
    """The base's start, packing, gradients of no base weight, and loading again, in bf16 as users train."""
    batch = batch_of(vocabulary=4096)
    model = quantized(bits, "bfloat16")
    base, before = logits(model, batch), weights(model)
    adapted = add_adapter(model, small(kind), [2, 3])
    if kind in ("lora", "ia3", "bottleneck"):
        assert torch.equal(logits(adapted.model, batch), base)
    way, why = choose_forward(adapted.model, batch)
    assert (way, why) == (flat, "")
    adapted.model.train()
    cross_entropy(fused(way)(adapted.model, batch).logits(), batch.target_ids, batch.target_weights)[
        0
    ].backward()
    with torch.no_grad():
        for name, weight in adapted.model.named_parameters():
            assert (weight.grad is None) or weight.requires_grad, name
            if weight.grad is not None:
                weight -= 0.05 * weight.grad.sign().to(weight)
    after = weights(adapted.model)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))
    adapted.save(tmp_path)
    loaded = attach(quantized(bits, "bfloat16"), tmp_path)
    assert torch.equal(logits(loaded, batch), logits(adapted.model, batch))


@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_fused_lora_on_a_quantized_base_is_pefts(bits: str) -> None:
    batch, found = batch_of(vocabulary=4096), []
    for around in (lambda way: way, fused):
        torch.manual_seed(0)
        adapted = add_adapter(quantized(bits), small("lora"), [])
        with torch.no_grad():
            for name, weight in adapted.model.named_parameters():
                if "lora_B" in name:
                    weight += 0.1 * torch.randn_like(weight)
        result = around(flat)(adapted.model, batch).logits()
        result.square().mean().backward()
        found.append((result, [p.grad for p in adapted.model.parameters() if p.requires_grad]))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-3)


def test_a_run_on_nf4_learns_resumes_and_answers_on_the_same_base(rows: Path, tmp_path: Path) -> None:
    changes = ["model.quantize=nf4", "train.learning_rate=0.005", "train.checkpoint_every=1"]
    run = trained_run(rows, tmp_path / "run", "lora", *changes)
    losses = [
        row["loss"]
        for row in map(json.loads, run.metrics.read_text("utf-8").splitlines())
        if row["kind"] == "train"
    ]
    assert losses[-1] < losses[0]
    assert json.loads(run.provenance.read_text("utf-8"))["base"]["quantize"] == "nf4"
    live = load_model(str(run.path)).model
    assert list(quantized_layers(live))
    plain = load_model(str(run.path), dequantized=True).model
    assert not list(quantized_layers(plain))
    batch = batch_of(vocabulary=4096)
    agree = (logits(live, batch).argmax(-1) == logits(plain, batch).argmax(-1)).float().mean()
    assert agree > 0.9


def test_eight_bit_moments_train_and_resume_to_the_same_bits(rows: Path, tmp_path: Path) -> None:
    def run_of(name: str, steps: int) -> RunFolder:
        changes = ["train.optimizer=adamw-8bit", "train.checkpoint_every=1", "train.keep_checkpoints=9"]
        return trained_run(rows, tmp_path / name, "lora", *changes, f"train.max_steps={steps}")

    whole = run_of("whole", 3)
    config = load_config(whole.config, out=str(tmp_path / "again"))
    again = RunFolder(tmp_path / "again")
    import shutil

    shutil.copytree(whole.path, again.path)
    shutil.rmtree(again.final)
    shutil.rmtree(again.checkpoints / "step-000003")
    again.report.unlink()
    sft(config, resume=True)
    first, second = (r.checkpoints / "step-000003" / "state.safetensors" for r in (whole, again))
    assert first.read_bytes() == second.read_bytes()


def test_eight_bit_moments_take_a_byte_a_weight() -> None:
    torch.manual_seed(0)
    start, inputs = torch.randn(128, 128), torch.randn(8, 128)

    def step(eight_bit: bool) -> tuple[MasterAdamW, Tensor]:
        model = nn.Linear(128, 128, bias=False)
        model.weight.data.copy_(start)
        optimizer = MasterAdamW(model, weight_decay=0.0, betas=(0.9, 0.999), eight_bit=eight_bit)
        model(inputs).square().mean().backward()
        optimizer.accumulate()
        optimizer.step(0.01)
        return optimizer, model.weight.detach() - start

    (optimizer, moved), (_, expected) = step(eight_bit=True), step(eight_bit=False)
    assert optimizer.state()["state1/weight"].dtype == torch.uint8
    torch.testing.assert_close(moved, expected, atol=1e-3, rtol=0.05)


def test_without_the_extra_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "PACKAGES", ("no_such_package",))
    with pytest.raises(ModelError, match=r"pip install 'burnish\[quant\]'"):
        quantized("nf4")
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ConfigError, match=r"pip install 'burnish\[quant\]'"):
        MasterAdamW(nn.Linear(2, 2), weight_decay=0.0, betas=(0.9, 0.999), eight_bit=True)


def test_a_quantized_model_in_memory_is_refused() -> None:
    with pytest.raises(ModelError, match="the model in memory is quantized") as refused:
        borrow(quantized("nf4"), own_weights=False)
    assert "set model.quantize" in refused.value.fix


# Families whose layers bitsandbytes leaves, or stores another way


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_base_of_which_nothing_is_quantized_is_refused(kind: str, rows: Path, tmp_path: Path) -> None:
    """Falcon's linear layers are of a class of its own."""
    base = checkpoint("Falcon", tmp_path / "base")
    with pytest.raises(ModelError, match=r"leaves every weight of FalconForCausalLM.*\n.*FalconLinear"):
        trained_run(rows, tmp_path / "run", "lora", f"model.name={base}", f"model.quantize={kind}")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ModelError, match="leaves every weight of FalconForCausalLM"):
        blank_model(tiny_config("falcon", 97), torch.float32, kind)


def test_a_base_that_does_not_run_in_few_bits_is_refused(rows: Path, tmp_path: Path) -> None:
    """Mamba multiplies with a weight of its ``dt_proj`` without calling the layer."""
    base = checkpoint("Mamba", tmp_path / "base")
    changes = [f"model.name={base}", "model.quantize=nf4", "adapter.targets=[in_proj,x_proj]"]
    with pytest.raises(ModelError, match="MambaForCausalLM does not run with"):
        trained_run(rows, tmp_path / "run", "lora", *changes)
    assert not (tmp_path / "run").exists()


def test_the_share_of_weights_in_few_bits_is_said(rows: Path, tmp_path: Path) -> None:
    """Of a mixture's fused experts too, which stay whole."""
    base, screen = checkpoint("Mixtral", tmp_path / "base"), KeptLines()
    settings = [
        f"model.name={base}",
        "model.quantize=nf4",
        "train.max_steps=1",
        "evaluate.samples=0",
        "evaluate.forgetting=none",
    ]
    sft(load_config(None, settings), data=[str(rows)], out=tmp_path / "run", screen=screen)
    model = AutoModelForCausalLM.from_pretrained(base)
    packed = sum(m.weight.numel() for m in model.model.layers.modules() if type(m) is nn.Linear)
    experts = sum(w.numel() for name, w in model.named_parameters() if ".experts." in name)
    total = sum(weight.numel() for weight in model.parameters())
    assert (
        f"nf4: {packed:,} of {total:,} weights quantized ({packed / total:.1%}); {experts:,} in fused experts"
        " stay whole."
    ) in screen.lines


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_transposed_layer_is_dequantized_to_what_it_was(kind: Any, rows: Path, tmp_path: Path) -> None:
    """GPT-2 keeps its weights (in, out). What a merge writes must load again."""
    base = checkpoint("GPT-2", tmp_path / "base")
    model = load_model(str(base), dtype="float32", quantize=kind).model
    batch = batch_of(vocabulary=4096)
    expected = logits(model, batch)
    plain = dequantize(model)
    assert type(plain.transformer.h[0].attn.c_attn) is Conv1D
    assert {n: w.shape for n, w in plain.named_parameters()} == {
        n: w.shape for n, w in load_model(str(base), dtype="float32").model.named_parameters()
    }
    torch.testing.assert_close(logits(plain, batch), expected, rtol=1e-5, atol=1e-5)
    changes = [f"model.name={base}", f"model.quantize={kind}", "model.dtype=float32"]
    run = trained_run(rows, tmp_path / "run", "lora", *changes)
    assert merge(str(run.path), tmp_path / "out", dtype="float32", data=rows).mean_kl < 1e-9
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    live = load_model(str(run.path), dtype="float32").model
    torch.testing.assert_close(logits(merged, batch), logits(live, batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "none"])
@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_a_base_that_is_quantized_already_is_refused_at_load(
    kind: str, quantize: str, rows: Path, tmp_path: Path
) -> None:
    base = checkpoint("Llama", tmp_path / "whole")
    few = quantization("nf4", torch.float32)
    packed = AutoModelForCausalLM.from_pretrained(base, quantization_config=few)
    packed.save_pretrained(tmp_path / "base")
    load_plain_tokenizer(str(base), None).save_pretrained(tmp_path / "base")
    changes = [f"model.name={tmp_path / 'base'}"]
    if kind != "none":
        changes.append(f"model.quantize={quantize}")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ModelError, match=r"base is quantized already \(bitsandbytes\)") as refused:
        trained_run(rows, tmp_path / "run", kind, *changes)
    assert "model.quantize=nf4" in refused.value.fix
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_plan_packs_transposed_layers_as_a_run_does() -> None:
    blank = blank_model(tiny_config("gpt2", 97), torch.float32, "nf4")
    packed = {name for name, module in blank.named_modules() if is_quantized(module)}
    assert packed == {n for n, module in tiny_model("gpt2").named_modules() if isinstance(module, Conv1D)}
    assert blank.get_submodule("transformer.h.0.attn.c_attn").weight.shape == (96, 32)
