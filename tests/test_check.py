"""``burnish check``: what is said of a data set before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from burnish.adapters.load import load_tokenizer
from burnish.config import load_config
from burnish.errors import BurnishError, ConfigError
from burnish.pebble import CONVERSATIONS
from burnish.prepare.check import CheckResult, check
from burnish.prepare.prepare import prepare
from burnish.recipes.sft import sft
from burnish.template.build import build_template
from conftest import SHARED, needs_shared, small_tokenizer, tiny_model
from test_readme import run


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


GOOD = {"messages": [user("Where is the cat?"), assistant("On the mat.")]}
THINKS = {"messages": [user("2+2?"), assistant("4.", reasoning_content="Two and two.")]}
THERE = {"messages": [user("Where is the dog?"), assistant("In the red house.")]}
GREETS = {"messages": [assistant("Hello!"), user("Hi"), assistant("Yes?")]}


def written(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def checked(folder: Path, rows: list[Any], **changes: Any) -> CheckResult:
    given = {"data.train": [str(written(folder, rows))]}
    found, _ = check(load_config(None, [], **given, **changes))
    return found


def test_all_bad_rows_are_named_at_once_with_what_would_help(tmp_path: Path) -> None:
    found = checked(tmp_path, [GOOD, THINKS, GREETS, "{not json", THINKS, GOOD])
    assert (found.rows, found.violating_rows, len(found.unreadable)) == (6, 3, 1)
    thinking, greeting = found.violations
    assert [source.row for source in thinking[0].rows] == [2, 5]
    assert (thinking[0].law, thinking[1].remedies) == ("faithful", (("keep_reasoning",), ("drop_reasoning",)))
    assert [source.row for source in greeting[0].rows] == [3]
    assert '"train": false' in greeting[1].fix
    assert (found.rows_breaking("faithful"), found.rows_breaking("served"), found.rows_breaking("stops")) == (
        2,
        1,
        0,
    )
    assert found.unreadable[0].source.row == 4


def test_what_helps_is_seen_to_help(tmp_path: Path) -> None:
    greets = {"messages": [assistant("Hello!", train=False), *GREETS["messages"][1:]]}
    found = checked(tmp_path, [GOOD, THINKS, greets], **{"template.remedies": ["keep_reasoning"]})
    assert not found.violations
    assert found.turns == found.stops == 3


def test_counts_are_those_of_the_tokens_that_training_reads(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(CONVERSATIONS).read_text("utf-8").splitlines()[:60]]
    rows += [{"text": "The sea is wide."}, {"messages": [user("Hm"), assistant("a"), user("b")]}]
    found = checked(tmp_path, rows, **{"data.held_out_share": 0.0})
    config = load_config(
        None, [], **{"data.train": [str(tmp_path / "rows.jsonl")], "data.held_out_share": 0.0}
    )
    loaded = load_tokenizer("pebble")
    template, _ = build_template(loaded.tokenizer, config.template)
    data = prepare(config, template, loaded.positions)
    assert (found.examples, found.tokens) == (len(data.train), data.train.tokens)
    assert found.trained_tokens == data.train.trained_tokens
    assert found.roles["assistant"].learnt == found.turns == found.stops
    by_role = {role: count.trained_tokens for role, count in found.roles.items()}
    assert by_role["user"] == 0
    assert by_role["assistant"] + by_role["text"] == found.trained_tokens
    assert found.roles["user"].messages == sum(
        m["role"] == "user" for r in rows for m in r.get("messages", [])
    )


def test_lengths_are_those_before_anything_is_cut(tmp_path: Path) -> None:
    long = {"messages": [user("a " * 300), assistant("b"), user("c"), assistant("d")]}
    found = checked(tmp_path, [GOOD, long], **{"tokens.max_length": 64})
    assert found.lengths.max() > found.limit == 64
    assert found.percentile(100) == found.lengths.max()
    assert found.ledger.counts["shortened"] == 1
    assert found.ledger.lost_tokens == int(found.lengths.sum()) - found.tokens
    assert found.ledger.lost_trained == 2  # b and its stop token


def test_a_row_too_long_is_counted_even_where_training_would_stop_at_it(tmp_path: Path) -> None:
    settings = {"tokens.max_length": 4, "tokens.too_long": "error"}
    assert checked(tmp_path, [GOOD], **settings).ledger.counts["too long"] == 1


ASKED = {"messages": [user("Is anyone there?")]}
GIVEN = {"messages": [user("Where is the cat?"), assistant("On the mat.", train=False)]}
LONG = {"messages": [user("a " * 300), assistant("b")]}
SKIPPED = {"data.bad_rows": "skip"}
REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "an empty file": ([], {}, "no token would be trained (no row)"),
    "empty lines": (["", "  "], {}, "no token would be trained (no row)"),
    "no answers": ([ASKED] * 3, {}, "no token would be trained (3 read, 3 nothing to learn)"),
    "answers that are given": ([GIVEN, GIVEN], {}, "2 nothing to learn"),
    "rows that are no JSON": (["{"] * 50, {}, "50 rows cannot be read"),
    "the same left out": (["{"] * 50, SKIPPED, "no token would be trained (50 read, 50 rejected)"),
    "a row that is no JSON": ([GOOD, "{", GOOD], {}, "rows.jsonl:2: not JSON"),
    "a row with a foreign mark": (
        [GOOD, {"messages": [user("a"), assistant("b", masked=True)]}],
        {},
        "rows.jsonl:2: message 2 has the key 'masked'",
    ),
    "a law that is broken": ([GOOD, THINKS], {}, "rows.jsonl:2: message 2: law 'faithful' fails"),
    "laws that are broken": ([THINKS, GREETS, GOOD], {}, "2 of 3 rows break a mask law"),
    "a row too long": (
        [GOOD, LONG, LONG],
        {"tokens.max_length": 64, "tokens.too_long": "error"},
        "rows.jsonl:2: ",
    ),
    "rows that are all too long": (
        [LONG, LONG],
        {"tokens.max_length": 64, "tokens.too_long": "drop"},
        "no token would be trained (2 read, 2 too long)",
    ),
}


def held_out(folder: Path, rows: list[Any]) -> dict[str, Any]:
    (folder / "held").mkdir()
    return {"data.held_out": [str(written(folder / "held", rows))]}


HELD_OUT: dict[str, tuple[list[Any], str]] = {
    "an empty file": ([], "no row is left to measure (2 read)"),
    "no answers": ([ASKED], "no row is left to measure (3 read, 1 nothing to learn, 2 trained)"),
    "the rows that are trained": ([GOOD, THERE], "no row is left to measure (4 read, 2 also trained)"),
    "rows that cannot be read": (["{"], "rows.jsonl:1: not JSON"),
}


def refusals(folder: Path, rows: list[Any], **changes: Any) -> tuple[str, str]:
    """Of check and of what train does with the rows; empty for none."""
    found = checked(folder, rows, **changes)
    assert found.refusal is None or found.refusal.fix
    config = load_config(None, [], **{"data.train": [str(folder / "rows.jsonl")], **changes})
    loaded = load_tokenizer("pebble")
    template, _ = build_template(loaded.tokenizer, config.template)
    try:
        prepare(config, template, loaded.positions)
    except BurnishError as error:
        return str(found.refusal), str(error)
    return str(found.refusal or ""), ""


@pytest.mark.parametrize(("rows", "changes", "says"), REFUSED.values(), ids=REFUSED)
def test_what_training_refuses_is_refused_in_the_same_words(
    rows: list[Any], changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    checks, trains = refusals(tmp_path, rows, **changes)
    assert checks == trains
    assert says in checks


@pytest.mark.parametrize(("rows", "says"), HELD_OUT.values(), ids=HELD_OUT)
def test_held_out_rows_that_training_refuses_are_refused_in_the_same_words(
    rows: list[Any], says: str, tmp_path: Path
) -> None:
    checks, trains = refusals(tmp_path, [GOOD, THERE], **held_out(tmp_path, rows))
    assert checks == trains
    assert says in checks


def test_the_best_is_refused_where_nothing_is_held_out(tmp_path: Path) -> None:
    settings = {"data.held_out_share": 0.0, "train.early_stopping": 2}
    found = checked(tmp_path, [GOOD, THERE], **settings)
    with pytest.raises(ConfigError) as trains:
        sft(
            load_config(None, [], **settings, **{"data.train": [str(tmp_path / "rows.jsonl")]}),
            out=tmp_path / "run",
        )
    assert str(found.refusal) == str(trains.value)


def test_what_training_takes_is_not_refused(tmp_path: Path) -> None:
    assert refusals(tmp_path, [GOOD, "{", ASKED, THERE], **SKIPPED) == ("", "")


@pytest.mark.parametrize("name", REFUSED)
def test_the_command_leaves_with_1_where_training_would_refuse(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, changes, says = REFUSED[name]
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    with pytest.raises(AssertionError):
        run(["check", "--data", str(written(tmp_path, rows)), "--model", "pebble", *settings])
    shown = capsys.readouterr().out
    assert "  fix  " in shown
    if "law" not in says:
        assert "burnish train would refuse this: " in shown
        assert says in shown
    if not any(row in (GOOD, GREETS, LONG) for row in rows):
        assert "✓" not in shown


def test_prompts_are_compared_with_plain_transformers(tmp_path: Path) -> None:
    typed = {"messages": [user("What is <|end|>?"), assistant("An end.")]}
    found = checked(tmp_path, [GOOD, typed])
    assert found.compared == 2
    (typed_line,) = [line for line in found.differences if "typed" in line]
    assert typed_line.startswith("1 of 2 prompts")
    assert "sanitize_control_tokens=True" in typed_line
    assert not any("other token ids" in line for line in found.differences)


def test_the_date_and_a_missing_bos_are_told(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(saved(small_tokenizer(), tmp_path / "base"))
    tokenizer.chat_template = "{{ strftime_now('%Y') }}" + str(small_tokenizer().chat_template)
    tokenizer.save_pretrained(tmp_path / "base")
    tiny_model(vocabulary=512).save_pretrained(tmp_path / "base")
    found = checked(tmp_path, [GOOD], **{"model.name": str(tmp_path / "base")})
    assert any("writes the date" in line for line in found.differences)


def saved(tokenizer: Any, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    return folder


@needs_shared
@pytest.mark.parametrize("name", ["mistral_v1", "mistral_v3", "qwen2", "phi-3", "gpt2"])
def test_real_rows_are_proven_with_real_tokenizers(name: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers" / name)
    saved(tokenizer, tmp_path / "base")
    tiny_model(vocabulary=len(tokenizer) + 2, max_position_embeddings=8192).save_pretrained(tmp_path / "base")
    rows = SHARED / "sft" / "oasst_messages.jsonl"
    config = load_config(None, [], **{"data.train": [str(rows)], "model.name": str(tmp_path / "base")})
    found, _ = check(config)
    assert not found.violations
    assert found.rows == 564
    assert found.stops == found.turns
    assert not any("other token ids" in line for line in found.differences)


def test_the_command_says_it_in_words_and_leaves_with_1_where_a_law_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path, [GOOD, THINKS])
    with pytest.raises(AssertionError):
        run(["check", "--data", str(data), "--model", "pebble"])
    shown = capsys.readouterr().out
    assert "1 of 2 rows proven." in shown
    assert "✗ faithful broken by 1 row\n" in shown
    assert "fix  Set template.remedies: [keep_reasoning]" in shown
    assert f"at   {data}:2" in shown
    run(["check", "--data", str(data), "--model", "pebble", "--set", "template.remedies=[drop_reasoning]"])
    assert "2 of 2 rows proven." in capsys.readouterr().out
