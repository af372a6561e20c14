"""Every kind of adapter: what it computes, what it leaves alone, and that what is saved is what ran."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.adapters.adapter import AdaptedModel, add_adapter, count_parameters
from burnish.adapters.load import load_model
from burnish.adapters.lora import fused
from burnish.adapters.saved import CONFIG, WEIGHTS, attach
from burnish.adapters.targets import layer_numbers, linear_names, shortest_endings
from burnish.config import AdapterConfig, RunConfig, load_config
from burnish.errors import ConfigError, ModelError
from burnish.files import read_json
from burnish.loss import cross_entropy
from burnish.model.blank import blank_model
from burnish.model.forward import choose_forward, flat, padded
from burnish.model.layers import layers_of
from burnish.model.load import PEBBLE_FOLDER
from burnish.plan.plan import plan_inputs
from burnish.prepare.check import check
from burnish.recipes.sft import sft
from burnish.run.folder import RunFolder
from burnish.tokens import Batch, flatten
from burnish.train.objective import next_token_loss
from burnish.train.optimizer import MasterAdamW
from conftest import tiny_model
from families import checkpoint, model_of, shape_of

KINDS = ("lora", "dora", "ia3", "prompt", "prefix", "bottleneck")
BEGIN_AS_BASE = ("lora", "dora", "ia3", "bottleneck")
IN_PEFT = ("lora", "dora", "ia3", "prompt", "prefix")
FAMILIES = ("llama", "gpt2", "gemma2", "qwen3", "phi3")


def small(kind: Any, **changes: Any) -> AdapterConfig:
    return AdapterConfig(**{"kind": kind, "rank": 4, "width": 8, "virtual_tokens": 6} | changes)


def batch_of(lengths: Sequence[int] = (30, 17, 41), vocabulary: int = 97) -> Batch:
    draw = np.random.default_rng(0)
    documents = [draw.integers(8, vocabulary, length).astype(np.int32) for length in lengths]
    return flatten([(ids, np.ones(len(ids), np.float32)) for ids in documents])


def logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        return padded(model.eval(), batch).logits().float()


def trained(adapted: AdaptedModel) -> dict[str, Tensor]:
    return {name: p for name, p in adapted.model.named_parameters() if p.requires_grad}


def disturbed(adapted: AdaptedModel) -> AdaptedModel:
    """As if it had been trained."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in trained(adapted).values():
            weight += 0.1 * torch.randn_like(weight)
    return adapted


# What is trained, and what is not


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_in_a_flat_batch_is_an_adapter_on_each_document_alone(kind: str, family: str) -> None:
    model, batch = tiny_model(family), batch_of()
    base = logits(model, batch)
    held = [(weight, weight.clone()) for weight in model.parameters()]
    adapted = add_adapter(model, small(kind), [5, 6])
    started = logits(adapted.model, batch)
    assert torch.equal(started, base) == (kind in BEGIN_AS_BASE)
    disturbed(adapted)
    way, why = choose_forward(adapted.model, batch)
    assert (way, why) == (flat, "")
    torch.testing.assert_close(
        way(adapted.model, batch).logits(), logits(adapted.model, batch), atol=1e-4, rtol=1e-4
    )
    assert all(torch.equal(weight, first) for weight, first in held)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_trained_tensor_and_no_other(kind: str) -> None:
    adapted = disturbed(add_adapter(tiny_model("gpt2"), small(kind), [5, 6]))
    flat(adapted.model, batch_of()).logits().square().mean().backward()
    for name, weight in adapted.model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_flat_batch_are_those_of_padded_rows(kind: str) -> None:
    """Of virtual tokens too, which all documents share."""
    gradients = []
    for way in (flat, padded):
        adapted = disturbed(add_adapter(tiny_model("llama"), small(kind), []))
        batch = batch_of()
        cross_entropy(way(adapted.model, batch).logits(), batch.target_ids, batch.target_weights)[
            0
        ].backward()
        gradients.append({name: weight.grad for name, weight in trained(adapted).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-3, rtol=1e-4, msg=name)


# By hand


def one_layer(kind: str, **changes: Any) -> tuple[Any, Tensor]:
    """The adapted query layer of a tiny Llama, with numbers in it, and something that goes in (3, 32)."""
    model = tiny_model("llama")
    adapted = disturbed(add_adapter(model, small(kind, **changes), []))
    torch.manual_seed(1)
    return layers_of(adapted.model)[0].self_attn, torch.randn(3, 32)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_lora_by_hand(rslora: bool, scale: float) -> None:
    """y = W x + s B A x; dB = s dy (A x)^T, dA = s B^T dy x^T; merged W + s B A (arXiv:2106.09685)."""
    attention, x = one_layer("lora", alpha=6.0, rslora=rslora)
    layer = attention.q_proj
    w, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    y = layer(x)
    torch.testing.assert_close(y, x @ w.T + scale * (x @ a.T) @ b.T)
    dy = torch.randn_like(y)
    y.backward(dy)
    torch.testing.assert_close(b.grad, scale * dy.T @ (x @ a.T))
    torch.testing.assert_close(a.grad, scale * (dy @ b).T @ x)
    expected = w + scale * b @ a
    layer.merge()
    torch.testing.assert_close(layer.base_layer.weight, expected)


def test_dora_by_hand() -> None:
    """Each row of W + s B A is brought to the length m, at first that of W's row (arXiv:2402.09353)."""
    first = layers_of(add_adapter(tiny_model("llama"), small("dora"), []).model)[0].self_attn.q_proj
    magnitude = first.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(magnitude, first.base_layer.weight.norm(dim=1))
    attention, x = one_layer("dora", alpha=6.0)
    layer = attention.q_proj
    w, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    m = layer.lora_magnitude_vector["default"].weight
    direction = w + 6 / 4 * b @ a
    expected = (m / direction.norm(dim=1))[:, None] * direction
    torch.testing.assert_close(layer(x), x @ expected.T, atol=1e-5, rtol=1e-5)


def test_ia3_by_hand() -> None:
    """Keys and values are scaled behind their layers, the MLP's inner activations before its last one
    (arXiv:2205.05638)."""
    model = tiny_model("llama")
    adapted = disturbed(add_adapter(model, small("ia3"), []))
    layer = layers_of(adapted.model)[0]
    torch.manual_seed(1)
    x, inner = torch.randn(3, 32), torch.randn(3, 48)
    for part in (layer.self_attn.k_proj, layer.self_attn.v_proj):
        scale = part.ia3_l["default"].flatten()
        torch.testing.assert_close(part(x), (x @ part.base_layer.weight.T) * scale)
    down = layer.mlp.down_proj
    scale = down.ia3_l["default"].flatten()
    torch.testing.assert_close(down(inner), (inner * scale) @ down.base_layer.weight.T)
    assert type(layer.self_attn.q_proj) is nn.Linear
    assert count_parameters(model).trainable == 2 * (16 + 16 + 48)  # two layers: keys, values, MLP


def test_a_bottleneck_by_hand() -> None:
    """h + U gelu(D h + b) + c (arXiv:1902.00751)."""
    model = tiny_model("llama")
    adapted = disturbed(add_adapter(model, small("bottleneck"), []))
    network = layers_of(adapted.model)[1].mlp.bottleneck
    h = torch.randn(3, 32)
    down, up = network.down, network.up
    inner = down.weight @ h[0] + down.bias
    gelu = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    torch.testing.assert_close(network(h)[0], h[0] + up.weight @ gelu + up.bias)
    assert count_parameters(model).trainable == 4 * (2 * 32 * 8 + 8 + 32)  # four halves of layers


def test_prompt_tuning_is_a_text_whose_first_embeddings_are_trained() -> None:
    model, batch = tiny_model("llama"), batch_of((9,))
    adapted = disturbed(add_adapter(model, small("prompt"), []))
    vectors = adapted.model.prompt_encoder["default"].embedding.weight
    text = torch.cat([vectors, model.get_input_embeddings()(batch.input_ids)])
    expected = model(inputs_embeds=text[None]).logits[0, 6:][batch.target_positions]
    torch.testing.assert_close(flat(adapted.model, batch).logits(), expected, atol=1e-5, rtol=1e-5)


def test_a_prefix_begins_as_the_keys_and_values_of_a_text() -> None:
    model, batch = tiny_model("llama"), batch_of((9,))
    torch.manual_seed(5)
    adapted = add_adapter(model, small("prefix"), [])
    torch.manual_seed(5)
    nn.Embedding(6, 2 * 2 * 16)  # what peft draws before
    tokens = torch.randint(0, 97, (1, 6))
    expected = model(input_ids=torch.cat([tokens, batch.input_ids[None]], dim=1)).logits[0, 6:]
    got = flat(adapted.model, batch).logits()
    torch.testing.assert_close(got, expected[batch.target_positions], atol=1e-4, rtol=1e-4)


# Where a prefix goes


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Falcon", {}),  # many queries, one key
        ("MPT", {}),  # other names for all of it
        ("GPT-NeoX", {}),
        ("Llama", {"head_dim": 24}),
        ("Mistral, windows", {"sliding_window": 512}),
        ("Gemma 2", {"sliding_window": 21}),
        ("Gemma 3", {"sliding_window": 24}),
    ],
    ids=str,
)
def test_a_prefix_goes_to_heads_of_any_number_and_size_and_into_windows(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    """Windows shorter than the texts, which are longer than the prefix."""
    model, batch = model_of(family, **changes), batch_of()
    adapted = disturbed(add_adapter(model, small("prefix", virtual_tokens=20), []))
    way, _ = choose_forward(adapted.model, batch)
    found, expected = way(adapted.model, batch).logits(), logits(adapted.model, batch)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    adapted.save(tmp_path)
    assert torch.equal(logits(attach(model_of(family, **changes), tmp_path), batch), expected)


@pytest.mark.parametrize("family", ["Mistral, windows", "Gemma 3"])
def test_a_prefix_that_fills_the_window_is_refused(family: str) -> None:
    with pytest.raises(ModelError, match=r"sees 20 tokens at a time, and adapter.virt") as why:
        add_adapter(model_of(family, sliding_window=20), small("prefix", virtual_tokens=20), [])
    assert "at most 19" in why.value.fix
    add_adapter(model_of(family, sliding_window=20), small("prefix", virtual_tokens=19), [])


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("Mamba", {}, "not all of its layers keep keys and values"),
        ("Qwen3-Next", {}, "not all of its layers keep keys and values"),
        ("DeepSeek-V3", {}, "are of several shapes"),
        ("GPT-NeoX", {"num_key_value_heads": 2}, "each token has 4 heads of 16, and peft reads 2 of 16"),
    ],
)
def test_a_model_that_cannot_have_a_prefix_is_refused(
    family: str, changes: dict[str, Any], words: str
) -> None:
    """The last one's config names grouped heads that its family does not know."""
    with pytest.raises(ModelError, match=words):
        add_adapter(model_of(family, **changes), small("prefix"), [])


# What is adapted


def test_ranks_layers_and_targets_are_those_that_were_asked_for() -> None:
    model = tiny_model("llama")
    add_adapter(model, small("lora", targets="attention", layers="1", rank_pattern={"v_proj": 2}), [])
    ranks = {n: p.shape[0] for n, p in model.named_parameters() if "lora_A" in n}
    start = "model.layers.1.self_attn"
    assert ranks == {
        f"{start}.{part}.lora_A.default.weight": 2 if part == "v_proj" else 4
        for part in ("q_proj", "k_proj", "v_proj", "o_proj")
    }


@pytest.mark.parametrize("kind", ["lora", "ia3", "bottleneck"])
def test_layers_that_were_not_asked_for_have_no_adapter(kind: str) -> None:
    model = tiny_model("llama")
    adapted = add_adapter(model, small(kind, layers="1"), [])
    names = list(trained(adapted))
    assert names and all("layers.1." in name for name in names)


def test_gpt2s_attention_has_a_layer_named_as_one_of_its_mlp() -> None:
    model = tiny_model("gpt2")
    add_adapter(model, small("lora", targets="attention"), [])
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names and all(".attn." in name for name in names)


def test_modules_to_save_are_trained_whole() -> None:
    model = tiny_model("llama")
    adapted = add_adapter(model, small("lora", modules_to_save=("lm_head",)), [])
    assert "lm_head.modules_to_save.default.weight" in trained(adapted)
    disturbed(adapted)
    batch = batch_of()
    way, why = choose_forward(model, batch)
    assert (way, why) == (flat, "")
    torch.testing.assert_close(flat(model, batch).logits(), logits(model, batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "ia3", "bottleneck"])
@pytest.mark.parametrize("family", ["llama", "phi"])
def test_a_head_trained_whole_has_the_tokens_rows_already(family: str, kind: str, tmp_path: Path) -> None:
    model, config = tiny_model(family), small(kind, modules_to_save=("lm_head",))
    adapted = disturbed(add_adapter(model, config, [5, 6]))
    of_ends = [name for name in trained(adapted) if "lm_head" in name or "embed" in name]
    weights = ["weight", "bias"] if family == "phi" else ["weight"]
    assert sorted(of_ends) == sorted(
        ["model.embed_tokens.token_adapter.trainable_tokens_delta.default"]
        + [f"lm_head.modules_to_save.default.{weight}" for weight in weights]
    )
    batch = batch_of()
    assert choose_forward(model, batch) == (flat, "")
    torch.testing.assert_close(flat(model, batch).logits(), logits(model, batch), atol=1e-4, rtol=1e-4)
    adapted.save(tmp_path)
    assert torch.equal(logits(attach(tiny_model(family), tmp_path), batch), logits(model, batch))


def test_a_head_that_is_the_table_of_trained_tokens_is_not_trained_whole() -> None:
    config = small("lora", modules_to_save=("lm_head",))
    with pytest.raises(ModelError, match=r"is its embedding table, .*\n.*beside them\.\n.*trainable_tokens"):
        add_adapter(tiny_model("gpt2"), config, [5])
    add_adapter(tiny_model("gpt2"), config, [])


def test_rows_of_a_head_with_a_bias_are_refused() -> None:
    """peft 0.21 computes such a head without it."""
    with pytest.raises(ModelError, match="the head of PhiForCausalLM has a bias"):
        add_adapter(tiny_model("phi"), small("lora"), [5])
    add_adapter(tiny_model("phi"), small("lora"), [])


def test_numbers_of_layers() -> None:
    assert layer_numbers("0-2, 5", 6) == [0, 1, 2, 5]
    assert layer_numbers(None, 3) == [0, 1, 2]
    with pytest.raises(ConfigError, match="no layer 6"):
        layer_numbers("5-6", 6)


def test_the_shortest_endings_name_what_is_wanted_and_nothing_else() -> None:
    names = ["h.0.attn.c_proj", "h.1.attn.c_proj", "h.0.mlp.c_proj", "h.1.mlp.c_proj", "h.0.attn.c_attn"]
    assert shortest_endings([names[0], names[1], names[4]], names) == ["attn.c_proj", "c_attn"]
    assert shortest_endings([names[0]], names) == ["0.attn.c_proj"]
    assert shortest_endings(names, names) == ["c_attn", "c_proj"]


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_a_target_that_is_not_there_is_refused_with_those_that_are(kind: str) -> None:
    with pytest.raises(ModelError, match=r"no linear layer .* nowhere.*\n.*q_proj"):
        add_adapter(tiny_model(), small(kind, targets=("nowhere",)), [])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["adapter.kind=ia3", "adapter.rslora=true"], "rslora is for lora and dora"),
        (["adapter.kind=dora", "adapter.init=pissa"], "init is for lora"),
        (["adapter.kind=prefix", "adapter.layers=0-1"], "layers has no meaning for prefix"),
        (["adapter.kind=none", "model.quantize=nf4"], "needs an adapter"),
        (["adapter.init=pissa", "model.quantize=nf4"], "begins from whole weights"),
        (["adapter.layers=a-b"], "adapter.layers"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(settings: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(None, settings)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_mambas_layers_that_are_read_around_are_refused_and_the_others_named(
    kind: str, rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"^{kind} cannot go to out_proj of MambaForCausalLM") as refused:
        add_adapter(model_of("Mamba"), small(kind), [])
    assert refused.value.fix == "Name layers that work: adapter.targets=[in_proj,x_proj]."
    base = checkpoint("Mamba", tmp_path / "base")
    trained_run(rows, tmp_path / "run", kind, f"model.name={base}", "adapter.targets=[in_proj,x_proj]")
    blank = blank_model(shape_of("Mamba", 97), torch.float32)
    with pytest.raises(ModelError, match="cannot go to out_proj"):
        add_adapter(blank, small(kind), [])


# Starts that change the base


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize("rslora", [False, True])
def test_a_start_on_the_bases_own_directions_is_saved_for_the_base_as_it_is(
    init: str, rslora: bool, tmp_path: Path
) -> None:
    model, batch = tiny_model("llama"), batch_of()
    base = logits(model, batch)
    config = small("lora", init=init, rslora=rslora, rank_pattern={"q_proj": 2}, alpha=3.0)
    adapted = add_adapter(model, config, [])
    torch.testing.assert_close(logits(adapted.model, batch), base, atol=1e-3, rtol=1e-3)
    expected = logits(disturbed(adapted).model, batch)
    adapted.save(tmp_path)
    loaded = attach(tiny_model("llama"), tmp_path)
    torch.testing.assert_close(logits(loaded, batch), expected, atol=1e-3, rtol=1e-3)
    written = read_json(tmp_path / CONFIG)
    assert (written["r"], written["rank_pattern"]["q_proj"]) == (8, 4)


# On disk


@pytest.mark.parametrize("rows", [[], [5, 6]], ids=["", "tokens"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])  # a head of its own, and a tied one
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_saved(kind: str, family: str, rows: list[int], tmp_path: Path) -> None:
    batch = batch_of()
    adapted = disturbed(add_adapter(tiny_model(family), small(kind), rows))
    adapted.save(tmp_path)
    loaded = attach(tiny_model(family), tmp_path)
    assert torch.equal(logits(loaded, batch), logits(adapted.model, batch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_peft_made_gives_pefts_logits(dtype: torch.dtype, tmp_path: Path) -> None:
    batch = batch_of()
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])
    theirs = get_peft_model(tiny_model("llama").to(dtype), settings, autocast_adapter_dtype=False)
    torch.manual_seed(0)
    for name, weight in theirs.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    theirs.save_pretrained(tmp_path)
    loaded = attach(tiny_model("llama").to(dtype), tmp_path)
    assert torch.equal(logits(loaded, batch), logits(theirs, batch))


RELOAD = """
import sys, torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import save_file
from burnish import load_model
ids, out, *runs = sys.argv[1:]
ids = torch.tensor([[int(i) for i in ids.split(",")]])
found = {}
for run in runs:
    way, _, place = run.partition(":")
    if way == "peft":
        model = AutoPeftModelForCausalLM.from_pretrained(place + "/final", dtype=torch.float32).eval()
    else:
        model = load_model(place, dtype="float32").model.eval()
    with torch.no_grad():
        found[run] = model(input_ids=ids).logits[0, -ids.shape[1]:].contiguous()
save_file(found, out)
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    facts = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Peru": "Lima", "Cuba": "Havana"}
    messages = [
        [
            {"role": "user", "content": f"What is the capital of {country}?"},
            {"role": "assistant", "content": f"The capital of {country} is {city}."},
        ]
        for country, city in facts.items()
    ]
    path.write_text("".join(json.dumps({"messages": m}) + "\n" for m in messages), "utf-8")
    return path


def trained_run(rows: Path, out: Path, kind: str, *changes: str) -> RunFolder:
    config: RunConfig = load_config(
        None,
        [
            f"adapter.kind={kind}",
            "adapter.rank=4",
            "train.max_steps=3",
            "train.batch_size=4",
            "data.held_out_share=0",
            "evaluate.samples=0",
            "evaluate.forgetting=none",
            *changes,
        ],
        **{"model.name": "pebble", "data.train": [str(rows)], "out": str(out)},
    )
    return sft(config).folder


PROMPT = [2, 300, 301, 302, 5, 3]


@dataclass(frozen=True)
class Reloaded:
    """Runs of pebble by kind, and the logits that a fresh process has of them, by ``way:folder``."""

    runs: dict[str, RunFolder]
    logits: dict[str, Tensor]


@pytest.fixture(scope="module")
def reloaded(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Reloaded:
    folder = tmp_path_factory.mktemp("runs")
    changes = ["model.dtype=float32", "adapter.trainable_tokens=[]", "train.learning_rate=0.01"]
    files = {path: path.read_bytes() for path in PEBBLE_FOLDER.glob("*.safetensors")}
    runs = {kind: trained_run(rows, folder / kind, kind, *changes) for kind in KINDS}
    assert {path: path.read_bytes() for path in files} == files  # pebble stays as it was
    wanted = [f"burnish:{run.path}" for run in runs.values()]
    wanted += [f"peft:{runs[kind].path}" for kind in IN_PEFT]
    out, ids = folder / "logits.safetensors", ",".join(map(str, PROMPT))
    command = [sys.executable, "-W", "ignore", "-c", RELOAD, ids, str(out), *wanted]
    subprocess.run(command, check=True, capture_output=True)
    return Reloaded(runs, load_file(out))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", BEGIN_AS_BASE)
def test_pebble_with_a_new_adapter_is_pebble(kind: str, dtype: Any) -> None:
    batch = batch_of(vocabulary=4096)
    model = load_model("pebble", dtype=dtype).model
    base = logits(model, batch)
    assert torch.equal(logits(add_adapter(model, small(kind), [2, 3]).model, batch), base)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_the_adapter_and_not_a_bit_of_pebble(kind: str, quantize: Any) -> None:
    """With trained tokens, and with weight decay, which would move a base that the optimizer knew of."""
    if quantize != "none":
        pytest.importorskip("bitsandbytes")
    batch = batch_of(vocabulary=4096)
    model = load_model("pebble", dtype="bfloat16", quantize=quantize).model
    base = [(weight, weight.clone()) for weight in (*model.parameters(), *model.buffers())]
    adapted = add_adapter(model, small(kind), [2, 3])
    assert {id(weight) for weight, _ in base}.isdisjoint(map(id, trained(adapted).values()))
    start = {name: weight.clone() for name, weight in trained(adapted).items()}
    optimizer = MasterAdamW(adapted.model, weight_decay=0.1, betas=(0.9, 0.999))
    forward = fused(flat)
    for _ in range(2):
        next_token_loss(forward(adapted.model.train(), batch), batch).backward()
        optimizer.accumulate()
        optimizer.step(0.01)
    assert all(torch.equal(weight, first) for weight, first in base)
    assert {name for name, weight in trained(adapted).items() if torch.equal(weight, start[name])} == set()


@pytest.mark.parametrize("kind", KINDS)
def test_pebble_is_trained_saved_and_loaded_in_a_fresh_process(kind: str, reloaded: Reloaded) -> None:
    """By burnish and by plain peft, with the logits of what was trained."""
    run = reloaded.runs[kind]
    live = load_model(str(run.path), dtype="float32").model.eval()
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        expected = live(input_ids=ids).logits[0, -len(PROMPT) :]
        base = load_model("pebble", dtype="float32").model(input_ids=ids).logits[0]
    assert (expected - base).abs().max() > 1e-3
    for way in ("burnish", "peft") if kind in IN_PEFT else ("burnish",):
        found = reloaded.logits[f"{way}:{run.path}"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    metrics = [json.loads(line) for line in run.metrics.read_text("utf-8").splitlines()]
    losses = [row["loss"] for row in metrics if row["kind"] == "train"]
    assert losses[-1] < losses[0]


def test_the_base_is_measured_without_virtual_tokens(rows: Path, tmp_path: Path) -> None:
    """Which at the start are noise before its texts."""
    held = tmp_path / "held.jsonl"
    held.write_text(rows.read_text("utf-8").replace("capital", "largest city"), "utf-8")
    found = [
        read_json(trained_run(rows, tmp_path / kind, kind, f"data.held_out=[{held}]").evaluation)["base"]
        for kind in ("lora", "prompt", "prefix")
    ]
    assert found[0] and found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", ["GPT-2", "OPT", "Llama"])
def test_virtual_tokens_take_positions_of_the_model(
    family: str, kind: str, rows: Path, tmp_path: Path
) -> None:
    """A row of as many tokens as the model has positions is cut to what is left, everywhere alike."""
    positions = {"n_positions": 96} if family == "GPT-2" else {"max_position_embeddings": 96}
    base = checkpoint(family, tmp_path / "base", **positions)
    asked = {"role": "user", "content": "Hi"}
    text = json.dumps({"messages": [asked, {"role": "assistant", "content": "Lima. " * 60}]})
    (tmp_path / "rows.jsonl").write_text(text + "\n", "utf-8")
    changes = [f"model.name={base}", "adapter.virtual_tokens=20", "tokens.too_long=truncate_right"]
    changes += ["evaluate.forgetting=samples"]
    run = trained_run(tmp_path / "rows.jsonl", tmp_path / "run", kind, *changes)
    (step, *_) = map(json.loads, run.metrics.read_text("utf-8").splitlines())
    assert step["tokens"] == 76
    config = load_config(run.config)
    assert check(config)[0].limit == 76
    assert plan_inputs(config).workload.longest == 76
    with pytest.raises(ConfigError, match="virtual_tokens 37 leaves too little room"):
        trained_run(rows, tmp_path / "no", kind, f"model.name={base}", "adapter.virtual_tokens=37")
    assert not (tmp_path / "no").exists()


# Guards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    disturbed(add_adapter(tiny_model("llama"), small("lora"), [5])).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "bottleneck"])
def test_an_adapter_that_changes_nothing_is_refused(kind: str, tmp_path: Path) -> None:
    add_adapter(tiny_model("llama"), small(kind), [5]).save(tmp_path)
    with pytest.raises(ModelError, match="changes nothing"):
        attach(tiny_model("llama"), tmp_path)


def test_trained_tokens_alone_are_a_change(tmp_path: Path) -> None:
    adapted = add_adapter(tiny_model("llama"), small("lora"), [5])
    with torch.no_grad():
        for name, weight in trained(adapted).items():
            if "trainable_tokens" in name:
                weight += 1
    adapted.save(tmp_path)
    attach(tiny_model("llama"), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: (
            tensors | {"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": torch.ones(4, 32)}
        ),
        lambda tensors: {name: t for name, t in tensors.items() if "layers.1." not in name},
        lambda tensors: {name: t for name, t in tensors.items() if "trainable_tokens" not in name},
        lambda tensors: {
            name: t[:, :-1].contiguous() if "q_proj.lora_A" in name else t for name, t in tensors.items()
        },
    ],
    ids=["a layer too many", "a layer missing", "tokens missing", "another shape"],
)
def test_tensors_that_do_not_fit_are_refused(change: Any, folder: Path) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    with pytest.raises(ModelError, match="does not fit its base"):
        attach(tiny_model("llama"), folder)


def test_another_bases_adapter_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="does not fit its base"):
        attach(tiny_model("gpt2"), folder)


def test_a_base_that_changed_is_refused(rows: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(PEBBLE_FOLDER, base)
    run = trained_run(rows, tmp_path / "run", "lora", f"model.name={base}")
    load_model(str(run.path))
    weights = load_file(base / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="trained on other weights"):
        load_model(str(run.path))


def test_a_hub_ids_commit_is_kept_and_loaded_again(rows: Path, tmp_path: Path) -> None:
    """Its branch moves on to other weights meanwhile. The cache is laid out as the Hub's library does."""
    first, second = "1" * 40, "2" * 40
    cached = tmp_path / "hub" / "models--owner--name"
    for commit in (first, second):
        shutil.copytree(PEBBLE_FOLDER, cached / "snapshots" / commit)
    weights = load_file(PEBBLE_FOLDER / "model.safetensors")
    other = {name: tensor * 2 for name, tensor in weights.items()}
    save_file(other, cached / "snapshots" / second / "model.safetensors", metadata={"format": "pt"})
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(first)
    where = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN_AND_LOAD, str(rows), str(tmp_path / "run"), str(cached), second]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | where)
    base = read_json(tmp_path / "run" / "provenance.json")["base"]
    assert (base["name"], base["revision"]) == ("owner/name", first)
    assert float(done.stdout) == weights["model.norm.weight"].float().sum().item()


TRAIN_AND_LOAD = """
import sys
from pathlib import Path
from burnish import load_model
from burnish.config import load_config
from burnish.plan.plan import plan_inputs
from burnish.prepare.check import check
from burnish.recipes.sft import sft
rows, out, cached, commit = sys.argv[1:]
sets = ["model.name=owner/name", "train.max_steps=1", "data.held_out_share=0", "evaluate.samples=0"]
sets += ["evaluate.forgetting=none"]
sft(load_config(None, sets, **{"data.train": [rows], "out": out}))
Path(cached, "refs", "main").write_text(commit)
print(load_model(out).model.model.norm.weight.float().sum().item())
"""


def test_counts_are_those_of_the_formula() -> None:
    """2 d r a square matrix, (in + out) r any (arXiv:2106.09685)."""
    model = tiny_model("llama")
    shapes = [model.get_submodule(name).weight.shape for name in linear_names(model)]
    add_adapter(model, small("lora", rank=3), [])
    assert count_parameters(model).trainable == sum(3 * (a + b) for a, b in shapes)
