"""The file of tokens for other trainers: what stands in it, what is refused, and that TRL's SFTTrainer,
transformers' Trainer and a plain loop train exactly its tokens."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from datasets import Dataset, load_dataset
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from burnish import ChatTemplate, collate, encode, load_config, masked_cross_entropy, read
from burnish.cli.main import main
from burnish.config import TrainConfig
from burnish.errors import BurnishError
from burnish.files import read_lines
from burnish.model.forward import flat
from burnish.pebble import CONVERSATIONS
from burnish.pebble import rows as rows_of
from burnish.prepare import export as export_file
from burnish.prepare.export import export
from burnish.tokens import Order, TokenTable
from burnish.train.fit import fit
from burnish.train.optimizer import MasterAdamW
from conftest import small_tokenizer, tiny_model

ASK = {"role": "user", "content": "What is ice?"}
SAY = {"role": "assistant", "content": "Water that is cold."}
GOOD = {"messages": [ASK, SAY]}
LONG = {"messages": [ASK, {"role": "assistant", "content": "the cat and the dog ran. " * 200}]}
ROWS = [
    *rows_of(CONVERSATIONS)[:11],
    {"messages": [ASK, SAY, {"role": "user", "content": "And the house?"}, SAY | {"content": "Red."}]},
    {"messages": [ASK, SAY | {"train": False}, ASK, SAY]},
    {"text": "the cat sat on the mat"},
    LONG,
    GOOD,
]
BATCH, RATE = 4, 1e-2
STEPS = len(ROWS) // BATCH


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """datasets neither draws bars nor leaves anything in the cache of the person who runs the tests."""
    datasets.disable_progress_bars()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = small_tokenizer()
    tiny_model("llama", len(tokenizer), max_position_embeddings=4096).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def config_of(base: Path, data: str, **changes: Any) -> Any:
    given = {"model.name": str(base), "data.train": [data], "tokens.max_length": 4096}
    return load_config(None, [], **given | {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    data = written(folder / "rows.jsonl", ROWS)
    for name in ("tokens.parquet", "tokens.arrow"):
        export(config_of(base, data), folder / name)
    return folder


def opened(path: Path) -> Dataset:
    if path.suffix == ".arrow":
        return Dataset.from_file(str(path))
    return load_dataset("parquet", data_files=str(path), split="train")


# What stands in the file


def test_the_file_has_the_tokens_of_encode_and_where_they_come_from(made: Path) -> None:
    template = ChatTemplate(small_tokenizer())
    wanted = [e for row in read(made / "rows.jsonl") for e in encode(row, template)]
    for path in (made / "tokens.parquet", made / "tokens.arrow"):
        file = opened(path)
        assert file.column_names == ["input_ids", "labels", "source"]
        assert len(file) == len(wanted) == len(ROWS)
        for row, example in zip(file, wanted, strict=True):
            assert row["input_ids"] == example.input_ids
            trained = [bool(w) and place > 0 for place, w in enumerate(example.weights)]
            assert row["labels"] == [i if t else -100 for i, t in zip(row["input_ids"], trained, strict=True)]
            assert row["source"] == str(example.source)


def test_datasets_reads_both_kinds_by_load_dataset_too(made: Path) -> None:
    one, other = (
        load_dataset(kind, data_files=str(made / f"tokens.{kind}"), split="train")
        for kind in ("parquet", "arrow")
    )
    assert one.to_list() == other.to_list() == opened(made / "tokens.arrow").to_list()


def test_nothing_is_dropped_uncounted(base: Path, tmp_path: Path) -> None:
    mute = {"messages": [ASK]}
    data = written(tmp_path / "rows.jsonl", [GOOD, mute, {}, LONG, GOOD])
    out = tmp_path / "tokens.parquet"
    config = config_of(base, data, tokens__max_length=64, data__bad_rows="skip", data__held_out_share=0.5)
    found = export(config, out)
    *lines, summary = read_lines(tmp_path / "tokens.parquet.ledger.jsonl")
    assert {(line["row"], line["fate"]) for line in lines} == {
        (2, "nothing to learn"),
        (3, "rejected"),
        (4, "too long"),
    }
    assert summary["counts"] == {
        "read": 5, "rejected": 1, "nothing to learn": 1, "too long": 1, "trained": 2, "held out": 0
    }  # fmt: skip
    assert found.examples == 2 == len(opened(out))
    assert opened(out)["source"][:] == [f"{data}:1", f"{data}:5"]
    assert found.trained_tokens == summary["trained_tokens"]
    assert found.trained_tokens == sum(label != -100 for row in opened(out) for label in row["labels"])
    assert summary["lost_trained_tokens"] > 900


def test_weights_have_a_column_only_where_labels_do_not_say_them(base: Path, tmp_path: Path) -> None:
    rows = [ROWS[0], {"messages": [ASK, SAY | {"weight": 0.5}, ASK, SAY | {"weight": 2}]}]
    out = tmp_path / "weighted.parquet"
    assert export(config_of(base, written(tmp_path / "rows.jsonl", rows)), out).weighted
    file = opened(out)
    assert file.column_names == ["input_ids", "labels", "source", "loss_weights"]
    plain, weighted = file
    assert plain["loss_weights"] == [float(label != -100) for label in plain["labels"]]
    assert set(weighted["loss_weights"]) == {0.0, 0.5, 2.0}
    for row in file:
        assert [w > 0 for w in row["loss_weights"]] == [label != -100 for label in row["labels"]]
    off = [ROWS[0], {"messages": [ASK, SAY | {"weight": 0}, ASK, SAY | {"weight": 1}]}]
    out = tmp_path / "plain.parquet"
    assert not export(config_of(base, written(tmp_path / "off.jsonl", off)), out).weighted
    assert opened(out).column_names == ["input_ids", "labels", "source"]


def test_a_file_in_many_groups_is_the_same_file(
    base: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_file, "GROUP_TOKENS", 100)
    for name in ("tokens.parquet", "tokens.arrow"):
        export(config_of(base, str(made / "rows.jsonl")), tmp_path / name)
        assert opened(tmp_path / name).to_list() == opened(made / name).to_list()
    groups = parquet.ParquetFile(tmp_path / "tokens.parquet").metadata.num_row_groups
    assert 4 < groups < len(ROWS)
    assert parquet.ParquetFile(made / "tokens.parquet").metadata.num_row_groups == 1


def test_the_schema_tells_what_the_tokens_were_made_with(base: Path, made: Path) -> None:
    about = json.loads(parquet.read_schema(made / "tokens.parquet").metadata[b"burnish"])
    assert about["model"] == str(base)
    assert about["stop_tokens"] == ["<|end|>", "<|endoftext|>"]
    assert about["tokens"]["max_length"] == 4096


def test_a_template_that_is_not_the_models_own_comes_with_the_file(base: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "rows.jsonl", ROWS[:3])
    own = export(config_of(base, data), tmp_path / "own.parquet")
    assert own.tokenizer is None and own.new_tokens == ()
    found = export(config_of(base, data, template__kind="chatml"), tmp_path / "chatml.parquet")
    assert found.new_tokens == ("<|im_start|>", "<|im_end|>")
    assert found.tokenizer is not None
    tokenizer = AutoTokenizer.from_pretrained(found.tokenizer)
    ids = opened(found.path)[0]["input_ids"]
    messages = read(data)[0].as_dicts()
    assert tokenizer.apply_chat_template(messages)["input_ids"][: len(ids)] == ids


# What is refused


def refused(base: Path, data: str, out: Path, **changes: Any) -> str:
    with pytest.raises(BurnishError) as caught:
        export(config_of(base, data, **changes), out)
    return str(caught.value)


def test_what_train_refuses_is_refused_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "tokens.parquet"
    bad = written(tmp_path / "bad.jsonl", [ROWS[0], {}])
    mute = written(tmp_path / "mute.jsonl", [{"messages": [ASK]}])
    good = written(tmp_path / "good.jsonl", [ROWS[0], LONG])
    assert "bad.jsonl:2: the row has no messages" in refused(base, bad, out)
    assert "no token would be trained" in refused(base, mute, out)
    assert "no such file" in refused(base, str(tmp_path / "absent.jsonl"), out)
    assert "at most 64 fit" in refused(base, good, out, tokens__max_length=64, tokens__too_long="error")
    assert "is an adapter" in refused(adapter(base, tmp_path / "adapter"), good, out)
    assert not out.parent.exists()


def adapter(base: Path, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj"])
    ).save_pretrained(folder)
    return folder


def test_a_template_that_breaks_a_law_is_refused(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "broken")
    tiny_model("llama", len(tokenizer)).save_pretrained(tmp_path / "broken")
    data = written(tmp_path / "rows.jsonl", ROWS[:3])
    said = refused(tmp_path / "broken", data, tmp_path / "tokens.parquet")
    assert "3 of 3 rows break a mask law" in said
    assert list(tmp_path.glob("tokens*")) == []


def test_a_file_is_never_overwritten(base: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens.parquet"
    out.write_text("mine", "utf-8")
    assert "is there already" in refused(base, str(made / "rows.jsonl"), out)
    assert out.read_text("utf-8") == "mine"


def test_a_file_that_cannot_be_finished_is_not_there(
    base: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails in the second group."""
    monkeypatch.setattr(export_file, "GROUP_TOKENS", 100)
    calls = []

    class Failing(export_file.SilentScreen):
        def progress(self, task: str, done: int, total: int, detail: str = "") -> None:
            calls.append(done)
            if len(calls) == 2:
                raise OSError("No space left on device")

    for name in ("tokens.parquet", "tokens.arrow"):
        calls.clear()
        with pytest.raises(BurnishError, match=f"{name} cannot be written: No space left on device"):
            export(config_of(base, str(made / "rows.jsonl")), tmp_path / name, Failing())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tokens", "tokens.json", "tokens.jsonl"])
def test_another_kind_of_file_is_refused(base: Path, made: Path, tmp_path: Path, name: str) -> None:
    assert "not a .parquet or .arrow file" in refused(base, str(made / "rows.jsonl"), tmp_path / name)


def test_without_pyarrow_the_extra_is_named(
    base: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'burnish[data]'" in refused(
        base, str(made / "rows.jsonl"), tmp_path / "tokens.parquet"
    )


def test_the_command_writes_the_file_and_says_what_to_mind(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "rows.jsonl", [ROWS[0], {"messages": [ASK, SAY | {"weight": 0.5}]}])
    out = tmp_path / "tokens.parquet"
    line = ["burnish", "prepare", "--data", data, "--model", str(base), "--out", str(out)]
    monkeypatch.setattr("sys.argv", [*line, "--set", "template.kind=chatml"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    said = capsys.readouterr().out
    assert f"{out}: 2 examples" in said
    assert "a trainer that does not read the column loss_weights" in said
    assert f"Train and serve with the tokenizer in {out}.tokenizer" in said
    assert "no embedding for <|im_start|> <|im_end|>" in said
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 1
    assert "is there already" in capsys.readouterr().err


# The same tokens in other trainers. All take the rows in the order of the file, four at a time.


@pytest.fixture(scope="module")
def ours(base: Path, made: Path) -> list[float]:
    """The losses of burnish's own loop, which draws its order: the table is laid out against it."""
    file = opened(made / "tokens.parquet")
    order = Order(len(file), BATCH, seed=0)
    drawn = [row for step in range(STEPS) for row in order.step(step)]
    documents = [
        (row["input_ids"], [float(label != -100) for label in row["labels"]])
        for _, row in sorted(zip(drawn, file, strict=True), key=lambda pair: pair[0])
    ]
    settings = TrainConfig(
        learning_rate=RATE,
        batch_size=BATCH,
        epochs=1,
        decay="constant",
        warmup=0.0,
        max_grad_norm=1e9,
        micro_batch_tokens=1 << 16,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    optimizer = MasterAdamW(model, weight_decay=0.0, betas=settings.betas)
    steps = fit(model, TokenTable.from_documents(documents), settings, optimizer=optimizer, forward=flat)
    losses = [step.loss for step in steps]
    assert len(losses) == STEPS and losses[-1] < losses[0] - 0.1
    return losses


def arguments(kind: type[TrainingArguments], folder: Path, **changes: Any) -> Any:
    given = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "dataloader_pin_memory": False,
    }
    return kind(**given | changes)


def losses_of(trainer: Trainer) -> list[float]:
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def require_same_tokens(trainer: Trainer, made: Path) -> None:
    """What the trainer's own loader hands to the model is the file, row for row."""
    file = opened(made / "tokens.parquet")
    seen = 0
    for batch in trainer.get_train_dataloader():
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
        for ids, mask, labels in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
        ):
            length = int(mask.sum())
            assert ids[:length].tolist() == file[seen]["input_ids"]
            assert labels[:length].tolist() == file[seen]["labels"]
            assert (labels[length:] == -100).all() and (mask[:length] == 1).all()
            seen += 1
    assert seen == len(ROWS)


@pytest.mark.parametrize("name", ["tokens.parquet", "tokens.arrow"])
def test_trl_trains_the_same_tokens_with_the_same_losses(
    name: str, base: Path, made: Path, ours: list[float], tmp_path: Path
) -> None:
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(SFTConfig, tmp_path, max_length=None, gradient_checkpointing=False),
        train_dataset=opened(made / name),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    assert trainer.train_dataset["labels"][:] == opened(made / name)["labels"][:]
    require_same_tokens(trainer, made)
    assert losses_of(trainer) == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize("collator", ["seq2seq", "burnish"])
def test_transformers_trainer_trains_the_same_tokens_with_the_same_losses(
    collator: str, base: Path, made: Path, ours: list[float], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(TrainingArguments, tmp_path),
        train_dataset=opened(made / "tokens.parquet"),
        data_collator=DataCollatorForSeq2Seq(tokenizer)
        if collator == "seq2seq"
        else partial(collate, pad_id=tokenizer.pad_token_id),
    )
    require_same_tokens(trainer, made)
    assert losses_of(trainer) == pytest.approx(ours, abs=1e-5)


def test_a_plain_loop_trains_the_same_tokens_with_the_same_losses(
    base: Path, made: Path, ours: list[float]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    losses = []
    for batch in DataLoader(opened(made / "tokens.parquet"), BATCH, collate_fn=partial(collate, pad_id=0)):
        labels = batch.pop("labels")[:, 1:]
        loss = masked_cross_entropy(model(**batch).logits[:, :-1], labels, labels != -100)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == pytest.approx(ours, abs=1e-5)


# What does not survive there, as docs/pieces.md warns


def trained(labels: Any) -> int:
    return sum(label != -100 for row in labels for label in row)


def test_trl_cuts_at_a_length_of_its_own(base: Path, made: Path, tmp_path: Path) -> None:
    file = opened(made / "tokens.parquet")
    assert max(map(len, file["input_ids"])) > 1024
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(SFTConfig, tmp_path),
        train_dataset=file,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    cut = trainer.train_dataset["labels"][:]
    assert max(map(len, cut)) == 1024
    assert trained(cut) < trained(file["labels"])


def test_trl_packs_whole_examples_with_their_labels(base: Path, made: Path, tmp_path: Path) -> None:
    file = opened(made / "tokens.parquet")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(SFTConfig, tmp_path, max_length=4096, packing=True),
        train_dataset=file,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    packed = trainer.train_dataset
    assert len(packed) < len(file)
    assert trained(packed["labels"]) == trained(file["labels"])


def test_transformers_collator_for_language_modeling_writes_labels_of_its_own(base: Path, made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [{"input_ids": row["input_ids"]} for row in opened(made / "tokens.parquet").select(range(4))]
    labels = DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows)["labels"]
    assert int((labels != -100).sum()) > trained(opened(made / "tokens.parquet").select(range(4))["labels"])


def test_transformers_collator_with_padding_cannot_pad_labels(base: Path, made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [
        {key: row[key] for key in ("input_ids", "labels")}
        for row in opened(made / "tokens.parquet").select(range(4))
    ]
    with pytest.raises(ValueError, match="labels"):
        DataCollatorWithPadding(tokenizer)(rows)


def test_neither_trainer_reads_loss_weights(base: Path, tmp_path: Path) -> None:
    rows = [{"messages": [ASK, SAY | {"weight": 0.5}]}] * BATCH
    export(config_of(base, written(tmp_path / "rows.jsonl", rows)), tmp_path / "tokens.parquet")
    file = opened(tmp_path / "tokens.parquet")
    assert set(np.unique(file["loss_weights"][:])) == {0.0, 0.5}
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    by_trl = SFTTrainer(
        model=model,
        args=arguments(SFTConfig, tmp_path, max_length=None),
        train_dataset=file,
        processing_class=tokenizer,
    )
    by_transformers = Trainer(
        model=model,
        args=arguments(TrainingArguments, tmp_path),
        train_dataset=file,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    for trainer in (by_trl, by_transformers):
        (batch,) = trainer.get_train_dataloader()
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
