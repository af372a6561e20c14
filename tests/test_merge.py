"""Merged models: the same logits as base and adapter, a folder for plain tools, and a proof that can fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from burnish.adapters.adapter import add_adapter
from burnish.adapters.folder import weights_sha256
from burnish.adapters.load import load_model
from burnish.adapters.merge import merge_adapter
from burnish.cli.main import main
from burnish.config import AdapterConfig, RunConfig, build_config, load_config
from burnish.data import Conversation, Message
from burnish.errors import ConfigError, DataError, ModelError, RunError
from burnish.generate import Sampling, answer_all, open_model
from burnish.model.load import DTYPES, PEBBLE_FOLDER
from burnish.pebble import CONVERSATIONS
from burnish.recipes import merge as recipe
from burnish.recipes.merge import merge
from burnish.recipes.sft import sft
from burnish.run.artifact import save_final
from burnish.template import ChatTemplate
from conftest import tiny_model

MARKERS = (1, 2, 5)
"""Ids of pebble's markers for roles and ends."""


def pebble_rows(path: Path, count: int = 6) -> Path:
    lines = CONVERSATIONS.read_text("utf-8").splitlines(keepends=True)[:count]
    path.write_text("".join(lines), "utf-8")
    return path


@torch.no_grad()
def learnt(model: nn.Module, seed: int = 0) -> None:
    """Move all that is trained, as training would, but at once."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spread = 0.3 if "ia3" in name else 0.1 * max(float(parameter.float().std()), 0.2)
            parameter.add_(torch.randn_like(parameter) * spread)


def adapter(folder: Path, *, dtype: str = "float32", quantize: str = "none", **changes: Any) -> Path:
    """A run on pebble with an adapter, as far as merging reads it: its config and what it left."""
    rows = pebble_rows(folder.with_name("rows.jsonl"))
    model = {"name": "pebble", "dtype": dtype, "quantize": quantize}
    config = build_config(RunConfig, None, model=model, data={"train": [str(rows)]}, adapter=changes)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), "utf-8")
    loaded = load_model("pebble", dtype=config.model.dtype, quantize=config.model.quantize)
    adapted = add_adapter(loaded.model, config.adapter, MARKERS)
    learnt(adapted.model)
    base = {"name": "pebble", "revision": None, "sha256": weights_sha256(str(PEBBLE_FOLDER))}
    card = {"base": base | {"quantize": quantize}}
    save_final(folder / "final", adapted.model, adapted.save, ChatTemplate(loaded.tokenizer), card)
    return folder


def logits(model: PreTrainedModel) -> Tensor:
    ids = torch.arange(1, 200)[None]
    with torch.inference_mode():
        return model(input_ids=ids).logits.float()


METHODS = [
    {"kind": "lora", "rslora": True, "rank_pattern": {"down_proj": 4}, "modules_to_save": ("norm",)},
    {"kind": "dora"},
    {"kind": "ia3"},
]


@pytest.mark.parametrize("changes", METHODS, ids=lambda changes: "-".join(changes))
def test_the_sum_is_what_base_and_adapter_give_together(changes: dict[str, Any], tmp_path: Path) -> None:
    live = load_model(str(adapter(tmp_path / "a", **changes)), dtype="float32").model
    proof = merge(str(tmp_path / "a"), tmp_path / "out", dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = load_model("pebble", dtype="float32").model
    assert (logits(live) - logits(base)).abs().max() > 1
    torch.testing.assert_close(logits(live), logits(plain), rtol=1e-5, atol=1e-4)  # logits go up to 40
    assert plain.dtype == torch.float32
    assert plain.config.tie_word_embeddings
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert proof.mean_kl < 1e-9
    assert proof.agreement == 1.0


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "lora"},
        {"kind": "dora"},
        {"kind": "ia3"},
        {"kind": "lora", "targets": ("lm_head",)},
        {"kind": "lora", "modules_to_save": ("lm_head",)},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
@pytest.mark.parametrize("tied", [True, False])
def test_whatever_is_tied_and_whatever_is_adapted(
    family: str, changes: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    """Merged in place, and read back. A tied head becomes one of its own only where the adapter changed
    that alone."""
    model = tiny_model(family, tie_word_embeddings=tied)
    head_alone = "lm_head" in str(changes)
    if "targets" in changes:  # as other tools write it: no config of ours names the head
        settings = LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"])
        adapted = get_peft_model(model, settings).get_base_model()
    else:
        adapted = add_adapter(model, AdapterConfig(**changes), () if head_alone else (3, 7)).model
    learnt(adapted)
    ids = torch.arange(1, 60)[None]
    with torch.inference_mode():
        live = adapted(input_ids=ids).logits
        merge_adapter(model, torch.float32)
        after = model(input_ids=ids).logits
        model.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=ids).logits
    assert torch.equal(again, after)
    torch.testing.assert_close(after, live, rtol=1e-5, atol=1e-5)
    assert not any("lora" in name or "ia3" in name for name, _ in model.named_modules())
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert (head is table) == (tied and not head_alone) == model.config.tie_word_embeddings


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantized_base_is_merged_as_the_weights_that_it_stood_for(quantize: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = adapter(tmp_path / "a", kind="lora", quantize=quantize)
    merge(str(folder), tmp_path / "out", dtype="float32")
    live, plain = (
        load_model(str(folder), dtype="float32").model,
        AutoModelForCausalLM.from_pretrained(tmp_path / "out"),
    )
    torch.testing.assert_close(logits(plain), logits(live), rtol=1e-4, atol=1e-3)
    unquantized = load_model("pebble", dtype="float32").model.model.layers[0].mlp.up_proj.weight
    assert not hasattr(plain.config, "quantization_config")
    assert (plain.model.layers[0].mlp.up_proj.weight - unquantized).abs().max() > 1e-3


SERVE = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
given = tokenizer.apply_chat_template(
    [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
with torch.inference_mode():
    whole = model.generate(**given, max_new_tokens=40, do_sample=False)
    said = whole[0, given["input_ids"].shape[1] :].tolist()
    last = model(**given).logits[0, -1].float().tolist()
assert "burnish" not in sys.modules
print(json.dumps({"said": said, "last": last, "dtype": str(model.dtype)}))
"""


def test_plain_transformers_in_a_process_of_its_own_answers_the_same_and_stops(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", kind="lora", dtype="bfloat16")
    proof = merge(str(folder), tmp_path / "out")
    assert proof.passed and proof.conversations == 6 and proof.agreement > 0.97 and proof.mean_kl < 1e-3
    question = "What is the capital of France?"
    command = [sys.executable, "-c", SERVE, str(tmp_path / "out"), question]
    told = subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    served = json.loads(told.stdout)
    model, template = open_model(str(tmp_path / "out"))
    asked = Conversation((Message("user", question),))
    (answer,) = answer_all(model, template, [asked], Sampling(max_new_tokens=40))
    ends = [place for place, token in enumerate(served["said"]) if token in template.stop_ids]
    assert bool(ends) == answer.stopped
    assert served["said"][: ends[0] if ends else None] == list(answer.ids)
    ids = template.tokenizer(template.prompt(asked), return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        last = model(input_ids=ids).logits[0, -1].float()
    assert served["dtype"] == "torch.bfloat16"
    assert last.tolist() == served["last"]
    card = json.loads((tmp_path / "out" / "burnish.json").read_text("utf-8"))
    assert card["merged"]["kind"] == "lora" and card["merged"]["sha256"] == weights_sha256(
        str(folder / "final")
    )
    assert card["base"]["name"] == "pebble" and card["proof"]["passed"] and not card["proof"]["forced"]
    assert card["proof"]["mean_kl"] == proof.mean_kl
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == template.source


def spoilt(monkeypatch: pytest.MonkeyPatch, layers: slice = slice(None)) -> None:
    """From here on a merge leaves out a matrix of each of these layers."""
    whole: Callable[..., None] = recipe.merge_adapter

    def forgetful(model: PreTrainedModel, *rest: Any) -> None:
        for layer in model.model.layers[layers]:
            layer.mlp.down_proj = layer.mlp.down_proj.get_base_layer()
        whole(model, *rest)

    monkeypatch.setattr(recipe, "merge_adapter", forgetful)


def test_a_merge_that_is_not_what_was_trained_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapter(tmp_path / "a", kind="lora", dtype="bfloat16")
    spoilt(monkeypatch)
    before = sorted(path.name for path in tmp_path.iterdir())
    out = tmp_path / "out"
    command = ["burnish", "merge", str(folder), "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 1
    assert "is not what was trained: mean KL" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    monkeypatch.setattr("sys.argv", [*command, "--force"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    assert "the merge failed its proof" in capsys.readouterr().out.lower().replace("\n", " ")
    proof = json.loads((out / "burnish.json").read_text("utf-8"))["proof"]
    assert proof["forced"] and not proof["passed"] and proof["mean_kl"] > proof["limit"]


def test_in_fp32_a_single_matrix_left_out_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapter(tmp_path / "a", kind="lora", dtype="float32")
    proof = merge(str(folder), tmp_path / "right", dtype="float32")
    assert proof.mean_kl < 1e-3 * proof.limit
    spoilt(monkeypatch, slice(2, 3))
    with pytest.raises(ModelError, match="not what was trained"):
        merge(str(folder), tmp_path / "out", dtype="float32")


def test_an_adapter_is_merged_in_the_type_that_its_folder_says(tmp_path: Path) -> None:
    """The folder alone, without its run, and a base in fp32 whose values bf16 does not have."""
    base, rows = tmp_path / "base", pebble_rows(tmp_path / "rows.jsonl")
    shutil.copytree(PEBBLE_FOLDER, base)
    model = load_model("pebble", dtype="float32").model
    learnt(model.requires_grad_(True))
    model.save_pretrained(base)
    settings = [
        "model.dtype=float32",
        "train.max_steps=2",
        "train.learning_rate=0.01",
        "evaluate.samples=0",
        "evaluate.forgetting=none",
    ]
    sft(load_config(None, settings), model=base, data=[str(rows)], out=tmp_path / "run")
    shutil.copytree(tmp_path / "run" / "final", tmp_path / "alone")
    assert json.loads((tmp_path / "alone" / "burnish.json").read_text("utf-8"))["dtype"] == "float32"
    proof = merge(str(tmp_path / "alone"), tmp_path / "out", dtype="float32", data=rows)
    live = load_model(str(tmp_path / "run"), dtype="float32").model
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(plain), logits(live), rtol=1e-5, atol=1e-4)
    assert proof.limit == recipe.LIMIT_IN_FP32 and proof.mean_kl < 1e-9


def test_a_folder_of_another_tool_is_taken_to_be_of_its_bases_type(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", kind="lora") / "final"
    shutil.copytree(folder, tmp_path / "alone")
    settings = json.loads((tmp_path / "alone" / "adapter_config.json").read_text("utf-8"))
    settings["base_model_name_or_path"] = str(PEBBLE_FOLDER)
    (tmp_path / "alone" / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    (tmp_path / "alone" / "burnish.json").unlink()
    job = recipe._merge_job(str(tmp_path / "alone"), None, tmp_path / "rows.jsonl")
    assert DTYPES[job.dtype] == AutoConfig.from_pretrained(PEBBLE_FOLDER).dtype


def test_the_limit_is_the_users(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", kind="lora", dtype="bfloat16")
    with pytest.raises(ModelError, match="not what was trained"):
        merge(str(folder), tmp_path / "out", limit=1e-9)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "why"),
    [("prompt", "in front of the text"), ("prefix", "in front of the text"), ("bottleneck", "not linear")],
)
def test_methods_without_a_weight_are_refused(kind: str, why: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", kind=kind)
    with pytest.raises(ModelError, match=f"of the kind {kind}, which cannot be merged") as error:
        merge(str(folder), tmp_path / "out")
    assert why in error.value.why and "lora" in error.value.fix
    assert not (tmp_path / "out").exists()


def test_what_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    rows = pebble_rows(tmp_path / "rows.jsonl")
    with pytest.raises(ModelError, match="pebble has no adapter"):
        merge("pebble", tmp_path / "out", data=rows)
    folder = adapter(tmp_path / "a", kind="lora")
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match="taken exists already"):
        merge(str(folder), tmp_path / "taken", data=rows)
    shutil.copytree(folder / "final", tmp_path / "alone")
    with pytest.raises(ConfigError, match="no rows to prove the merge on"):
        merge(str(tmp_path / "alone"), tmp_path / "out")
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        merge(str(folder), tmp_path / "out", data=tmp_path / "gone.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "alone", "rows.jsonl", "taken"]


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = adapter(tmp_path / "a", kind="lora", dtype="bfloat16")

    def full(staged: Path, *rest: Any) -> None:
        staged.mkdir()
        (staged / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recipe, "save_final", full)
    with pytest.raises(RunError, match="No space left on device"):
        merge(str(folder), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "rows.jsonl"]
