"""docs/pieces.md: each of its lines is run, and its loop trains what burnish's own loop trains."""

from __future__ import annotations

import doctest
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

import burnish
from burnish import SFTDataset
from burnish.cli.main import main
from burnish.config import TrainConfig
from burnish.model.forward import flat
from burnish.model.load import PEBBLE_FOLDER, load_plain_tokenizer
from burnish.pebble import CONVERSATIONS
from burnish.pebble import rows as rows_of
from burnish.tokens import Order, TokenTable, flatten
from burnish.train.fit import fit
from burnish.train.objective import next_token_loss
from burnish.train.optimizer import MasterAdamW

PAGE = Path(__file__).parents[1] / "docs" / "pieces.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
BATCH = 4


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page takes for granted: a model with pebble's tokenizer in models/base, and rows.jsonl."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    tokenizer = load_plain_tokenizer(str(PEBBLE_FOLDER), None)
    small_base(tokenizer, tmp_path / "models" / "base")
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows_of(CONVERSATIONS)[:24]), "utf-8"
    )
    return tmp_path


def small_base(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run(names: dict[str, Any], languages: tuple[str, ...], until: str = "") -> None:
    """The blocks of these languages from the top of the page on, up to one that has ``until`` in it."""
    for kind, text in BLOCKS:
        if kind == "python" and kind in languages:
            exec(compile(text, PAGE.name, "exec"), names)
        elif kind == "sh" and kind in languages:
            for line in text.splitlines():
                command(line)
        if until and until in text:
            return


def command(line: str) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setattr("sys.argv", shlex.split(line))
        main()
        raise SystemExit(0)
    assert not leaving.value.code, line


def test_what_python_answers_on_the_page_is_what_it_answers(folder: Path) -> None:
    text = "".join(blocks("pycon"))
    assert text.count(">>>") > 10
    found = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    report: list[str] = []
    doctest.DocTestRunner().run(found, out=report.append)
    assert not report, "".join(report)


def test_the_public_names_are_there_and_cost_nothing_until_they_are_used() -> None:
    for name in burnish.__all__:
        assert getattr(burnish, name).__doc__, name
    assert sorted(burnish.__all__) == burnish.__all__
    program = "import sys, burnish; assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_line_of_the_page_runs_from_top_to_bottom(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    run(names, ("python", "sh"))
    assert (folder / "tokens.parquet.ledger.jsonl").is_file()
    assert names["result"].folder.report.is_file()
    assert names["trainer"].state.global_step == 2
    assert {kind for kind, _ in BLOCKS} == {"pycon", "python", "sh"}


def test_the_loop_of_the_page_has_the_losses_of_burnish_own_loop(folder: Path) -> None:
    """That one draws its order, so its table is laid out against it."""
    names: dict[str, Any] = {}
    run(names, ("python",), until="losses.append")
    dataset, losses = names["dataset"], names["losses"]
    assert isinstance(dataset, SFTDataset) and len(dataset) == 24
    order = Order(len(dataset), BATCH, seed=0)
    drawn = [row for step in range(order.steps_per_epoch) for row in order.step(step)]
    table = TokenTable.from_examples(
        example for _, example in sorted(zip(drawn, dataset, strict=True), key=lambda pair: pair[0])
    )
    settings = TrainConfig(
        learning_rate=1e-3,
        batch_size=BATCH,
        epochs=1,
        warmup=0.0,
        decay="constant",
        max_grad_norm=1e9,
        micro_batch_tokens=1 << 16,  # one micro-batch a step
    )
    model = AutoModelForCausalLM.from_pretrained("models/base", dtype=torch.float32)
    optimizer = MasterAdamW(model, weight_decay=0.0, betas=settings.betas)
    ours = [step.loss for step in fit(model, table, settings, optimizer=optimizer, forward=flat)]
    assert len(losses) == len(ours) == 6
    assert losses == pytest.approx(ours, abs=1e-5)
    untrained = AutoModelForCausalLM.from_pretrained("models/base", dtype=torch.float32)
    rows = flatten([table.document(row) for row in order.step(5)])
    before = next_token_loss(flat(untrained, rows), rows).item() / len(rows.target_ids)
    assert losses[-1] < before - 0.02  # a thousand times what is allowed to differ
