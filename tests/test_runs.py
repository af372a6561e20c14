"""Whole runs through the front door, on pebble and on small random models with real tokenizers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from burnish import BurnishError, load_config, sft
from burnish.data import Conversation, Message
from burnish.files import read_json, read_lines
from burnish.generate import Sampling, answer_all, open_model
from burnish.pebble import CONVERSATIONS, rows
from burnish.run.folder import RunFolder
from conftest import SHARED, needs_shared, tiny_checkpoint

PROMPTS = ("What is the capital of France?", "Thank you.", "Tell me a story.")


def small_data(path: Path, count: int = 24) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(CONVERSATIONS)[:count]), "utf-8")
    return path


def settings(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    quick = {
        "data.train": [str(data)],
        "out": str(out),
        "train.batch_size": 4,
        "train.epochs": 2,
        "train.learning_rate": 1e-3,
        "evaluate.samples": 2,
        "evaluate.forgetting": "none",
        "evaluate.max_new_tokens": 8,
    }
    return quick | {key.replace("__", "."): value for key, value in changes.items()}


def train(data: Path, out: Path, **changes: Any) -> RunFolder:
    return sft(load_config(None, [], **settings(data, out, **changes))).folder


def losses(run: RunFolder) -> list[float]:
    return [row["loss"] for row in read_lines(run.metrics) if row["kind"] == "train"]


def plain_answers(model: PreTrainedModel, folder: Path) -> list[str]:
    """Greedy answers by transformers alone, with nothing but what stands in the folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = read_json(folder / "generation_config.json")
    answers = []
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                eos_token_id=config["eos_token_id"],
                pad_token_id=config["pad_token_id"],
            )
        answer = output[0, ids.shape[1] :].tolist()
        stops = set(config["eos_token_id"])
        end = next((place for place, token in enumerate(answer) if token in stops), None)
        answers.append(tokenizer.decode(answer[:end]))
    return answers


def our_answers(run: RunFolder) -> list[str]:
    model, template = open_model(str(run.path))
    asked = [Conversation((Message("user", prompt),)) for prompt in PROMPTS]
    return [answer.text for answer in answer_all(model, template, asked, Sampling(max_new_tokens=12))]


def as_trained(model: Any) -> Any:
    """peft widens the adapter to fp32; in training, and in its file, it is bf16. Angles stay fp32."""
    for weight in model.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return model.eval()


def test_lora_on_pebble_learns_and_loads_in_plain_peft_with_the_same_answers(tmp_path: Path) -> None:
    run = train(small_data(tmp_path / "rows.jsonl", 48), tmp_path / "run", train__epochs=4)
    assert sum(losses(run)[-5:]) < 0.6 * sum(losses(run)[:5])
    plain = as_trained(AutoPeftModelForCausalLM.from_pretrained(run.final, dtype=torch.bfloat16))
    assert plain_answers(plain, run.final) == our_answers(run)
    figures = read_json(run.evaluation)
    assert figures["tuned"]["held_out_loss"] < figures["base"]["held_out_loss"]
    for path in (run.config, run.provenance, run.ledger, run.samples, run.examples, run.report):
        assert path.stat().st_size, path
    assert not list(run.path.rglob("*.bin")) + list(run.path.rglob("*.pt"))


def test_all_weights_of_pebble_learn_and_load_in_plain_transformers_with_the_same_answers(
    tmp_path: Path,
) -> None:
    run = train(small_data(tmp_path / "rows.jsonl"), tmp_path / "run", adapter__kind="none")
    assert losses(run)[-1] < losses(run)[0]
    plain = AutoModelForCausalLM.from_pretrained(run.final, dtype=torch.bfloat16).eval()
    assert plain_answers(plain, run.final) == our_answers(run)
    assert (run.final / "model.safetensors").is_file()


@needs_shared
@pytest.mark.parametrize("template", ["auto", "chatml"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_other_models_with_real_tokenizers_on_real_rows(
    family: str, adapter: str, template: str, tmp_path: Path
) -> None:
    """ChatML-lite is given where it is asked for, and to gpt2, whose tokenizer carries no template; its
    tokens are added and their embeddings trained, in llama's untied head too."""
    if family == "qwen2" and (template, adapter) != ("auto", "lora"):
        pytest.skip("a vocabulary of 152,000 is slow, and its template is ChatML")
    if (family, template) == ("gpt2", "chatml"):
        pytest.skip("without a template of its own it gets this one")
    base = tiny_checkpoint(tmp_path / "base", family, torch.bfloat16)
    data = tmp_path / "rows.jsonl"
    with (SHARED / "sft" / "oasst_messages.jsonl").open(encoding="utf-8") as file:
        data.write_text("".join(line for line, _ in zip(file, range(8), strict=False)), "utf-8")
    run = train(data, tmp_path / "run", model__name=str(base), adapter__kind=adapter, template__kind=template)
    assert losses(run)[-1] < losses(run)[0]
    kind = AutoPeftModelForCausalLM if adapter == "lora" else AutoModelForCausalLM
    plain = as_trained(kind.from_pretrained(run.final, dtype=torch.bfloat16))
    assert plain_answers(plain, run.final) == our_answers(run)
    if template == "chatml" or family == "gpt2":
        assert "<|im_end|>" in AutoTokenizer.from_pretrained(run.final).get_vocab()
    if adapter == "lora":
        before, after = (
            AutoModelForCausalLM.from_pretrained(base),
            open_model(str(run.path), base_only=True)[0],
        )
        for name, weight in before.state_dict().items():
            ours = after.state_dict()[name][: len(weight)]
            assert torch.equal(weight.to(ours.dtype), ours), f"{name} of the base has changed"


def test_a_run_killed_at_any_moment_and_resumed_ends_in_the_same_bits(tmp_path: Path) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {"adapter__dropout": 0.1, "train__checkpoint_every": 2, "train__epochs": 3}
    whole = train(data, tmp_path / "whole", **changes)
    pieces = tmp_path / "pieces"
    process = start_training(data, pieces, changes)
    wait_for(lambda: (pieces / "checkpoints" / "step-000004").is_dir(), process)
    process.kill()
    process.wait()
    assert not (pieces / "final").exists()
    resumed = sft(load_config(pieces / "config.yaml"), resume=True).folder
    ours, theirs = (load_file(run.final / "adapter_model.safetensors") for run in (whole, resumed))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert losses(whole) == losses(resumed)
    steps = [row["step"] for row in read_lines(resumed.metrics) if row["kind"] == "train"]
    assert all(after == before + 1 for before, after in pairwise(steps))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run_and_says_how_to_go_on(tmp_path: Path, signum: signal.Signals) -> None:
    data, out = small_data(tmp_path / "rows.jsonl"), tmp_path / "run"
    process = start_training(data, out, {"train__epochs": 50})
    wait_for(lambda: sum(1 for _ in read_lines(out / "metrics.jsonl")) > 3, process)
    process.send_signal(signum)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert f"burnish train --resume {out}" in complaint
    assert "Traceback" not in complaint
    assert list((out / "checkpoints").glob("step-*"))


def start_training(data: Path, out: Path, changes: dict[str, Any]) -> subprocess.Popen[str]:
    given = settings(data, out, **changes)
    pairs = [f"--set={key}={json.dumps(value)}" for key, value in given.items()]
    program = [sys.executable, "-m", "burnish.cli.main", "train", *pairs]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(happened: Any, process: subprocess.Popen[str], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.02)


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    data = small_data(tmp_path / "rows.jsonl")
    run = train(data, tmp_path / "run", train__max_steps=2, train__checkpoint_every=1)
    data.write_text(data.read_text("utf-8") * 2, "utf-8")
    run.report.unlink()  # as if it had not finished
    with pytest.raises(BurnishError, match="changed since it began: data"):
        sft(load_config(run.config), resume=True)


def test_a_finished_run_has_nothing_to_go_on_with(tmp_path: Path) -> None:
    run = train(small_data(tmp_path / "rows.jsonl"), tmp_path / "run", train__max_steps=1)
    with pytest.raises(BurnishError, match="has finished"):
        sft(load_config(run.config), resume=True)


def test_rows_that_are_not_trained_stand_in_the_ledger(tmp_path: Path) -> None:
    good = rows(CONVERSATIONS)[:8]
    long = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "word " * 3000}]}
    mute = {"messages": [{"role": "user", "content": "Is anyone there?"}]}
    data = tmp_path / "rows.jsonl"
    lines = [*map(json.dumps, good), json.dumps(long), json.dumps(mute), "{not json"]
    data.write_text("\n".join(lines) + "\n", "utf-8")
    run = train(data, tmp_path / "run", train__max_steps=1, data__bad_rows="skip", data__held_out_share=0)
    *fates, summary = read_lines(run.ledger)
    assert {(line["row"], line["fate"]) for line in fates} == {
        (9, "too long"),
        (10, "nothing to learn"),
        (11, "rejected"),
    }
    assert summary["counts"]["read"] == 11
    assert summary["counts"]["trained"] == 8


def test_early_stopping_ends_the_run_when_held_out_loss_gets_no_better(tmp_path: Path) -> None:
    data = small_data(tmp_path / "rows.jsonl", 12)
    run = train(
        data,
        tmp_path / "run",
        train__epochs=60,
        train__learning_rate=1e-2,
        train__early_stopping=2,
        train__decay="constant",
        data__held_out_share=0.3,
        evaluate__samples=0,
    )
    held_out = [row["loss"] for row in read_lines(run.metrics) if row["kind"] == "held_out"]
    assert len(losses(run)) < 60 * 2
    best = min(held_out)
    assert all(loss >= best for loss in held_out[-3:])
