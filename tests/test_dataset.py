"""The data set for torch's loader: the examples of ``encode``, and bad rows named before the first step."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from burnish import ChatTemplate, SFTDataset, collate, encode, read
from burnish.errors import ConfigError, DataError, TemplateError
from burnish.pebble import CONVERSATIONS
from burnish.pebble import rows as rows_of
from conftest import small_tokenizer

ROWS = rows_of(CONVERSATIONS)[:9]
PLAIN = {"text": "Water is made of hydrogen."}
MUTE = {"messages": [{"role": "user", "content": "Is anyone there?"}]}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_rows_in_memory_and_in_a_file_are_the_examples_of_encode(tmp_path: Path) -> None:
    template = ChatTemplate(small_tokenizer())
    rows = [*ROWS, PLAIN]
    path = written(tmp_path / "rows.jsonl", rows)
    wanted = [example for conversation in read(path) for example in encode(conversation, template)]
    dataset = SFTDataset(path, template)
    assert len(dataset) == len(wanted) == 10
    assert [dataset[number] for number in range(len(dataset))] == wanted
    assert str(dataset[9].source) == f"{path}:10"
    for given in (rows, tuple(rows)):
        in_memory = SFTDataset(given, small_tokenizer())
        assert [e.input_ids for e in in_memory] == [e.input_ids for e in wanted]
        assert [e.weights for e in in_memory] == [e.weights for e in wanted]
    assert str(in_memory[9].source) == "<memory>:10"
    both = SFTDataset([path, path], template)
    assert len(both) == 20


def test_the_loader_gives_each_example_once() -> None:
    dataset = SFTDataset(ROWS, small_tokenizer())
    loader = DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=partial(collate, pad_id=0))
    batches = list(loader)
    assert [len(batch["labels"]) for batch in batches] == [4, 4, 1]
    found = [
        ids[mask == 1].tolist()
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert sorted(found) == sorted(example.input_ids for example in dataset)


def test_rows_without_anything_to_learn_stand_in_the_ledger() -> None:
    dataset = SFTDataset([ROWS[0], MUTE, ROWS[1]], small_tokenizer())
    assert len(dataset) == 2
    assert dataset.ledger.counts == {"read": 3, "trained": 2, "nothing to learn": 1}
    (line,) = dataset.ledger.lines
    assert (line["path"], line["row"]) == ("<memory>", 2)
    with pytest.raises(DataError, match="no token of 1 rows would be trained"):
        SFTDataset([MUTE], small_tokenizer())
    with pytest.raises(DataError, match="no token of 0 rows"):
        SFTDataset([], small_tokenizer())


def test_nothing_is_cut_without_a_limit_and_whole_exchanges_with_one() -> None:
    text = " ".join(["the cat"] * 30)
    long = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "the dog"}] * 40}
    (whole,) = SFTDataset([long], small_tokenizer())
    assert len(whole.input_ids) > 2048
    dataset = SFTDataset([long], small_tokenizer(), max_length=128)
    (cut,) = dataset
    assert len(cut.input_ids) <= 128
    assert cut.input_ids == whole.input_ids[-len(cut.input_ids) :]
    assert dataset.ledger.counts["shortened"] == 1
    assert dataset.ledger.lost_trained == whole.trained_tokens - cut.trained_tokens
    with pytest.raises(DataError, match=r"<memory>:1: \d+ tokens, at most 128 fit"):
        SFTDataset([long], small_tokenizer(), max_length=128, too_long="error")


def test_train_on_says_which_turns_are_learnt() -> None:
    exchange = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "the dog"}]
    every, last = (
        SFTDataset([{"messages": exchange * 2}], small_tokenizer(), train_on=turns)[0]
        for turns in ("all", "last")  # type: ignore[arg-type]
    )
    assert every.input_ids == last.input_ids
    assert every.trained_tokens == 2 * last.trained_tokens


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a"}, r"<memory>:2: the row has no messages \(its keys: 'prompt'\)"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "<memory>:2: message 1 has the unknown role"),
        ({"messages": {1, 2}}, r"<memory>:2: not JSON \(Object of type set"),
        ("a", "<memory>:2: a str, not an object"),
        (None, "<memory>:2: a NoneType, not an object"),
    ],
)
def test_a_bad_row_is_named(row: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        SFTDataset([ROWS[0], row, ROWS[1]], small_tokenizer())


def test_all_bad_rows_are_named_at_once() -> None:
    with pytest.raises(DataError, match="2 rows cannot be read") as refused:
        SFTDataset([{}, ROWS[0], {}], small_tokenizer())
    assert "<memory>:1" in str(refused.value) and "<memory>:3" in str(refused.value)


def test_rows_for_which_the_template_breaks_a_law_are_named_with_what_would_help() -> None:
    template = ChatTemplate(
        small_tokenizer(), source_text="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    with pytest.raises(TemplateError, match="9 of 9 rows break a mask law") as refused:
        SFTDataset(ROWS, template)
    assert "<memory>:1" in refused.value.what
    assert "template.kind: chatml" in refused.value.fix


@pytest.mark.parametrize(
    ("rows", "kind"),
    [(ROWS[0], "dict"), (iter(ROWS), "list_iterator"), (7, "int")],
    ids=["row", "iterator", "int"],
)
def test_what_is_no_list_of_rows_is_refused(rows: Any, kind: str) -> None:
    with pytest.raises(DataError, match=f"rows are a {kind}"):
        SFTDataset(rows, small_tokenizer())


@pytest.mark.parametrize("setting", [{"max_length": 0}, {"too_long": "cut"}, {"train_on": "first"}])
def test_a_setting_that_is_none_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"SFTDataset: {next(iter(setting))}"):
        SFTDataset(ROWS, small_tokenizer(), **setting)
