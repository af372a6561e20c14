"""Prepared data is kept on disk and taken from there: the same, whole, checked, or made anew."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.adapters.load import load_tokenizer
from burnish.cli.main import main
from burnish.config import RunConfig, load_config
from burnish.data import Conversation
from burnish.errors import DataError, TemplateError
from burnish.prepare import rows as rows_module
from burnish.prepare.cache_key import cache_key
from burnish.prepare.prepare import prepare
from burnish.prepare.prepared import (
    TABLES,
    Prepared,
    conversation_as_json,
    conversation_of,
    example_as_json,
    example_of,
)
from burnish.prepare.rows import RowEncoder
from burnish.prepare.source import DataSource
from burnish.template import ChatTemplate
from burnish.template.chatml import TEMPLATE
from burnish.tokens import TokenTable, cache, encode
from templates import assistant, call, system, user

WORDS = "the a cat dog house tree runs sees under behind red small 17 été naïve 😀 <b> \n  and".split(" ")


class Listening:
    """A screen that remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, task: str, done: int, total: int, detail: str = "") -> None: ...


def words(random_: random.Random, most: int = 12) -> str:
    return " ".join(random_.choices(WORDS, k=random_.randint(1, most))).strip() or "x"


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of every kind that leaves a trace: turns, weights, spans, tools, plain text, one too long, bad."""
    random_ = random.Random(seed)
    made: list[dict[str, Any]] = []
    for number in range(count):
        question, answer = user(f"{words(random_)} {number}?"), assistant(words(random_))
        made.append({"messages": [question, answer]})
        if number % 5 == 1:
            made[-1]["messages"] += [user(words(random_)), assistant(words(random_)) | {"weight": 0.5}]
        if number % 7 == 2:
            made[-1]["messages"].insert(0, system("Be brief, é."))
        if number % 11 == 3:
            answer |= {"content": "yes no maybe", "spans": [{"start": 4, "end": 6, "weight": 0}]}
        if number % 17 == 5:
            made[-1]["messages"][-1] = assistant(words(random_, 400))
        if number % 13 == 4:
            made[-1] = {"text": f"{words(random_, 30)} {number}"}
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cache of its own, in which commands are typed."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def template() -> ChatTemplate:
    return ChatTemplate(load_tokenizer("pebble").tokenizer)


def prepared(screen: Listening | None = None, positions: int = 200, **settings: Any) -> Prepared:
    config = load_config(None, [], **{"data.train": ["rows.jsonl"], **settings})
    return prepare(config, template(), positions, screen)


def folders(here: Path) -> list[str]:
    return sorted(path.name for path in (here / "cache").glob("*"))


def as_plain(table: TokenTable) -> list[list[Any]]:
    return [table.ids.tolist(), table.weights.tolist(), table.offsets.tolist()]


def require_same(one: Prepared, other: Prepared) -> None:
    for name in TABLES:
        assert as_plain(getattr(one, name)) == as_plain(getattr(other, name))
    assert one.prompts == other.prompts
    assert one.examples == other.examples
    assert [e.conversation for e in one.examples] == [e.conversation for e in other.examples]
    assert [e.places for e in one.examples] == [e.places for e in other.examples]
    assert one.ledger == other.ledger
    assert one.notes.rows_by_file == other.notes.rows_by_file


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rows are encoded again")

    monkeypatch.setattr(rows_module, "encode_all", refuse)


# The same


@pytest.mark.parametrize("too_long", ["truncate_left", "split", "truncate_right", "drop"])
def test_what_comes_from_the_cache_is_what_was_made(
    here: Path, monkeypatch: pytest.MonkeyPatch, too_long: str
) -> None:
    path = written(here / "rows.jsonl", rows(120))
    with Path(path).open("a", encoding="utf-8") as file:
        file.write('{"messages": []}\n{"text": "a whole text"}\n')
    settings = {"data.bad_rows": "skip", "data.held_out_share": 0.2, "tokens.too_long": too_long}
    plain = prepared(**settings, **{"data.cache": False})
    assert folders(here) == []
    made = prepared(**settings)
    monkeypatch.setattr(rows_module, "encode_all", None)
    kept = prepared(**settings)
    require_same(plain, made)
    require_same(made, kept)
    assert kept.ledger.counts["rejected"] == 1
    assert len(kept.ledger.lines) > 3
    assert len(kept.held_out) > 5
    assert len(kept.prompts) == 4
    assert len(kept.examples) == 3
    assert {0.0, 0.5, 1.0} <= set(kept.train.weights.tolist())
    assert isinstance(kept.train.ids.base, np.memmap)
    assert not kept.train.ids.flags.writeable


def test_tools_and_calls_come_back() -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    chatml = ChatTemplate(load_tokenizer("pebble").tokenizer, source_text=TEMPLATE, remedies=["append_stop"])
    row = {"messages": [user("Weather?"), assistant("", "Look.", [call("Paris")])], "tools": [tool]}
    conversation = Conversation.from_messages(row["messages"], row["tools"])
    again = conversation_of(json.loads(json.dumps(conversation_as_json(conversation))))
    assert again == conversation
    (example, *_) = encode(replace(conversation, tools=()), chatml)
    back = example_of(json.loads(json.dumps(example_as_json(example))))
    assert back == example
    assert back.conversation == example.conversation


def test_a_table_of_nothing_comes_back(here: Path) -> None:
    written(here / "rows.jsonl", rows(3))
    settings = {"data.held_out_share": 0}
    require_same(prepared(**settings), prepared(**settings))
    assert len(prepared(**settings).held_out) == 0


# What decides


CHANGES: dict[str, dict[str, Any]] = {
    "train_on": {"tokens.train_on": "last"},
    "too_long": {"tokens.too_long": "drop"},
    "max_length": {"tokens.max_length": 50},
    "bad_rows": {"data.bad_rows": "skip"},
    "held_out_share": {"data.held_out_share": 0.5},
    "seed": {"train.seed": 7},
    "samples": {"evaluate.samples": 1},
    "typed_tokens": {"template.typed_tokens": "special"},
    "options": {"template.options": {"x": 1}},
    "remedies": {"template.remedies": ["merge_consecutive"]},
    "held_out": {"data.held_out": ["other.jsonl"]},
}
NO_CHANGES: dict[str, dict[str, Any]] = {
    "learning rate": {"train.learning_rate": 1e-3},
    "epochs": {"train.epochs": 1},
    "out": {"out": "elsewhere"},
    "a limit beyond the positions": {"tokens.max_length": 4096},
}


def key(**settings: Any) -> str:
    config = load_config(None, [], **{"data.train": ["rows.jsonl"], **settings})
    steps = {"typed_tokens": config.template.typed_tokens, "remedies": config.template.remedies}
    asked = ChatTemplate(load_tokenizer("pebble").tokenizer, **steps, **config.template.options)
    return key_of(config, asked)


def key_of(config: RunConfig, asked: ChatTemplate) -> str:
    encoder = RowEncoder.of(asked, config.tokens, 200)
    found = cache_key(DataSource.of(config.data, config.train.seed), encoder, config.evaluate.samples)
    assert found
    return found


def test_all_that_decides_has_a_part_in_the_name(here: Path) -> None:
    written(here / "rows.jsonl", rows(5))
    written(here / "other.jsonl", rows(5, 1))
    found = {name: key(**change) for name, change in CHANGES.items()}
    assert len({key(), *found.values()}) == 1 + len(CHANGES)
    assert {key(**change) for change in NO_CHANGES.values()} == {key()}


def test_the_seed_decides_nothing_where_no_rows_are_set_aside(here: Path) -> None:
    written(here / "rows.jsonl", rows(5))
    for settings in ({"data.held_out_share": 0}, {"data.held_out": ["rows.jsonl"]}):
        assert key(**settings) == key(**settings, **{"train.seed": 5})


def test_the_bytes_of_the_data_have_a_part_in_the_name(here: Path) -> None:
    path = here / "rows.jsonl"
    written(path, rows(5))
    before, text, stat = key(), path.read_text("utf-8"), path.stat()
    path.write_text(text.replace("0?", "1?", 1), "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert key() != before
    path.write_text(text, "utf-8")
    assert key() == before


def test_the_tokenizer_has_a_part_in_the_name(here: Path) -> None:
    written(here / "rows.jsonl", rows(5))
    config = load_config(None, [], **{"data.train": ["rows.jsonl"]})
    tokenizer = load_tokenizer("pebble").tokenizer
    before = key_of(config, ChatTemplate(tokenizer))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    after = key_of(config, ChatTemplate(tokenizer))
    assert before != after


# Whole, checked, or made anew


def test_every_damage_is_noticed_and_mended(here: Path) -> None:
    written(here / "rows.jsonl", rows(40))
    made = prepared(**{"data.cache": False})  # what is mapped must not be cut off
    prepared()
    (name,) = folders(here)
    folder = here / "cache" / name
    files = sorted(folder.iterdir())
    assert len(files) == 7
    random_ = random.Random(0)
    for path in files:
        whole = path.read_bytes()
        place = random_.randrange(len(whole))
        flipped = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        for damaged in (None, b"", whole[:-4], whole + b"\0\0\0\0", flipped):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            screen = Listening()
            require_same(prepared(screen), made)
            assert [name in text and "damaged" in text for text in screen.warnings] == [True]
            assert path.read_bytes() == whole
            assert folders(here) == [name]
    screen = Listening()
    require_same(prepared(screen), made)
    assert not screen.warnings


def test_nothing_is_kept_of_rows_that_fail(here: Path) -> None:
    good = rows(5)
    written(here / "rows.jsonl", [*good, {"messages": []}])
    with pytest.raises(DataError, match="has no messages"):
        prepared()
    written(here / "rows.jsonl", [*good, {"messages": [assistant("Nobody asked.")]}])
    with pytest.raises(TemplateError, match="served"):
        prepared()
    written(here / "rows.jsonl", [*good, {"messages": [user("a"), assistant("b " * 300)]}])
    with pytest.raises(DataError, match="at most 200 fit"):
        prepared(**{"tokens.too_long": "error"})
    assert folders(here) == []


def test_a_bad_row_at_the_end_is_told_before_any_is_encoded(here: Path, no_encoding: None) -> None:
    written(here / "rows.jsonl", [*rows(5), {"messages": []}])
    with pytest.raises(DataError, match="has no messages"):
        prepared()


def test_a_place_that_cannot_be_written_is_a_warning(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here / "rows.jsonl", rows(20))
    plain = prepared(**{"data.cache": False})
    (here / "file").write_text("", "utf-8")
    monkeypatch.setenv("BURNISH_CACHE", str(here / "file" / "cache"))
    screen = Listening()
    require_same(prepared(screen), plain)
    assert len(screen.warnings) == 1 and "not kept" in screen.warnings[0]


@pytest.mark.parametrize("step", ["complete", "publish"])
def test_a_full_disk_is_a_warning(here: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    written(here / "rows.jsonl", rows(20))
    plain = prepared(**{"data.cache": False})
    monkeypatch.setattr(cache, step, full)
    screen = Listening()
    require_same(prepared(screen), plain)
    assert len(screen.warnings) == 1 and "No space" in screen.warnings[0]
    assert folders(here) == []


def test_rows_that_change_while_they_are_read_are_not_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "rows.jsonl"
    written(path, rows(20))
    whole = cache.complete

    def touched(*arguments: Any) -> Any:
        os.utime(path, (1, 1))
        return whole(*arguments)

    monkeypatch.setattr(cache, "complete", touched)
    assert len(prepared().train)
    assert folders(here) == []


def test_what_a_killed_process_left_is_removed_in_time(here: Path) -> None:
    written(here / "rows.jsonl", rows(5))
    old, new = here / "cache" / "staged-old", here / "cache" / "staged-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "train.ids").write_bytes(b"1234")
    day_ago = time.time() - cache.LEFT_OVER - 60
    os.utime(old, (day_ago, day_ago))
    prepared()
    assert not old.exists()
    assert new.exists()


PROGRAM = """
import sys
from pathlib import Path
from burnish.config import RunConfig, load_config
from burnish.adapters.load import load_tokenizer
from burnish.prepare.prepare import prepare
from burnish.template import ChatTemplate
config = load_config(None, [], **{"data.train": ["rows.jsonl"]})
template = ChatTemplate(load_tokenizer("pebble").tokenizer)
print("ready", flush=True)
sys.stdin.readline()
data = prepare(config, template, 200)
print(int(data.train.ids.astype("int64").sum()), len(data.train), len(data.held_out))
"""


def test_processes_that_make_the_same_at_once_all_get_it(here: Path) -> None:
    written(here / "rows.jsonl", rows(1500))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([sys.executable, "-c", PROGRAM], **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    made = prepared()
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said == [f"{made.train.ids.sum(dtype=np.int64)} {len(made.train)} {len(made.held_out)}\n"] * 2
    assert len(folders(here)) == 1


def test_a_quicker_process_is_left_its_folder_and_a_damaged_one_is_replaced(here: Path) -> None:
    written(here / "rows.jsonl", rows(20))
    made = prepared(**{"data.cache": False})
    prepared()
    folder = here / "cache" / folders(here)[0]
    for damage in (False, True):
        with cache.staged(folder) as stage:
            for path in folder.iterdir():
                shutil.copy(path, stage)
            (stage / "mark").touch()
            if damage:
                (folder / "train.ids").write_bytes(b"")
            cache.publish(stage, folder)
        assert (folder / "mark").exists() == damage
    assert folders(here) == [folder.name]
    require_same(prepared(), made)


# The page


def test_the_commands_about_data_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here / "rows.jsonl", rows(6))
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text("utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        monkeypatch.setattr("sys.argv", [*shlex.split(line), "--set", "evaluate.max_new_tokens=2"])
        with pytest.raises(SystemExit) as leaving:
            main()
            raise SystemExit(0)
        assert not leaving.value.code
    assert len(folders(here)) == 2  # of the runs, and of the file, for which none is held out
    assert (here / "tokens.parquet").is_file()
    ledgers = {
        (here / "runs" / name / "ledger.jsonl").read_text("utf-8") for name in ("first", "second", "third")
    }
    assert len(ledgers) == 1
