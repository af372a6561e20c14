"""Mixtures of experts: LoRA on fused experts, trained, saved, merged and planned; routers are left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from burnish import load_config
from burnish.adapters.adapter import add_adapter
from burnish.adapters.load import load_model
from burnish.adapters.lora import fused, fused_lora
from burnish.adapters.merge import merge_adapter
from burnish.adapters.saved import CONFIG, attach
from burnish.adapters.targets import linear_names, routers
from burnish.errors import ConfigError, ModelError
from burnish.model.blank import blank_model
from burnish.model.compiled import compiled
from burnish.model.forward import choose_forward, flat, padded
from burnish.model.layers import expert_weights
from burnish.model.recompute import recomputed
from burnish.model.tally import KEPT, pass_peak
from burnish.plan.plan import fit_into, plan, plan_inputs
from burnish.prepare.model import split_model
from burnish.recipes.merge import merge
from burnish.recipes.sft import sft
from burnish.train.objective import next_token_loss
from families import KeptLines, checkpoint, model_of, shape_of
from test_adapters import batch_of, disturbed, logits, small, trained, trained_run
from test_adapters import rows as rows  # a fixture

MIXTURES = ("Mixtral", "Qwen 3 MoE", "Qwen3-Next", "GPT-OSS", "DeepSeek-V3", "Llama 4")


def adapted_parts(model: PreTrainedModel) -> set[str]:
    """Names, within a layer, of what has a trained matrix B."""
    names = (name for name, weight in model.named_parameters() if weight.requires_grad and "lora_B" in name)
    parts = (name.replace(".base_layer", "").partition(".lora_B")[0] for name in names)
    return {part.split(".layers.")[1].partition(".")[2] for part in parts}


# What is adapted


@pytest.mark.parametrize("family", MIXTURES)
def test_every_expert_is_adapted_and_no_router(family: str) -> None:
    model = model_of(family)
    experts = {name: weight.clone() for name, weight in expert_weights(model).items()}
    adapted = disturbed(add_adapter(model, small("lora"), []))
    assert experts and not any("router" in part or "gate" in part.split(".") for part in adapted_parts(model))
    inner = [module for module in model.modules() if hasattr(module, "parameter_name")]
    assert sum(module.num_experts > 1 for module in inner) == len(experts)
    with torch.no_grad():
        merge_adapter(adapted.model, torch.float32)
    for name, weight in expert_weights(model).items():
        moved = (weight - experts[name]).flatten(1).abs().amax(1)
        assert len(moved) == 4 and (moved > 0).all(), name


def test_what_is_a_router_is_seen_by_what_it_is() -> None:
    """Llama 4's is a linear layer, and Qwen3-Next has one that weighs the shared expert."""
    found = {family: {type(router).__name__ for router in routers(model_of(family))} for family in MIXTURES}
    assert found["Llama 4"] == {"Llama4Router"} and found["Qwen3-Next"] == {"Linear"}
    assert not (found["Mixtral"] | found["GPT-OSS"] | found["DeepSeek-V3"])
    names = linear_names(model_of("Llama 4"))
    assert names and not any("router" in name for name in names)
    assert not routers(model_of("Llama"))


def test_layers_that_peft_takes_for_old_experts_are_adapted_too() -> None:
    """DeepSeek's first layer has no experts, and the second a shared one. peft takes their layers' names for
    those of experts as they were once kept, and would leave them out."""
    model = model_of("DeepSeek-V3")
    add_adapter(model, small("lora"), [])
    dense = {f"mlp.{part}" for part in ("gate_proj", "up_proj", "down_proj")}
    assert dense | {part.replace("mlp", "mlp.shared_experts") for part in dense} <= adapted_parts(model)


@pytest.mark.parametrize(
    ("targets", "layers", "parts"),
    [
        ("attention", None, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}),
        (("down_proj",), None, {"mlp.experts"}),
        (("experts.gate_up_proj", "q_proj"), "1", {"mlp.experts", "self_attn.q_proj"}),
    ],
)
def test_targets_and_layers_hold_for_experts(targets: Any, layers: str | None, parts: set[str]) -> None:
    model = model_of("Mixtral")
    add_adapter(model, small("lora", targets=targets, layers=layers), [])
    assert adapted_parts(model) == parts
    numbers = {n.split(".layers.")[1][0] for n, w in model.named_parameters() if w.requires_grad}
    assert numbers == ({"0", "1"} if layers is None else {layers})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "dora"}, "adapter.kind dora is not for the fused experts"),
        ({"dropout": 0.1}, "adapter.dropout 0.1 is not for the fused experts"),
        ({"init": "pissa"}, "adapter.init pissa is not for the fused experts"),
    ],
)
def test_what_peft_has_for_layers_only_is_refused(changes: dict[str, Any], words: str) -> None:
    config = small(**{"kind": "lora"} | changes)
    with pytest.raises(ModelError, match=words) as refused:
        add_adapter(model_of("Mixtral"), config, [])
    assert "adapter.targets=attention" in refused.value.fix
    add_adapter(model_of("Mixtral"), config.model_copy(update={"targets": "attention"}), [])


def test_a_bottleneck_stands_behind_experts_too() -> None:
    model = model_of("Mixtral")
    adapted = disturbed(add_adapter(model, small("bottleneck"), []))
    halves = {name.split(".layers.")[1].partition(".")[2].partition(".")[0] for name in trained(adapted)}
    assert halves == {"self_attn", "mlp"}


# What it computes


@pytest.mark.parametrize("family", MIXTURES)
def test_fused_experts_give_pefts_logits_and_gradients(family: str) -> None:
    batch, found = batch_of(), []
    for around in (lambda way: way, fused, lambda way: recomputed(way, fused_lora)):
        adapted = disturbed(add_adapter(model_of(family), small("lora"), []))
        way, _ = choose_forward(adapted.model, batch)
        result = around(way)(adapted.model, batch).logits()
        result.square().mean().backward()
        found.append((result, {name: weight.grad for name, weight in trained(adapted).items()}))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-4, rtol=1e-3)
    assert all(gradient is not None for gradient in found[0][1].values())


def test_experts_by_hand() -> None:
    """y_e = (W_e + s B_e A_e) x; merged W_e + s B_e A_e. peft's A holds the experts' one after the other, its
    B their columns in turns."""
    model = model_of("Mixtral")
    adapted = disturbed(add_adapter(model, small("lora", targets=("down_proj",), alpha=6.0), []))
    layer = adapted.model.model.layers[0].mlp.experts
    weight = layer.get_base_layer().down_proj.detach().clone()  # (4, 64, 128)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # (16, 128), (64, 16)
    expected = torch.stack([weight[e] + 6 / 4 * b[:, e::4] @ a[4 * e : 4 * e + 4] for e in range(4)])
    merge_adapter(adapted.model, torch.float32)
    torch.testing.assert_close(adapted.model.model.layers[0].mlp.experts.down_proj, expected)


def test_compiled_layers_with_adapted_experts_give_the_same() -> None:
    batch = batch_of()
    adapted = disturbed(add_adapter(model_of("Mixtral"), small("lora"), []))
    way, _ = compiled(fused(flat, "dora", "experts"), adapted.model, batch)
    expected = padded(adapted.model, batch).logits()
    torch.testing.assert_close(way(adapted.model, batch).logits(), expected, atol=1e-4, rtol=1e-3)


# On disk


@pytest.mark.parametrize("family", MIXTURES)
def test_what_is_loaded_is_what_was_saved(family: str, tmp_path: Path) -> None:
    batch = batch_of()
    adapted = disturbed(add_adapter(model_of(family), small("lora"), [5, 6]))
    adapted.save(tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text("utf-8"))["target_parameters"]
    loaded = attach(model_of(family), tmp_path)
    assert torch.equal(logits(loaded, batch), logits(adapted.model, batch))


@pytest.mark.parametrize(
    ("family", "quantize"),
    [
        ("Mixtral", "none"),
        ("Qwen 3 MoE", "none"),
        ("DeepSeek-V3", "none"),
        ("Qwen3-Next", "none"),
        ("Mixtral", "nf4"),
        ("Qwen 3 MoE", "nf4"),
    ],
)
def test_a_run_is_merged_and_proven(family: str, quantize: str, rows: Path, tmp_path: Path) -> None:
    if quantize != "none":
        pytest.importorskip("bitsandbytes")
    base = checkpoint(family, tmp_path / "base")
    changes = [f"model.name={base}", f"model.quantize={quantize}", "model.dtype=float32"]
    run = trained_run(rows, tmp_path / "run", "lora", *changes, "train.learning_rate=0.02")
    assert merge(str(run.path), tmp_path / "out", dtype="float32", data=rows).mean_kl < 1e-9
    live = load_model(str(run.path), dtype="float32").model
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    batch = batch_of(vocabulary=4096)
    torch.testing.assert_close(logits(merged, batch), logits(live, batch), atol=1e-4, rtol=1e-4)
    assert (
        logits(merged, batch) - logits(load_model(str(base), dtype="float32").model, batch)
    ).abs().max() > 0.01


def test_layers_that_are_adapted_as_weights_are_refused_where_they_are_packed(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = checkpoint("DeepSeek-V3", tmp_path / "base")
    model = load_model(str(base), quantize="nf4").model
    with pytest.raises(ModelError, match=r"lora cannot go to model\.layers\.0\.mlp\.gate_proj") as refused:
        add_adapter(model, small("lora"), [])
    assert "adapter.targets=attention" in refused.value.fix
    add_adapter(load_model(str(base), quantize="nf4").model, small("lora", targets="attention"), [])


# What is said, planned and refused


@pytest.mark.parametrize(
    ("kind", "words"), [("lora", "its routers are frozen"), ("none", "routers are trained")]
)
def test_a_loss_of_the_routers_that_is_left_out_is_said(
    kind: str, words: str, rows: Path, tmp_path: Path
) -> None:
    base = checkpoint("Mixtral", tmp_path / "base", output_router_logits=True, router_aux_loss_coef=0.02)
    screen = KeptLines()
    settings = [
        f"model.name={base}",
        f"adapter.kind={kind}",
        "train.max_steps=1",
        "evaluate.samples=0",
        "evaluate.forgetting=none",
    ]
    sft(load_config(None, settings), data=[str(rows)], out=tmp_path / "run", screen=screen)
    (said,) = [line for line in screen.warnings if "output_router_logits" in line]
    assert words in said and "0.02" in said


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_lora_on_a_mixture_is_planned(family: str, quantize: str, dtype: str, tmp_path: Path) -> None:
    shape_of(family, 4096).save_pretrained(tmp_path)
    settings = [f"model.quantize={quantize}", f"model.dtype={dtype}"]
    if quantize != "none" and family in ("DeepSeek-V3", "Qwen3-Next"):
        settings += ["adapter.targets=attention"]
    config = load_config(None, settings, **{"model.name": str(tmp_path)})
    made = plan(config, plan_inputs(config), device="cuda", available=2**40)
    whole = load_config(None, ["adapter.kind=none", f"model.dtype={dtype}"], **{"model.name": str(tmp_path)})
    if quantize == "none":
        assert plan(whole, plan_inputs(whole), device="cuda", available=2**40).memory.peak > made.memory.peak
    blank = blank_model(shape_of(family, 4096), torch.bfloat16, config.model.quantize)
    adapted = add_adapter(blank, config.adapter, [])
    count = sum(weight.numel() for weight in trained(adapted).values())
    assert made.memory.count.trainable == count and made.memory.peak > 0


def test_a_change_that_a_model_cannot_have_is_not_proposed(tmp_path: Path) -> None:
    """DeepSeek's default LoRA does not go onto weights in four bits."""
    shape_of("DeepSeek-V3", 4096).save_pretrained(tmp_path)
    config = load_config(None, [], **{"model.name": str(tmp_path)})
    fitted = fit_into(config, plan_inputs(config), 10**6, device="cuda")
    assert not fitted.fits and "model.quantize" not in fitted.settings


def test_experts_are_counted_once_more_while_they_run() -> None:
    """W + s B A of a layer's experts stands in memory beside W, until the backward pass has read it."""
    model = add_adapter(blank_model(shape_of("Mixtral", 97), torch.bfloat16), small("lora"), []).model.train()
    batch = batch_of().to(torch.device("meta"))
    taken = pass_peak(lambda: fused(flat)(model, batch), lambda f: next_token_loss(f, batch))
    assert taken[KEPT] > sum(weight.nbytes for weight in expert_weights(model).values())


def test_adapted_experts_train_on_one_device() -> None:
    model = add_adapter(model_of("Mixtral"), small("lora"), []).model
    with pytest.raises(ConfigError, match="experts trains on one device only"):
        split_model(model, load_config(None, []), 2)
