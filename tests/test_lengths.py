"""Rows longer than the limit: what becomes of each, by hand and by law, and that all of it is counted.

Texts are written short here: ``S:`` for ``<|system|>``, ``U:`` and ``A:`` for the others, ``|`` for
``<|end|>``; each of them and each letter is one token of pebble's byte tokenizer.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.config import load_config
from burnish.data import Conversation
from burnish.errors import DataError
from burnish.prepare.prepare import prepare
from burnish.prepare.prepared import Prepared
from burnish.template import ChatTemplate
from burnish.template.chatml import give_chatml
from burnish.tokens import Encoded, Example, Fitted, encode, encode_all, fit
from burnish.tokens.length import TooLong
from conftest import byte_tokenizer

Messages = list[dict[str, Any]]

MARKS_NOW = (
    "{%- for m in messages -%}<|{{ m.role }}|>"
    "{{ '<|spare_1|>' if loop.last and m.role == 'assistant' and not add_generation_prompt }}"
    "{{ m.content }}<|end|>{%- endfor -%}"
    "{{ '<|assistant|><|spare_1|>' if add_generation_prompt }}"
)
"""Rewrites history: it marks the turn that is answered now, and takes the mark back afterwards."""


@lru_cache
def template_named(name: str) -> ChatTemplate:
    tokenizer = byte_tokenizer()
    if name == "chatml":
        give_chatml(tokenizer)
    return ChatTemplate(tokenizer, source_text=MARKS_NOW if name == "rewrites" else None)


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def exchange(question: str, answer: str, **marks: Any) -> Messages:
    return [said("user", question), said("assistant", answer, **marks)]


def encoded(messages: Messages, name: str = "pebble", text: str | None = None) -> Encoded:
    conversation = Conversation((), text=text) if text else Conversation.from_messages(messages)
    (found,) = encode_all([conversation], template_named(name))
    assert found.error is None
    return found


def fitted(
    messages: Messages, limit: int, too_long: TooLong, name: str = "pebble", text: str | None = None
) -> Fitted:
    return fit(encoded(messages, name, text), template_named(name), limit, too_long)


def short(example: Example) -> str:
    text = str(template_named("pebble").tokenizer.decode(example.input_ids))
    for token, sign in (
        ("system", "S:"),
        ("user", "U:"),
        ("assistant", "A:"),
        ("end", "|"),
        ("spare_1", "*"),
    ):
        text = text.replace(f"<|{token}|>", sign)
    return text


def learnt(examples: tuple[Example, ...]) -> list[tuple[int, ...]]:
    """The ids of each run of trained tokens."""
    runs = []
    for example in examples:
        pairs = zip(example.input_ids, example.loss_mask, strict=True)
        runs += [tuple(i for i, _ in run) for mark, run in groupby(pairs, key=lambda pair: pair[1]) if mark]
    return runs


# By hand: a system turn of 4 tokens and three exchanges of 6

TOY = [said("system", "Be"), *exchange("a", "b"), *exchange("c", "d"), *exchange("e", "f")]


@pytest.mark.parametrize(
    ("too_long", "limit", "fate", "texts", "lost"),
    [
        ("truncate_left", 22, "", ["S:Be|U:a|A:b|U:c|A:d|U:e|A:f|"], (0, 0)),
        ("truncate_left", 21, "shortened", ["S:Be|U:c|A:d|U:e|A:f|"], (6, 2)),
        ("truncate_left", 16, "shortened", ["S:Be|U:c|A:d|U:e|A:f|"], (6, 2)),
        ("truncate_left", 15, "shortened", ["S:Be|U:e|A:f|"], (12, 4)),
        ("truncate_left", 10, "shortened", ["S:Be|U:e|A:f|"], (12, 4)),
        ("truncate_left", 9, "too long", [], (22, 6)),
        ("split", 21, "split", ["S:Be|U:a|A:b|U:c|A:d|", "S:Be|U:e|A:f|"], (0, 0)),
        ("split", 15, "split", ["S:Be|U:a|A:b|", "S:Be|U:c|A:d|", "S:Be|U:e|A:f|"], (0, 0)),
        ("split", 9, "too long", [], (22, 6)),
        ("truncate_right", 21, "cut", ["S:Be|U:a|A:b|U:c|A:d|U:e|A:f"], (1, 1)),
        ("truncate_right", 9, "cut", ["S:Be|U:a|A:b"], (13, 5)),
        ("truncate_right", 8, "too long", [], (22, 6)),  # nothing of an answer is left
        ("drop", 21, "too long", [], (22, 6)),
        ("error", 21, "too long", [], (22, 6)),
    ],
)
def test_each_way_with_a_row_that_is_too_long_by_hand(
    too_long: TooLong, limit: int, fate: str, texts: list[str], lost: tuple[int, int]
) -> None:
    found = fitted(TOY, limit, too_long)
    assert [short(example) for example in found.examples] == texts
    assert (found.fate, (found.lost_tokens, found.lost_trained)) == (fate, lost)
    assert found.reason == (f"22 tokens, at most {limit} fit" if fate else "")


def test_what_is_left_is_what_the_shortened_conversation_gives() -> None:
    (example,) = fitted(TOY, 16, "truncate_left").examples
    (expected,) = encode(Conversation.from_messages([TOY[0], *TOY[3:]]), template_named("pebble"))
    assert (example.input_ids, example.weights) == (expected.input_ids, expected.weights)


def test_weights_and_masks_go_along_with_the_turns() -> None:
    messages = [*exchange("a", "b"), *exchange("c", "d", train=False), *exchange("e", "f", weight=0.5)]
    (example,) = fitted(messages, 12, "truncate_left").examples
    assert short(example) == "U:c|A:d|U:e|A:f|"
    assert example.weights == [0] * 10 + [0.5, 0.5]


def test_a_question_behind_the_last_answer_takes_no_room() -> None:
    (example,) = fitted([*TOY, said("user", "and now?")], 16, "truncate_left").examples
    assert short(example) == "S:Be|U:c|A:d|U:e|A:f|"


def test_where_history_is_rewritten_only_the_long_examples_are_shortened() -> None:
    """An example a turn: 11, 17 and 23 tokens, for ``*`` is one more before the answer."""
    whole = fitted(TOY, 23, "truncate_left", "rewrites")
    assert [len(example.input_ids) for example in whole.examples] == [11, 17, 23]
    found = fitted(TOY, 17, "truncate_left", "rewrites")
    assert [short(example) for example in found.examples] == [
        "S:Be|U:a|A:*b|",
        "S:Be|U:a|A:b|U:c|A:*d|",
        "S:Be|U:c|A:d|U:e|A:*f|",
    ]
    assert (found.fate, found.lost_tokens, found.lost_trained) == ("shortened", 6, 0)
    assert found.examples[:2] == whole.examples[:2]


def test_where_history_is_rewritten_a_split_trains_each_turn_once() -> None:
    found = fitted(TOY, 12, "split", "rewrites")
    assert [short(example) for example in found.examples] == [
        "S:Be|U:a|A:*b|",
        "S:Be|U:c|A:*d|",
        "S:Be|U:e|A:*f|",
    ]
    assert (found.fate, found.lost_trained) == ("split", 0)


CALL = {"type": "function", "function": {"name": "go", "arguments": {}}}
CHAIN = [
    said("user", "go"),
    said("assistant", "", tool_calls=[CALL]),
    said("tool", "gone"),
    said("assistant", "", tool_calls=[CALL]),
    said("tool", "gone"),
    said("assistant", "done"),
]


@pytest.mark.parametrize("too_long", ["truncate_left", "split"])
def test_a_call_and_its_result_are_never_parted(too_long: TooLong) -> None:
    """Whatever the limit: the chain is in an example whole, or not at all."""
    chain = len(encoded(CHAIN, "chatml").examples[0].input_ids)
    messages = [*exchange("a", "b"), *CHAIN, *exchange("c", "d")]
    whole = len(encoded(messages, "chatml").examples[0].input_ids)
    decode = template_named("chatml").tokenizer.decode
    seen = set()
    for limit in range(20, whole + 1, 3):
        texts = [str(decode(e.input_ids)) for e in fitted(messages, limit, too_long, "chatml").examples]
        counts = [(text.count("<tool_call>"), text.count("<tool_response>")) for text in texts]
        assert set(counts) <= {(0, 0), (2, 2)}
        if too_long == "split":
            assert ((2, 2) in counts) == (limit >= chain)
        seen.update(counts)
    assert seen == {(0, 0), (2, 2)}


@pytest.mark.parametrize("too_long", ["truncate_left", "split"])
def test_a_system_turn_between_exchanges_holds_for_those_behind_it(too_long: TooLong) -> None:
    """With all system turns the last exchange has 14 tokens, so they fit."""
    messages = [said("system", "Be"), *exchange("a", "b"), said("system", "No"), *exchange("c", "d")]
    last = fitted(messages, 16, too_long).examples[-1]
    assert short(last) == "S:Be|S:No|U:c|A:d|"


# By law

LETTERS = st.text("abcdefgh", min_size=1, max_size=9)
MARKS = st.sampled_from([{}, {}, {}, {"train": False}, {"weight": 0.5}])


@st.composite
def exchanges(draw: st.DrawFn, marked: bool = False, tools: bool = False) -> Messages:
    def answer() -> dict[str, Any]:
        return said("assistant", draw(LETTERS), **(draw(MARKS) if marked else {}))

    kinds = ["plain", "asked twice", "answered twice", *(["chain"] if tools else [])]
    kind = draw(st.sampled_from(kinds))
    found = [said("user", draw(LETTERS))]
    if kind == "asked twice":
        found.append(said("user", draw(LETTERS)))
    if kind == "answered twice":
        found.append(answer())
    if kind == "chain":
        found += [said("assistant", "", tool_calls=[CALL]), said("tool", draw(LETTERS))]
    return [*found, answer()]


SYSTEM = LETTERS.map(lambda text: [said("system", text)]) | st.just([])
FEW = st.integers(1, 4)


def flat(parts: list[Messages]) -> Messages:
    return [message for part in parts for message in part]


@pytest.mark.parametrize("name", ["pebble", "chatml"])
@given(system=SYSTEM, data=st.data(), count=FEW, limit=st.integers(1, 120))
def test_truncate_left_keeps_the_system_turn_and_as_many_of_the_last_exchanges_as_fit(
    name: str, system: Messages, data: st.DataObject, count: int, limit: int
) -> None:
    parts = [data.draw(exchanges(tools=name == "chatml")) for _ in range(count)]
    found = fitted(system + flat(parts), limit, "truncate_left", name)
    suffixes = (encoded(system + flat(parts[place:]), name).examples for place in range(count))
    expected = next((e for e in suffixes if len(e[0].input_ids) <= limit), ())
    assert [(e.input_ids, e.weights) for e in found.examples] == [(e.input_ids, e.weights) for e in expected]


@pytest.mark.parametrize("name", ["pebble", "chatml"])
@given(system=SYSTEM, data=st.data(), count=FEW, limit=st.integers(1, 120))
def test_a_split_trains_each_exchange_that_fits_once_behind_the_system_turn(
    name: str, system: Messages, data: st.DataObject, count: int, limit: int
) -> None:
    parts = [data.draw(exchanges(tools=name == "chatml")) for _ in range(count)]
    found = fitted(system + flat(parts), limit, "split", name)
    alone = [encoded(system + part, name).examples for part in parts]
    fits = [e for e in alone if len(e[0].input_ids) <= limit]
    assert learnt(found.examples) == [run for e in fits for run in learnt(e)]
    head = template_named(name).render(system, add_generation_prompt=False) if system else ""
    for example in found.examples:
        text = str(template_named(name).tokenizer.decode(example.input_ids))
        assert len(example.input_ids) <= limit
        assert not head or (text.startswith(head) and text.count(head) == 1)


@pytest.mark.parametrize("too_long", get_args(TooLong))
@pytest.mark.parametrize("name", ["pebble", "chatml", "rewrites"])
@given(system=SYSTEM, data=st.data(), count=FEW, limit=st.integers(1, 90))
def test_what_gets_through_is_short_enough_whole_and_counted(
    name: str, too_long: TooLong, system: Messages, data: st.DataObject, count: int, limit: int
) -> None:
    parts = [data.draw(exchanges(marked=True, tools=name == "chatml")) for _ in range(count)]
    before = encoded(system + flat(parts), name).examples
    found = fitted(system + flat(parts), limit, too_long, name)
    after = found.examples
    assert all(len(e.input_ids) <= limit and e.trained_tokens for e in after)
    stops = template_named(name).stop_ids
    if too_long == "truncate_right":
        assert all(any(run[: len(cut)] == cut for run in learnt(before)) for cut in learnt(after))
    else:
        assert all(run[-1] in stops for run in learnt(after))
        assert not Counter(learnt(after)) - Counter(learnt(before))
    if too_long != "split":  # whose examples repeat the system turn
        lengths = [sum(len(e.input_ids) for e in examples) for examples in (before, after)]
        assert found.lost_tokens == lengths[0] - lengths[1]
    assert found.lost_trained == sum(map(len, learnt(before))) - sum(map(len, learnt(after)))
    assert (found.fate == "") == (bool(after) and after == before)
    assert bool(found.reason) == bool(found.fate)


# Plain text


@pytest.mark.parametrize("too_long", ["truncate_left", "split"])
def test_plain_text_is_cut_into_pieces_that_share_a_token(too_long: TooLong) -> None:
    """Seven letters and the end of text. What a piece begins with was learnt in the one before it."""
    found = fitted([], 4, too_long, text="abcdefg")
    assert [short(example) for example in found.examples] == ["abcd", "defg", "g<|endoftext|>"]
    assert [example.weights for example in found.examples] == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 1]]
    assert (found.lost_tokens, found.lost_trained) == (0, 0)
    assert found.fate
    assert found.reason == "8 tokens, at most 4 fit"


@pytest.mark.parametrize("too_long", ["truncate_left", "split"])
@given(text=st.text("abc \n", min_size=1, max_size=40).filter(str.strip), limit=st.integers(2, 12))
def test_every_token_of_a_text_but_the_first_is_learnt_once(too_long: TooLong, text: str, limit: int) -> None:
    (whole,) = encoded([], text=text).examples
    found = fitted([], limit, too_long, text=text)
    targets = [pair for e in found.examples for pair in zip(e.input_ids[1:], e.weights[1:], strict=True)]
    assert targets == [(token, 1) for token in whole.input_ids[1:]]
    assert all(len(piece.input_ids) <= limit and piece.trained_tokens for piece in found.examples)
    assert (found.lost_tokens, found.lost_trained) == (0, 0)


def test_a_text_that_cannot_be_cut_is_lost() -> None:
    """Nothing stands before the only token of an example."""
    found = fitted([], 1, "split", text="abcdefg")
    assert (found.examples, found.fate, found.lost_trained) == ((), "too long", 7)
    assert found.lost_tokens == 8


@pytest.mark.parametrize(("too_long", "texts"), [("truncate_right", ["abc"]), ("drop", []), ("error", [])])
def test_plain_text_may_be_cut_off_or_left_out(too_long: TooLong, texts: list[str]) -> None:
    assert [short(e) for e in fitted([], 3, too_long, text="abcdefg").examples] == texts


# Through a file: the table and the ledger

ROWS: list[dict[str, Any]] = [
    {"messages": exchange("a", "b")},  # 6 tokens
    {"messages": TOY},  # 22
    {"messages": exchange("x" * 30, "y")},  # 35
    {"messages": exchange("a", "b", train=False)},
    {"text": "abcdefghijklm"},  # 14 with its end
    {"messages": [*exchange("a", "z" * 30), *exchange("c", "d")]},  # 41
]


def settings(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {"data.train": [str(path)], "data.held_out_share": 0.0, **changes}


def prepared(
    folder: Path,
    rows: list[dict[str, Any]],
    name: str = "pebble",
    positions: int | None = None,
    **changes: Any,
) -> Prepared:
    config = load_config(None, [], **settings(folder, rows, **changes))
    return prepare(config, template_named(name), positions)


def test_the_ledger_has_a_line_for_each_row_that_is_not_trained_as_it_stands(tmp_path: Path) -> None:
    data = prepared(tmp_path, ROWS, **{"tokens.max_length": 16})
    *lines, summary = data.ledger.as_rows(data.train)
    path = str(tmp_path / "rows.jsonl")
    assert all(set(line) == {"fate", "path", "row", "reason"} and line["path"] == path for line in lines)
    assert [(line["row"], line["fate"], line["reason"]) for line in lines] == [
        (2, "shortened", "22 tokens, at most 16 fit"),
        (3, "too long", "35 tokens, at most 16 fit"),
        (4, "nothing to learn", "no turn of it is to be learnt"),
        (6, "shortened", "41 tokens, at most 16 fit"),
    ]
    assert summary == {
        "fate": "summary",
        "counts": {
            "read": 6,
            "shortened": 2,
            "too long": 1,
            "nothing to learn": 1,
            "trained": 4,
            "held out": 0,
        },
        "tokens": 6 + 16 + 14 + 6,
        "trained_tokens": 2 + 4 + 13 + 2,
        "lost_tokens": 6 + 35 + 35,
        "lost_trained_tokens": 2 + 2 + 31,
        "held_out_with_a_trained_prompt": 0,
        "not_read": {},
    }
    assert "Their length cost 76 tokens, 35 of them to be learnt." in data.ledger.in_words(data.train)


@pytest.mark.parametrize("limit", [3, 7, 12, 16, 25])
@pytest.mark.parametrize("too_long", ["truncate_left", "split", "truncate_right", "drop"])
@pytest.mark.parametrize("name", ["pebble", "rewrites"])
def test_no_row_of_the_table_has_nothing_to_learn(
    name: str, too_long: TooLong, limit: int, tmp_path: Path
) -> None:
    """Rows whose turns are masked, whose answers are cut off, and one short enough for every limit."""
    masked = exchange("a", "bcd", spans=[{"start": 0, "end": 3, "weight": 0}])
    rows = [*ROWS, {"messages": masked}, {"text": "."}]
    changes = {"tokens.max_length": limit, "tokens.too_long": too_long}
    data = prepared(tmp_path, rows, name, **changes)
    table = data.train
    documents = [table.document(place) for place in range(len(table))]
    assert documents
    assert all(len(ids) <= limit and weights[1:].any() for ids, weights in documents)
    *lines, summary = data.ledger.as_rows(data.train)
    fates = Counter(line["fate"] for line in lines)
    assert fates == Counter({fate: summary["counts"][fate] for fate in fates})
    gone = fates["too long"] + fates["nothing to learn"]
    assert summary["counts"]["trained"] == len(rows) - gone
    if too_long in ("truncate_left", "drop"):
        texts = [encoded(r.get("messages", []), name, r.get("text")) for r in rows]
        whole = [
            e for found in texts for e in found.examples if e.trained_tokens
        ]  # what is masked is not lost
        shared = sum(int(weights[0] == 0 and ids[0] > 15) for ids, weights in documents)  # by pieces of text
        assert summary["lost_tokens"] + table.tokens == sum(len(e.input_ids) for e in whole) + shared
        assert summary["lost_trained_tokens"] + table.trained_tokens == sum(e.trained_tokens for e in whole)


def test_an_error_stops_at_the_first_row_that_is_too_long_and_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, ROWS, **{"tokens.max_length": 16, "tokens.too_long": "error"})
    assert caught.value.what == f"{tmp_path / 'rows.jsonl'}:2: 22 tokens, at most 16 fit"
    assert "tokens.max_length" in caught.value.fix


def test_an_error_stops_at_a_row_of_which_only_some_examples_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: 23 tokens, at most 17 fit"):
        prepared(
            tmp_path,
            [{"messages": TOY}],
            "rewrites",
            **{"tokens.max_length": 17, "tokens.too_long": "error"},
        )


def test_an_exchange_that_a_split_leaves_out_is_counted_whole(tmp_path: Path) -> None:
    """14 tokens do not fit behind the system turn; the 4 of the system turn stand twice."""
    messages = [TOY[0], *exchange("a", "b"), *exchange("c" * 9, "d"), *exchange("e", "f")]
    data = prepared(
        tmp_path, [{"messages": messages}], **{"tokens.max_length": 10, "tokens.too_long": "split"}
    )
    assert data.train.tokens == 20
    assert data.ledger.as_rows(data.train)[-1]["lost_trained_tokens"] == 2
    assert data.ledger.as_rows(data.train)[-1]["lost_tokens"] == 14


@pytest.mark.parametrize(("positions", "longest"), [(None, 22), (16, 16), (100, 22)])
def test_no_example_is_longer_than_the_model_reads(
    positions: int | None, longest: int, tmp_path: Path
) -> None:
    table = prepared(tmp_path, [{"messages": TOY}], positions=positions).train
    assert table.length(0) == longest


def test_where_no_row_fits_nothing_is_trained_and_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no token would be trained") as caught:
        prepared(tmp_path, [{"messages": TOY}] * 3, **{"tokens.max_length": 4})
    assert "3 too long" in caught.value.what
    assert "tokens.max_length" in caught.value.fix
