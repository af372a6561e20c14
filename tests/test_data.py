"""Files to conversations: good rows come through whole, bad rows are named by file and row."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.config import DataConfig
from burnish.data import Conversation, Message, Source, read
from burnish.data.memory import MemoryRows
from burnish.data.read import SHOWN, read_rows
from burnish.errors import BurnishError, DataError
from burnish.prepare.source import DataSource

ASK = {"role": "user", "content": "What is 1 + 1?"}
SAY = {"role": "assistant", "content": "2."}
GOOD = json.dumps({"messages": [ASK, SAY]})


def written(folder: Path, *lines: str, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def row(*messages: Any) -> str:
    return json.dumps({"messages": list(messages)})


def nested(depth: int) -> dict[str, Any]:
    return {"x": nested(depth - 1)} if depth else {}


def called(function: Any) -> str:
    return row(ASK, {"role": "assistant", "content": "", "tool_calls": [{"function": function}]})


def row_with(**more: Any) -> str:
    return json.dumps({"messages": [ASK, SAY], **more})


THOUGHT = [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "2."}]


def test_good_rows_come_in_their_order_with_their_place(tmp_path: Path) -> None:
    other = row({"role": "system", "content": "Be kind.\nÄ ☃"}, ASK, SAY)
    path = written(tmp_path, GOOD, other)
    first, second = read(path)
    assert first.messages == (Message("user", "What is 1 + 1?"), Message("assistant", "2."))
    assert second.messages[0] == Message("system", "Be kind.\nÄ ☃")
    assert [c.source for c in (first, second)] == [Source(str(path), 1), Source(str(path), 2)]
    assert str(second.source) == f"{path}:2"


def test_empty_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "", GOOD, "   ", GOOD)
    assert [c.source.row for c in read(path)] == [2, 4]


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    one, two = written(tmp_path, GOOD, name="one.jsonl"), written(tmp_path, GOOD, name="two.jsonl")
    assert [c.source.path for c in read([two, str(one)])] == [str(two), str(one)]


def test_rows_in_memory_are_read_as_the_lines_of_a_file_are(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    rows = [
        {"messages": [ASK, SAY], "tools": tools},
        {"text": "Ä ☃"},
        {"messages": (ASK, SAY | {"weight": 0.5})},
    ]
    path = written(tmp_path, *map(json.dumps, rows))
    for given in (rows, tuple(rows)):
        found = read(given)
        assert [replace(c, source=Source()) for c in found] == [
            replace(c, source=Source()) for c in read(path)
        ]
        assert [str(c.source) for c in found] == ["<memory>:1", "<memory>:2", "<memory>:3"]


@pytest.mark.parametrize("text", ["\ud800", "x\ud800y"])
def test_half_a_character_in_memory_is_a_bad_row(text: str) -> None:
    with pytest.raises(DataError, match="<memory>:2: not JSON"):
        read([{"messages": [ASK, SAY]}, {"messages": [ASK, {"role": "assistant", "content": text}]}])


def test_rows_in_memory_are_told_apart_by_their_hash() -> None:
    row = {"messages": [ASK, SAY]}
    assert MemoryRows([row, row]).sha256 == MemoryRows((dict(row), row), "elsewhere").sha256
    others = ([row], [row, row, row], [row, {"messages": [SAY, ASK]}], [row, object()])
    assert len({MemoryRows(rows).sha256 for rows in ([row, row], *others)}) == 5  # type: ignore[arg-type]


def test_an_empty_file_gives_no_conversations(tmp_path: Path) -> None:
    assert read(written(tmp_path)) == []


BAD_ROWS = {
    "not JSON": ("{'messages': []}", "not JSON"),
    "cut off": (GOOD[:-5], "not JSON"),
    "a list": ("[1, 2]", "a list, not an object"),
    "a string": ('"hello"', "a str, not an object"),
    "no messages": ('{"prompt": "a", "answer": "b"}', "its keys: 'prompt', 'answer'"),
    "no keys": ("{}", "its keys: none"),
    "empty messages": ('{"messages": []}', "no messages"),
    "messages are null": ('{"messages": null}', "no messages"),
    "messages are a string": ('{"messages": "hello"}', "no messages"),
    "a message without role": (row(ASK, {"content": "2."}), "message 2 has no role"),
    "a message that is a string": (row("hello"), "message 1 has no role"),
    "unknown role": (row({"role": "human", "content": "hi"}), "unknown role 'human'"),
    "role is null": (row({"role": None, "content": "hi"}), "unknown role None"),
    "role is a list": (row({"role": ["user"], "content": "hi"}), "unknown role ['user']"),
    "content is a number": (row({"role": "user", "content": 4}), "message 1 (user) has no text"),
    "a part of the content is no text": (row(ASK, {"role": "assistant", "content": [SAY]}), "no text: {"),
    "a part is an image": (
        row({"role": "user", "content": [{"type": "image", "url": "cat.png"}]}),
        "holds a part that is no text: 'image'",
    ),
    "a private character": (row({"role": "user", "content": "a\U000f0001"}), "private character"),
    "content is null": (row(ASK, {"role": "assistant", "content": None}), "its content is NoneType"),
    "content is missing": (row({"role": "user"}), "its content is NoneType"),
    "empty assistant turn": (row(ASK, {"role": "assistant", "content": ""}), "empty assistant turn"),
    "blank assistant turn": (row(ASK, {"role": "assistant", "content": " \n"}), "empty assistant turn"),
    "half of a character": (row(ASK, SAY | {"content": "2 \ud83d."}), "not JSON"),
    "reasoning is a list": (row(ASK, SAY | {"reasoning_content": ["a"]}), "its reasoning_content is no text"),
    "reasoning is a number": (row(ASK, SAY | {"thinking": 5}), "its thinking is no text"),
    "two reasonings": (row(ASK, SAY | {"reasoning": "a", "thinking": "b"}), "reasoning and thinking differ"),
    "a call without a name": (called({"arguments": {}}), "a tool call has no name"),
    "arguments that are cut off": (
        called({"name": "add", "arguments": '{"a": 1'}),
        "add: its arguments are no",
    ),
    "an argument that is there twice": (
        called({"name": "add", "arguments": '{"a": 1, "a": 2}'}),
        "a name occurs twice",
    ),
    "arguments that are a list": (called({"name": "add", "arguments": [1, 2]}), "are list, not an object"),
    "arguments that are a number": (called({"name": "add", "arguments": "7"}), "are int, not an object"),
    "an argument that is no number": (called({"name": "add", "arguments": {"a": math.nan}}), "are no JSON"),
    "an argument beyond all numbers": (called({"name": "add", "arguments": '{"a": 1e400}'}), "are no JSON"),
    "arguments nested without end": (called({"name": "add", "arguments": nested(300)}), "100 deep"),
    "tools nested without end": (
        json.dumps({"messages": [ASK, SAY], "tools": [{"function": nested(300)}]}),
        "100 deep",
    ),
    "a misspelt mark": (row(ASK, SAY | {"trian": False}), "unknown key 'trian'; did you mean train?"),
    "a mark in capitals": (row(ASK, SAY | {"Train": False}), "did you mean train?"),
    "a misspelt mark of the other side": (row(ASK | {"wieght": 0}, SAY), "did you mean weight?"),
    "misspelt reasoning": (row(ASK, SAY | {"reasoning_contnet": "1"}), "did you mean reasoning_content?"),
    "calls in camel case": (row(ASK, SAY | {"toolCalls": []}), "did you mean tool_calls?"),
    "a misspelt content": (row({"role": "user", "contents": "a"}, SAY), "did you mean content?"),
    "a misspelt key of the row": (
        row_with(tool=[]),
        "the row has the unknown key 'tool'; did you mean tools?",
    ),
    "misspelt messages": (json.dumps({"mesages": [ASK, SAY]}), "did you mean messages by 'mesages'?"),
    "misspelt messages beside a text": (
        json.dumps({"text": "a", "mesages": [ASK, SAY]}),
        "unknown key 'mesages'; did you mean messages?",
    ),
    "misspelt arguments": (called({"name": "add", "argumets": {"a": 1}}), "did you mean arguments?"),
    "arguments under another name": (
        called({"name": "add", "parameters": {"a": 1}}),
        "add: its parameters are not read",
    ),
    "arguments beside the function": (
        row(ASK, SAY | {"tool_calls": [{"function": {"name": "add"}, "arguments": {"a": 1}}]}),
        "arguments stand beside its function",
    ),
    "calls of both kinds": (
        row(ASK, SAY | {"tool_calls": [{"name": "a"}], "function_call": {"name": "b"}}),
        "has tool_calls and a function_call",
    ),
    "a misspelt schema": (
        row_with(tools=[{"type": "function", "function": {"name": "add", "paramters": {}}}]),
        "tool 1 has the unknown key 'paramters'; did you mean parameters?",
    ),
    "a misspelt mark of a part": (
        row(ASK, {"role": "assistant", "content": [{"type": "text", "text": "2.", "masked": True}]}),
        "a part of its content has the key 'masked'",
    ),
    "reasoning in parts and beside them": (
        row(ASK, {"role": "assistant", "content": THOUGHT, "reasoning_content": "b"}),
        "its reasoning_content and the reasoning in its parts differ",
    ),
    "a system prompt of the row": (row_with(system="Be brief."), "'system' stands beside what is trained"),
    "the same by another name": (
        row_with(system_prompt="Be brief."),
        "'system_prompt' stands beside what is trained",
    ),
    "functions of the row": (
        row_with(functions=[{"name": "add"}]),
        "'functions' stands beside what is trained",
    ),
    "documents of the row": (
        row_with(documents=[{"text": "a"}]),
        "'documents' stands beside what is trained",
    ),
    "options of the row": (
        row_with(chat_template_kwargs={"enable_thinking": True}),
        "'chat_template_kwargs' stands beside what is trained",
    ),
    "pictures of the row": (row_with(images=["cat.png"]), "'images' stands beside what is trained"),
    "a weight of the row": (row_with(weight=0.5), "'weight' stands beside what is trained"),
    "a weight of a text": (
        json.dumps({"text": "a", "weight": 0.5}),
        "'weight' stands beside what is trained",
    ),
    "a key that is there twice": (
        '{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
        "'content' is there twice",
    ),
    **{
        f"the foreign mark {key}": (row(ASK, SAY | {key: value}), f"message 2 has the key {key!r}")
        for key, value in {
            "loss": False,
            "loss_scale": 0.0,
            "masked": True,
            "trainable": False,
            "training": False,
            "loss_mask": [0, 1],
        }.items()
    },
    "a foreign mark of the other side": (row(ASK | {"masked": True}, SAY), "message 1 has the key 'masked'"),
    "a foreign mark of the row": (row_with(loss_scale=0.5), "the row has the key 'loss_scale'"),
    "a row nested without end": ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "not JSON"),
    "tools that are text": (json.dumps({"messages": [ASK, SAY], "tools": "add"}), "no list of objects"),
    "a tool that is text": (json.dumps({"messages": [ASK, SAY], "tools": ["add"]}), "no list of objects"),
    "a tool whose function is text": (
        json.dumps({"messages": [ASK, SAY], "tools": [{"type": "function", "function": "add"}]}),
        "tool 1 is no object, or its function is none",
    ),
}


@pytest.mark.parametrize(("bad", "says"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_named_by_file_and_row(tmp_path: Path, bad: str, says: str) -> None:
    path = written(tmp_path, GOOD, bad, GOOD)
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.what.startswith(f"{path}:2: ")
    assert says in caught.value.what
    assert isinstance(caught.value, BurnishError)


def test_bad_rows_do_not_take_good_ones_with_them(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, "nonsense", GOOD, "[]")
    good, bad = read_rows(path)
    assert [c.source.row for c in good] == [1, 3]
    assert [b.source for b in bad] == [Source(str(path), 2), Source(str(path), 4)]


def test_several_bad_rows_stand_in_one_error(tmp_path: Path) -> None:
    path = written(tmp_path, "nonsense", GOOD, "[]", "{}")
    with pytest.raises(DataError, match="3 rows cannot be read") as caught:
        read(path)
    assert [f"{path}:{number}: " in str(caught.value) for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert "data.bad_rows: skip" in caught.value.fix


def test_many_bad_rows_are_counted_beyond_the_first(tmp_path: Path) -> None:
    path = written(tmp_path, *["nonsense"] * (SHOWN + 7))
    with pytest.raises(DataError, match=f"{SHOWN + 7} rows cannot be read") as caught:
        read(path)
    assert caught.value.what.count(str(path)) == SHOWN
    assert "and 7 more" in caught.value.what


def test_gzip_is_read_as_the_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(GOOD + "\n" + GOOD + "\n")
    assert [c.source.row for c in read(path)] == [1, 2]
    assert read(path)[0].messages == read(written(tmp_path, GOOD))[0].messages


def test_the_rows_of_a_compressed_file_are_counted_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((GOOD + "\n\n" + GOOD + "\n").encode() * 200))
    (told,) = DataSource.of(DataConfig(train=(str(path),)), 0).described()
    assert told["rows"] == len(read(path)) == 400


def test_what_is_no_gzip_or_is_cut_off_is_a_data_error(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, name="rows.jsonl.gz")
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz"):
        read(path)
    path.write_bytes(gzip.compress(GOOD.encode())[:-12])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz"):
        read(path)


def test_a_missing_file_a_folder_and_a_wrong_suffix_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"not a \.jsonl"):
        read(written(tmp_path, GOOD, name="rows.txt"))


def test_bytes_that_are_not_utf8_are_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read(path)


def test_messages_go_in_and_out_unchanged() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "system", "content": ""},
        {"role": "user", "content": " two \n lines ", "name": "Ann"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "7"},
        {"role": "assistant", "content": "It is 2.", "reasoning_content": "1 and 1"},
    ]
    tools = [{"type": "function", "function": {"name": "add"}}]
    conversation = Conversation.from_messages(messages, tools)
    assert conversation.as_dicts() == messages
    assert conversation.tools == tuple(tools)
    assert conversation.messages[1].extra == {"name": "Ann"}


def test_a_tool_call_needs_no_text_and_null_extras_say_nothing() -> None:
    call = {"type": "function", "id": "1", "function": {"name": "add", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": None}
    only = Conversation.from_messages([message]).messages[0]
    assert (only.content, only.extra) == ("", {"tool_calls": [call]})


def test_parts_of_a_content_are_joined_and_sorted_out() -> None:
    call = {"name": "add", "arguments": {"a": 1}}
    parts = [
        {"type": "reasoning", "value": "Hm."},
        {"type": "text", "text": "Let me see."},
        {"type": "text", "value": "Now."},
        {"type": "tool_call", "value": json.dumps(call)},
    ]
    (message,) = Conversation.from_messages([{"role": "assistant", "content": parts}]).messages
    assert message.content == "Let me see.Now."  # as templates write parts: end to end
    assert message.extra == {
        "reasoning_content": "Hm.",
        "tool_calls": [{"type": "function", "function": call}],
    }


def test_arguments_may_be_json_text_and_the_old_function_call_is_known() -> None:
    function = {"name": "add", "arguments": '{"a": [1, "x"]}'}
    old = {"role": "assistant", "content": None, "function_call": function}
    flat = {"role": "assistant", "content": "", "tool_calls": [{"id": "7", **function}]}
    first, second = Conversation.from_messages([old, flat]).messages
    parsed = {"name": "add", "arguments": {"a": [1, "x"]}}
    assert first.extra == {"tool_calls": [{"type": "function", "function": parsed}]}
    assert second.extra == {"tool_calls": [{"type": "function", "id": "7", "function": parsed}]}


@pytest.mark.parametrize("nothing", [{}, {"arguments": None}, {"arguments": ""}, {"arguments": "  "}])
def test_arguments_that_are_nothing_are_an_empty_object(nothing: dict[str, Any]) -> None:
    call = {"type": "function", "function": {"name": "now", **nothing}}
    (message,) = Conversation.from_messages(
        [{"role": "assistant", "content": "", "tool_calls": [call]}]
    ).messages
    assert message.extra["tool_calls"][0]["function"] == {"name": "now", "arguments": {}}


def test_reasoning_that_is_given_twice_alike_is_no_fault() -> None:
    both = SAY | {"reasoning": "Hm.", "reasoning_content": "Hm."}
    assert Conversation.from_messages([ASK, both]).messages[1].extra["reasoning"] == "Hm."


def test_messages_handed_over_in_python_are_read_as_strictly() -> None:
    with pytest.raises(DataError, match="tool 1 is no object"):
        Conversation.from_messages([ASK, SAY], ["add"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="surrogate"):
        Conversation.from_messages([ASK, SAY | {"content": "\ud83d"}])


def test_tools_of_a_row_are_kept(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    path = written(tmp_path, json.dumps({"messages": [ASK, SAY], "tools": tools, "id": 9}))
    assert read(path)[0].tools == tuple(tools)


def test_keys_that_nothing_reads_are_told(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "2.", "cache_control": {"type": "ephemeral"}}]
    lines = [
        row_with(id=9, prompt="What is 1 + 1?", category=None),
        json.dumps({"text": "The sea.", "url": "sea.html"}),
        row(ASK, {"role": "assistant", "content": parts}),
        GOOD,
    ]
    assert [c.unread for c in read(written(tmp_path, *lines))] == [
        ("'id' of rows", "'prompt' of rows"),
        ("'url' of rows of text",),
        ("'cache_control' of content parts",),
        (),
    ]


@pytest.mark.parametrize(
    "more",
    [{"context": "a"}, {"names": ["a"], "name": "Ann"}, {"lang": "en"}, {"game": "chess"}, {"loss": None}],
)
def test_a_key_of_its_own_is_no_slip(more: dict[str, Any]) -> None:
    given = {key: value for key, value in more.items() if value is not None}
    assert Conversation.from_messages([ASK | more, SAY]).messages[0].extra == given


@pytest.mark.parametrize("more", [{"system": ""}, {"system": None}, {"images": []}, {"weight": None}])
def test_a_key_of_the_row_that_says_nothing_is_no_fault(more: dict[str, Any]) -> None:
    assert len(read([{"messages": [ASK, SAY], **more}])) == 1


def test_a_system_prompt_that_stands_in_the_messages_too_is_no_fault() -> None:
    system = {"role": "system", "content": "Be brief."}
    (found,) = read([{"messages": [system, ASK, SAY], "system": "Be brief."}])
    assert found.unread == ("'system' of rows",)


def test_asked_ends_in_the_last_user_turn_and_reference_follows_it() -> None:
    again = {"role": "user", "content": "And 2 + 2?"}
    more = {"role": "assistant", "content": "4."}
    whole = Conversation.from_messages([ASK, SAY, again, more])
    assert [m.content for m in whole.asked.messages] == ["What is 1 + 1?", "2.", "And 2 + 2?"]
    assert whole.reference == "4."


def test_asked_may_end_in_a_tool_result() -> None:
    result = {"role": "tool", "content": "2"}
    conversation = Conversation.from_messages([ASK, {"role": "assistant", "content": "calls"}, result, SAY])
    assert conversation.asked.messages[-1] == Message("tool", "2")
    assert conversation.reference == "2."


def test_there_is_no_reference_where_the_user_has_the_last_word() -> None:
    conversation = Conversation.from_messages([SAY, ASK])
    assert len(conversation.asked.messages) == 2
    assert conversation.reference is None


def test_nothing_is_asked_where_no_user_speaks() -> None:
    conversation = Conversation.from_messages([SAY])
    assert conversation.asked.messages == ()
    assert conversation.reference == "2."
