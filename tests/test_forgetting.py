"""Forgetting: loss on text that has nothing to do with the rows, of base and tuned, on the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish import load_config, sft
from burnish.errors import ConfigError
from burnish.evaluate import wilson
from burnish.evaluate.forgetting import SAMPLE_TOKENS, SAMPLES
from burnish.files import read_json, read_lines
from burnish.model.load import PEBBLE_FOLDER
from burnish.pebble import CONVERSATIONS, TALES, rows
from burnish.recipes.result import SFTResult
from conftest import small_tokenizer, tiny_model
from test_readme import run

QUICK = {
    "train.max_steps": 3,
    "train.batch_size": 8,
    "train.learning_rate": 1e-2,
    "model.dtype": "float32",
    "adapter.kind": "none",
    "evaluate.samples": 2,
    "evaluate.max_new_tokens": 4,
}


def trained(out: Path, **changes: Any) -> SFTResult:
    given = {key.replace("__", "."): value for key, value in changes.items()}
    return sft(load_config(None, [], **QUICK | given), data=rows(CONVERSATIONS)[:40], out=out)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model("llama", len(small_tokenizer())).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def own(base: Path, tmp_path_factory: pytest.TempPathFactory) -> SFTResult:
    """A run of a base that nobody named a text for."""
    return trained(tmp_path_factory.mktemp("run") / "run", model__name=str(base))


def documents(result: SFTResult) -> list[list[int]]:
    return [row["ids"] for row in read_lines(result.folder.path / "prose.jsonl")]


def loss_in_plain_transformers(folder: Path, texts: list[list[int]]) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    nats = count = 0.0
    for ids in texts:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
        count += len(ids) - 1
    return nats / count


def test_a_base_without_a_text_is_measured_on_what_it_writes(own: SFTResult, base: Path) -> None:
    texts = documents(own)
    start = AutoTokenizer.from_pretrained(base).eos_token_id  # it has no token that begins a text
    assert 0 < len(texts) <= SAMPLES
    assert all(ids[0] == start and 1 < len(ids) <= 1 + SAMPLE_TOKENS for ids in texts)
    assert len({tuple(ids) for ids in texts}) > 1
    figures = own.evaluation
    for who in ("base", "tuned"):
        assert figures[who]["prose_of"] == "samples that the base wrote"
        assert figures[who]["prose_tokens"] == sum(len(ids) - 1 for ids in texts)


def test_both_losses_are_those_of_plain_transformers_on_the_same_tokens(own: SFTResult, base: Path) -> None:
    figures, texts = own.evaluation, documents(own)
    assert figures["base"]["prose_loss"] == pytest.approx(loss_in_plain_transformers(base, texts), abs=1e-4)
    tuned = loss_in_plain_transformers(own.folder.final, texts)
    assert figures["tuned"]["prose_loss"] == pytest.approx(tuned, abs=1e-4)
    assert figures["tuned"]["prose_loss"] > figures["base"]["prose_loss"]  # nothing fits them as their author


def test_the_same_seed_writes_the_same_text(own: SFTResult, base: Path, tmp_path: Path) -> None:
    again = trained(tmp_path / "again", model__name=str(base))
    other = trained(tmp_path / "other", model__name=str(base), train__seed=1)
    assert documents(again) == documents(own) != documents(other)


def test_pebble_is_measured_on_its_tales(tmp_path: Path) -> None:
    result = trained(tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(PEBBLE_FOLDER)
    told = [tokenizer(row["text"])["input_ids"] for row in rows(TALES)]
    assert sum(map(len, documents(result))) == sum(map(len, told))
    assert documents(result)[0] == told[0][:512]
    assert result.evaluation["tuned"]["prose_of"] == "tales that pebble never saw"


def test_a_text_of_ones_own_is_measured(tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("Once there was a king who had a daughter.\n" * 60, "utf-8")
    result = trained(tmp_path / "run", evaluate__forgetting=str(text), train__max_steps=1)
    tokenizer = AutoTokenizer.from_pretrained(PEBBLE_FOLDER)
    found = [token for ids in documents(result) for token in ids]
    assert found == tokenizer(text.read_text("utf-8"))["input_ids"]
    assert max(map(len, documents(result))) <= 512
    assert result.evaluation["base"]["prose_of"] == str(text)
    assert str(text) in result.folder.report.read_text("utf-8")


def test_a_text_that_is_not_there_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n", "utf-8")
    for name, says in (("nowhere.txt", "cannot be read as text"), ("empty.txt", "holds no text")):
        with pytest.raises(ConfigError, match=says) as caught:
            trained(
                tmp_path / "run", evaluate__forgetting=str(tmp_path / name), model__name=str(tmp_path / "no")
            )
        assert name in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_it_can_be_left_out(tmp_path: Path) -> None:
    result = trained(tmp_path / "run", evaluate__forgetting="none", train__max_steps=1)
    assert "prose_loss" not in result.evaluation["base"]
    assert not (result.folder.path / "prose.jsonl").exists()


# Shares of few samples; nothing held out


def test_the_share_of_answers_that_stop_has_an_interval(own: SFTResult) -> None:
    for figures in read_json(own.folder.evaluation).values():
        stopped = round(figures["stopped_share"] * 2)
        assert figures["sample_answers"] == 2
        assert figures["stopped_share_interval"] == pytest.approx(wilson(stopped, 2))


@pytest.mark.parametrize("share", ["0", "0.2"])
def test_the_screen_speaks_of_held_out_rows_only_where_there_are_some(
    share: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows(CONVERSATIONS)[:20]), "utf-8"
    )
    settings = ["train.max_steps=2", f"data.held_out_share={share}", "evaluate.max_new_tokens=4"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    run(["train", "--data", "rows.jsonl", "--model", "pebble", "--out", "run", *overrides])
    captured = capsys.readouterr()
    shown = (captured.out + captured.err).lower()
    assert "what changed" in shown
    assert "answers that stop" in shown
    assert "prose loss, nats" in shown
    held = "held-out" in shown or "held out" in shown
    assert held == (share != "0")
    if not held:
        assert "the same prompts of trained rows, before and after" in shown
