"""What is in ``final/`` generates elsewhere as here, and stops: with peft alone, with transformers alone, in
a pipeline, and by the model that burnish itself opens."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline

from burnish import load_config, sft
from burnish.adapters.load import load_model
from burnish.files import read_json
from burnish.run.folder import RunFolder
from conftest import byte_tokenizer, tiny_model

LIMIT = 24
ASKED = [{"role": "user", "content": "hi"}]
DOCS = Path(__file__).parents[1] / "docs" / "adapters.md"


def trained(folder: Path, kind: str, *, adds_tokens: bool = False) -> RunFolder:
    """A tiny model that has learnt to say one thing and to stop, where its kind can learn it. Its base stops
    at another token; ``adds_tokens``: the base has no template, and gets ChatML-lite's tokens."""
    tokenizer = byte_tokenizer()
    if adds_tokens:
        tokenizer.chat_template = None
    tiny_model("llama", len(tokenizer)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    row = {"messages": [*ASKED, {"role": "assistant", "content": "yes"}]}
    (folder / "rows.jsonl").write_text(4 * (json.dumps(row) + "\n"))
    settings = {
        "model.name": str(folder / "base"),
        "model.dtype": "float32",
        "data.train": [str(folder / "rows.jsonl")],
        "out": str(folder / "run"),
        "adapter.kind": kind,
        "train.batch_size": 4,
        "train.epochs": 40,
        "train.learning_rate": 3e-2,
        "evaluate.samples": 0,
        "evaluate.forgetting": "none",
        "evaluate.every": 40,
        "train.checkpoint_every": 40,
    }
    return sft(load_config(None, [], **settings)).folder


@cache
def prompt(final: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(final)
    ids = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert isinstance(ids, torch.Tensor)
    return ids


def said(model: Any, final: Path) -> list[int]:
    """The ids of ``generate`` with nothing but a length limit said, from the prompt on."""
    ids = prompt(final)
    output = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LIMIT, do_sample=False
    )
    found: list[int] = output[0, ids.shape[1] :].tolist()
    return found


def stop_ids(final: Path) -> list[int]:
    ids: list[int] = read_json(final / "generation_config.json")["eos_token_id"]
    return ids


def documented(final: Path, base: Path) -> Any:
    """The model that the lines of docs/adapters.md make."""
    (code,) = re.findall(
        r"```python\n(from peft import PeftModel\n.*?)```", DOCS.read_text("utf-8"), re.DOTALL
    )
    names: dict[str, Any] = {}
    for ours, theirs in (("runs/mine/final", final), ("models/base", base)):
        assert ours in code
        code = code.replace(ours, str(theirs))
    exec(code, names)
    return names["model"]


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "prompt", "prefix", "bottleneck", "none"])
def test_the_model_that_burnish_opens_stops_by_itself(kind: str, tmp_path: Path) -> None:
    final = trained(tmp_path, kind).final
    found = said(load_model(str(tmp_path / "run"), dtype="float32").model, final)
    if kind in ("lora", "dora", "none"):
        assert AutoTokenizer.from_pretrained(final).decode(found[:-1]) == "yes"
        assert found[-1] in stop_ids(final)
    if kind == "none":
        assert said(AutoModelForCausalLM.from_pretrained(final), final) == found
        made = pipeline("text-generation", model=str(final))(ASKED, max_new_tokens=LIMIT, do_sample=False)
        assert made[0]["generated_text"][-1]["content"].startswith("yes")
    elif kind != "bottleneck":
        assert said(documented(final, tmp_path / "base"), final) == found
        plain = AutoPeftModelForCausalLM.from_pretrained(final)
        plain.get_base_model().generation_config = GenerationConfig.from_pretrained(final)
        assert said(plain, final) == found


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_tokens_that_were_added_load_elsewhere_by_the_lines_of_the_docs(kind: str, tmp_path: Path) -> None:
    final = trained(tmp_path, kind, adds_tokens=True).final
    found = said(load_model(str(tmp_path / "run"), dtype="float32").model, final)
    assert AutoTokenizer.from_pretrained(final).decode(found[:-1]) == "yes"
    assert found[-1] in stop_ids(final)
    model = documented(final, tmp_path / "base")
    assert said(model, final) == found
    made = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(final))(
        ASKED, max_new_tokens=LIMIT, do_sample=False
    )
    assert made[0]["generated_text"][-1]["content"].startswith("yes")
