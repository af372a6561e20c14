"""Held-out rows that are trained too: found, left out of every figure, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.adapters.load import load_tokenizer
from burnish.config import load_config
from burnish.curate.overlap import overlap
from burnish.data import Conversation, Source
from burnish.data.read import read_rows
from burnish.errors import DataError
from burnish.prepare.prepare import prepare
from burnish.prepare.prepared import Prepared
from burnish.template.build import build_template


def row(asks: str, says: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asks}, {"role": "assistant", "content": says}], **more}


TRAIN = [row("Where is Rome?", "In Italy."), row("Where is Lima?", "In Peru."), {"text": "The sea is wide."}]
CALL = {"function": {"name": "find", "arguments": {"city": "Rome"}}}
CALLS = {"messages": [TRAIN[0]["messages"][0], {"role": "assistant", "content": "", "tool_calls": [CALL]}]}


def conversations(rows: list[dict[str, Any]], name: str) -> list[Conversation]:
    found, bad = read_rows(rows)
    assert not bad
    return [Conversation(c.messages, c.tools, Source(name, n), c.text) for n, c in enumerate(found, 1)]


def twins(held_out: list[dict[str, Any]], train: list[dict[str, Any]] = TRAIN) -> dict[int, bool]:
    """For each held-out row that is trained too, whether it is so in the same characters."""
    found = overlap(conversations(train, "train"), conversations(held_out, "held"))
    assert (found.train, found.held_out) == (len(train), len(held_out))
    return {number: twin.exact for number, twin in found.twins.items()}


def test_a_row_is_found_however_it_is_written() -> None:
    assert twins([TRAIN[1], row("Where is Oslo?", "In Norway."), TRAIN[0], TRAIN[2]]) == {
        0: True,
        2: True,
        3: True,
    }
    assert twins([row("  where is\nROME? ", "in  Italy.")]) == {0: False}
    assert twins([row("Where is Rome？", "In Italy．")]) == {0: False}  # noqa: RUF001 - in full width
    assert twins([{"text": " the sea IS wide. "}]) == {0: False}
    assert twins([row("Where is Rome?", "In Italy.", id=7)]) == {0: True}


def test_what_says_something_else_is_no_twin() -> None:
    others = [
        row("Where is Rome?", "In Peru."),
        row("Where is Rome", "In Italy."),
        {"text": "Where is Rome? In Italy."},
        {"messages": [{"role": "system", "content": "Be brief."}, *TRAIN[0]["messages"]]},
        CALLS,
    ]
    assert twins(others) == {}
    assert twins([CALLS], [CALLS]) == {0: True}
    thinks = row("Where is Rome?", "In Italy.")
    thinks["messages"][1]["reasoning_content"] = "South of the Alps."
    assert twins([thinks]) == {}


def test_the_first_row_in_the_same_characters_is_named() -> None:
    train = conversations([row("where is rome?", "in italy."), TRAIN[0], TRAIN[0]], "train")
    (twin,) = overlap(train, conversations([TRAIN[0]], "held")).twins.values()
    assert (str(twin.held_out), str(twin.trained), twin.exact) == ("held:1", "train:2", True)


def test_rows_that_ask_what_is_trained_are_counted() -> None:
    held = [TRAIN[0], row("where is rome?", "Far away."), row("Where is Oslo?", "In Norway."), TRAIN[2]]
    held.append({"messages": [{"role": "assistant", "content": "Hello!"}]})
    greeting = {"messages": [{"role": "assistant", "content": "Welcome."}]}
    found = overlap(conversations([*TRAIN, greeting], "train"), conversations(held, "held"))
    assert found.same_prompt == 1


# In a run


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), "utf-8")
    return str(path)


def prepared(folder: Path, train: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> Prepared:
    given = {
        "data.train": [written(folder / "train.jsonl", train)],
        "data.held_out": [written(folder / "held.jsonl", held_out)],
    }
    config = load_config(None, [], **given)
    loaded = load_tokenizer("pebble")
    template, _ = build_template(loaded.tokenizer, config.template)
    return prepare(config, template, loaded.positions)


def test_twins_are_not_measured_and_stand_in_the_ledger(tmp_path: Path) -> None:
    new = row("Where is Oslo?", "In Norway.")
    held = [TRAIN[0], new, row("where is lima?", "in peru."), row("Where is Lima?", "Far away.")]
    data = prepared(tmp_path, TRAIN, held)
    assert (len(data.train), len(data.held_out)) == (3, 2)
    assert [prompt.source.row for prompt in data.prompts] == [2, 4]
    *lines, summary = data.ledger.as_rows(data.train)
    paths = tmp_path / "held.jsonl", tmp_path / "train.jsonl"
    assert [(line["fate"], line["path"], line["row"], line["reason"]) for line in lines] == [
        ("also trained", str(paths[0]), 1, f"the same as {paths[1]}:1"),
        ("also trained", str(paths[0]), 3, f"but for case and white space the same as {paths[1]}:2"),
    ]
    assert summary["counts"] == {"read": 7, "also trained": 2, "trained": 3, "held out": 2}
    assert summary["held_out_with_a_trained_prompt"] == 1
    said = data.ledger.in_words(data.train)
    assert "2 rows of data.held_out are trained too, and are not measured." in said
    assert "1 row of data.held_out begins with a prompt that is trained." in said


def test_the_training_file_cannot_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"held\.jsonl: no row is left to measure \(6 read, 3 also trained\)"):
        prepared(tmp_path, TRAIN, TRAIN)


def test_rows_set_aside_by_burnish_have_no_twin(tmp_path: Path) -> None:
    """However their prompts are spaced and written."""
    rows = [row(f"Where  is\ttown {n}?", "Here.") for n in range(20)]
    rows += [row(f"where is town {n}?", "here.") for n in range(20)]
    from burnish.curate import split

    train, held_out = split(conversations(rows, "rows"), 0.3, 0)
    assert held_out
    found = overlap(train, held_out)
    assert (found.twins, found.same_prompt) == ({}, 0)


def test_nothing_is_said_of_held_out_rows_where_there_are_none(tmp_path: Path) -> None:
    config = load_config(
        None, [], **{"data.train": [written(tmp_path / "rows.jsonl", TRAIN)], "data.held_out_share": 0.0}
    )
    loaded = load_tokenizer("pebble")
    template, _ = build_template(loaded.tokenizer, config.template)
    data = prepare(config, template, loaded.positions)
    assert "held" not in data.ledger.in_words(data.train)
