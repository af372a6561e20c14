"""Files of every kind, damaged in every way at random: each opens or is an error that a person can read."""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from burnish.adapters.load import load_model
from burnish.config import load_config
from burnish.data.read import read_rows
from burnish.errors import BurnishError
from burnish.prepare.check import check
from conftest import byte_tokenizer, tiny_model

ROW = {
    "messages": [
        {"role": "user", "content": "Where is Rome?"},
        {
            "role": "assistant",
            "content": "In Italy.",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1]}}}],
        },
    ]
}
CONFIG = (
    "data: {train: [rows.jsonl], held_out_share: 0.1}\nadapter: {kind: lora, rank: 8}\ntrain: {epochs: 2}\n"
)
STRANGE = [
    None,
    True,
    -1,
    0,
    1e308,
    10**12,
    "",
    "x",
    "../../etc/passwd",
    [],
    {},
    [[]],
    {"a": 1},
    "\ud83d",
    [None],
]
CASES = 40
LONGEST = 10.0
"""Seconds: more is a hang."""
MOST = 2 << 20
"""KiB of memory that all cases of a file may add."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for name, model in (
        ("base", tiny_model("llama", 272)),
        ("adapter", get_peft_model(tiny_model("llama", 272), LoraConfig(target_modules=["q_proj"]))),
    ):
        for weight_name, weight in model.named_parameters():
            if "lora_B" in weight_name:
                torch.nn.init.ones_(weight)
        model.save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(folder / "base")
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    base = {"name": str(folder / "base"), "revision": None, "quantize": "none", "sha256": None}
    (folder / "adapter" / "burnish.json").write_text(json.dumps({"base": base, "typed_tokens": "text"}))
    (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes turned over, cut, doubled, or put in; of JSON a value somewhere replaced."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, dict) and chance.random() < 0.6:
        return json.dumps(_replaced(value, chance)).encode()
    place = chance.randrange(len(content))
    how = chance.randrange(5)
    if how == 0:
        return content[:place]
    if how == 1:
        return content[:place] + content[place:] * 2
    if how == 2:
        return content[:place] + b"[{" * 20000 + content[place:]
    other = bytearray(content)
    for _ in range(1 if how == 3 else 20):
        other[chance.randrange(len(other))] = chance.randrange(256)
    return bytes(other)


def _replaced(value: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    key = chance.choice([*value])
    inner = value[key]
    if isinstance(inner, dict) and inner and chance.random() < 0.7:
        return {**value, key: _replaced(inner, chance)}
    if chance.random() < 0.2:
        return {name: other for name, other in value.items() if name != key}
    return {**value, key: chance.choice(STRANGE)}


def opens_rows(folder: Path) -> None:
    read_rows([folder / "rows.jsonl"])
    check(
        load_config(
            None, [], **{"data.train": [str(folder / "rows.jsonl")], "model.name": str(folder / "base")}
        )
    )


OPENS: dict[str, Callable[[Path], object]] = {
    **{
        f"base/{name}": lambda folder: load_model(str(folder / "base")).chat_template().stop_ids
        for name in (
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        )
    },
    **{
        f"adapter/{name}": lambda folder: load_model(str(folder / "adapter"))
        for name in ("adapter_config.json", "adapter_model.safetensors", "burnish.json")
    },
    "rows.jsonl": opens_rows,
    "config.yaml": lambda folder: load_config(folder / "config.yaml"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPENS)
def test_a_damaged_file_opens_or_is_an_error_that_says_what_is_wrong(name: str, folders: Path) -> None:
    chance = random.Random(name)
    whole = (folders / name).read_bytes()
    OPENS[name](folders)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, faults = 0, []
    try:
        for case in range(CASES):
            (folders / name).write_bytes(damaged(whole, chance))
            began = time.monotonic()
            try:
                OPENS[name](folders)
            except BurnishError:
                refused += 1
            except BaseException as error:
                faults.append((case, type(error).__name__, str(error)[:200]))
            if time.monotonic() - began > LONGEST:
                faults.append((case, "takes too long", ""))
    finally:
        (folders / name).write_bytes(whole)
    assert not faults
    assert refused > CASES // 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < MOST
