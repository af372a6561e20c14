"""Remedies: each makes a template keep the law that it broke, and is served by plain transformers.

For each a small template that needs it, with the very prompts and completions that come out. Then that
nothing else changes, that options are saved, and how rows that break a law are told.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.cli.main import main
from burnish.config import load_config
from burnish.config.sections import Remedy
from burnish.data import Conversation, Source
from burnish.errors import ConfigError, TemplateError
from burnish.prepare.prepare import prepare
from burnish.prepare.violations import Violations
from burnish.template import ChatTemplate
from burnish.template.remedies import REMEDIES
from burnish.tokens import encode, encode_all
from conftest import byte_tokenizer
from templates import sources

Messages = list[dict[str, Any]]

EACH = "{%- for m in messages -%}"
TURN = "<|{{ m.role }}|>{{ m.content }}<|end|>"
END = "{%- endfor -%}"
ASK = "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
PLAIN = EACH + TURN + END + ASK


@lru_cache
def shared_byte_tokenizer() -> PreTrainedTokenizerBase:
    """Not to be changed."""
    return byte_tokenizer()


def tokenizer_with(source: str) -> PreTrainedTokenizerBase:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = source
    return tokenizer


def template_of(source: str, *remedies: str, **options: Any) -> ChatTemplate:
    return ChatTemplate(tokenizer_with(source), remedies=remedies, **options)


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def assistant(text: str, reasoning: str = "", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **more}
    return message | ({"reasoning_content": reasoning} if reasoning else {})


def span(start: int, end: int, weight: float = 0) -> dict[str, Any]:
    return {"start": start, "end": end, "weight": weight}


def conversation_of(*messages: dict[str, Any], tools: Messages | None = None) -> Conversation:
    return Conversation.from_messages(messages, tools)


def texts(template: ChatTemplate, conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.prompt, turn.completion) for turn in template.turns(conversation)]


def refusal(template: ChatTemplate, conversation: Conversation) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        encode(conversation, template)
    return caught.value


# Each remedy by hand

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "x"}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}
CALLS = [user("a"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "3"}, assistant("Hi")]
TOLD = (
    "These functions can be called, each given by its JSON schema:\n<tools>\n"
    '{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}\n</tools>\n'
    "A call is JSON between tags; its result comes in the next turn:\n"
    '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
)
CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "x"}}\n</tool_call><|end|>'
RENAMED = hashlib.sha256(b"call-1").hexdigest()[:9]
ANSWERED = "<|user|><tool_response>\n3\n</tool_response><|end|>"


def refusing(condition: str, says: str) -> str:
    return "{%- if " + condition + " -%}{{ raise_exception('" + says + "') }}{%- endif -%}"


@dataclass(frozen=True)
class Case:
    """A template that breaks ``law`` for the messages, and the turns that the remedy makes of them.
    ``law``: empty where the template refuses to render."""

    source: str
    messages: Messages
    law: str
    turns: list[tuple[str, str]]
    tools: Messages | None = None

    @property
    def conversation(self) -> Conversation:
        return conversation_of(*self.messages, tools=self.tools)


CASES = {
    "append_stop": Case(
        EACH + "<|{{ m.role }}|>{{ m.content }}" + END + ASK,
        [user("a"), assistant("Hi"), user("b"), assistant("No")],
        "stops",
        [
            ("<|user|>a<|assistant|>", "Hi<|endoftext|>"),
            ("<|user|>a<|assistant|>Hi<|user|>b<|assistant|>", "No<|endoftext|>"),
        ],
    ),
    "stop_at_next_turn": Case(
        EACH + "<|{{ m.role }}|>{{ m.content }}" + END + ASK,
        [user("a"), assistant("Hi"), user("b"), assistant("No")],
        "stops",
        [
            ("<|user|>a<|assistant|>", "Hi<|user|>"),
            ("<|user|>a<|assistant|>Hi<|user|>b<|assistant|>", "No<|user|>"),
        ],
    ),
    "follow_generation_prompt": Case(
        EACH + TURN + END + "{{ '<|assistant|><|spare_1|>' if add_generation_prompt }}",
        [user("a"), assistant("Hi"), user("b"), assistant("No")],
        "served",
        [
            ("<|user|>a<|end|><|assistant|><|spare_1|>", "Hi<|end|>"),
            ("<|user|>a<|end|><|assistant|>Hi<|end|><|user|>b<|end|><|assistant|><|spare_1|>", "No<|end|>"),
        ],
    ),
    "keep_reasoning": Case(
        PLAIN,
        [user("a"), assistant("Hi", "Hm"), user("b"), assistant("No")],
        "faithful",
        [
            ("<|user|>a<|end|><|assistant|>", "<think>\nHm\n</think>\n\nHi<|end|>"),
            ("<|user|>a<|end|><|assistant|>Hi<|end|><|user|>b<|end|><|assistant|>", "No<|end|>"),
        ],
    ),
    "drop_reasoning": Case(
        PLAIN,
        [user("a"), assistant("Hi", "Hm")],
        "faithful",
        [("<|user|>a<|end|><|assistant|>", "Hi<|end|>")],
    ),
    "add_generation_prompt": Case(
        EACH + TURN + END,
        [user("a"), assistant("Hi")],
        "only",
        [("<|user|>a<|end|><|assistant|>", "Hi<|end|>")],
    ),
    "merge_system_into_user": Case(
        EACH + "{%- if m.role != 'system' -%}" + TURN + "{%- endif -%}" + END + ASK,
        [system("Be"), user("a"), assistant("Hi"), user("b"), assistant("No")],
        "faithful",
        [
            ("<|user|>Be\n\na<|end|><|assistant|>", "Hi<|end|>"),
            ("<|user|>Be\n\na<|end|><|assistant|>Hi<|end|><|user|>b<|end|><|assistant|>", "No<|end|>"),
        ],
    ),
    "merge_consecutive": Case(
        EACH + refusing("(m.role == 'user') != (loop.index0 % 2 == 0)", "take turns") + TURN + END + ASK,
        [user("a"), user("b"), assistant("Hi"), assistant("No")],
        "",
        [("<|user|>a\n\nb<|end|><|assistant|>", "Hi\n\nNo<|end|>")],
    ),
    "split_turns": Case(
        refusing("messages | selectattr('role', 'equalto', 'user') | list | length > 1", "ask once") + PLAIN,
        [system("Be"), user("a"), assistant("Hi"), user("b"), assistant("No")],
        "",
        [
            ("<|system|>Be<|end|><|user|>a<|end|><|assistant|>", "Hi<|end|>"),
            ("<|system|>Be<|end|><|user|>b<|end|><|assistant|>", "No<|end|>"),
        ],
    ),
    "tools_as_text": Case(
        EACH + refusing("m.role not in ['system', 'user', 'assistant']", "no tools") + TURN + END + ASK,
        CALLS,
        "faithful",
        [
            (f"<|system|>{TOLD}<|end|><|user|>a<|end|><|assistant|>", CALLED),
            (
                f"<|system|>{TOLD}<|end|><|user|>a<|end|><|assistant|>{CALLED}{ANSWERED}<|assistant|>",
                "Hi<|end|>",
            ),
        ],
        [TOOL],
    ),
    "rename_call_ids": Case(
        EACH
        + "{%- for call in m.tool_calls or [] -%}"
        + refusing("call.id | length != 9", "nine letters and digits")
        + "{%- endfor -%}"
        + "<|{{ m.role }}|>{{ m.content }}{%- for call in m.tool_calls or [] -%}"
        "{{ call.id + call.function.name + (call.function.arguments | tojson) }}{%- endfor -%}"
        "{{ m.tool_call_id }}<|end|>" + END + ASK,
        [
            user("a"),
            assistant("", tool_calls=[CALL | {"id": "call-1"}]),
            {"role": "tool", "content": "3", "tool_call_id": "call-1"},
            assistant("Hi"),
        ],
        "",
        [
            ("<|user|>a<|end|><|assistant|>", f'{RENAMED}add{{"a": 1, "b": "x"}}<|end|>'),
            (
                f'<|user|>a<|end|><|assistant|>{RENAMED}add{{"a": 1, "b": "x"}}<|end|>'
                f"<|tool|>3{RENAMED}<|end|><|assistant|>",
                "Hi<|end|>",
            ),
        ],
    ),
    "tool_role_tool": Case(
        EACH + refusing("m.role == 'ipython'", "who?") + TURN + END + ASK,
        [user("a"), assistant("x()"), {"role": "ipython", "content": "3"}, assistant("Hi")],
        "",
        [
            ("<|user|>a<|end|><|assistant|>", "x()<|end|>"),
            ("<|user|>a<|end|><|assistant|>x()<|end|><|tool|>3<|end|><|assistant|>", "Hi<|end|>"),
        ],
    ),
    "arguments_as_text": Case(
        EACH + "<|{{ m.role }}|>{{ m.content }}{%- for call in m.tool_calls or [] -%}"
        "{{ call.function.name + call.function.arguments }}{%- endfor -%}<|end|>" + END + ASK,
        CALLS,
        "",
        [
            ("<|user|>a<|end|><|assistant|>", 'add{"a": 1, "b": "x"}<|end|>'),
            (
                '<|user|>a<|end|><|assistant|>add{"a": 1, "b": "x"}<|end|><|tool|>3<|end|><|assistant|>',
                "Hi<|end|>",
            ),
        ],
    ),
    "content_parts": Case(
        EACH
        + "<|{{ m.role }}|>{%- for part in m.content -%}{{ part.text }}{%- endfor -%}<|end|>"
        + END
        + ASK,
        [user("a"), assistant("Hi")],
        "faithful",
        [("<|user|>a<|end|><|assistant|>", "Hi<|end|>")],
    ),
}


def cases() -> list[Any]:
    return [pytest.param(n, id=n) for n in CASES]


def test_every_remedy_has_a_case_and_a_place_in_the_config() -> None:
    assert {*CASES, "add_bos"} == set(REMEDIES)  # that the first token is missing is against no law
    assert get_args(Remedy) == tuple(REMEDIES)


@pytest.mark.parametrize("name", cases())
def test_the_broken_law_is_named_with_the_remedy_that_helps(name: str) -> None:
    case = CASES[name]
    error = refusal(template_of(case.source), case.conversation)
    assert error.law == case.law
    assert (name,) in error.remedies
    assert f"template.remedies: [{name}]" in error.fix


@pytest.mark.parametrize("name", cases())
def test_a_remedy_makes_these_very_turns(name: str) -> None:
    case = CASES[name]
    assert texts(template_of(case.source, name), case.conversation) == case.turns


@pytest.mark.parametrize("name", cases())
def test_plain_transformers_serves_what_was_trained(name: str) -> None:
    """With the saved template on a fresh tokenizer, for the messages as the remedy leaves them."""
    case = CASES[name]
    template = template_of(case.source, name)
    messages = template.prepared(case.conversation).as_dicts()
    plain = tokenizer_with(str(template.source))
    for turn in template.turns(case.conversation):
        asked = {"tools": case.tools, "add_generation_prompt": True}
        assert plain.apply_chat_template(messages[: turn.index], **asked, tokenize=False) == turn.prompt
        ids = list(plain.apply_chat_template(messages[: turn.index], **asked)["input_ids"])
        assert any(e.input_ids[: len(ids)] == ids for e in encode(case.conversation, template))


def test_what_is_advised_has_been_proven_to_help() -> None:
    """All sets of names that the errors of the cases name."""
    for case in CASES.values():
        for names in refusal(template_of(case.source), case.conversation).remedies:
            assert template_of(case.source, *names).turns(case.conversation)


def test_two_faults_need_two_remedies() -> None:
    source = EACH + refusing("m.role == 'system'", "no") + "<|{{ m.role }}|>{{ m.content }}" + END + ASK
    error = refusal(template_of(source), conversation_of(system("Be"), user("a"), assistant("Hi")))
    stops = ("append_stop", "stop_at_next_turn")
    assert error.remedies == tuple((stop, "merge_system_into_user") for stop in stops)


def test_merging_is_not_advised_where_something_else_is_wrong() -> None:
    source = EACH + "<|{{ m.role }}|>{{ m.content }}" + END + ASK
    error = refusal(template_of(source), conversation_of(user("a"), user("b"), assistant("Hi")))
    assert error.remedies == (("append_stop",), ("stop_at_next_turn",))


def test_where_no_remedy_helps_another_template_is_advised() -> None:
    source = EACH + "<|{{ m.role }}|>{{ m.content | upper }}<|end|>" + END + ASK
    error = refusal(template_of(source), conversation_of(user("a"), assistant("Hi")))
    assert (error.law, error.remedies) == ("faithful", ())
    assert error.fix == "Set template.kind: chatml."


def test_an_unknown_remedy_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no such remedy: append_stopp") as caught:
        template_of(PLAIN, "append_stopp")
    assert "append_stop" in caught.value.fix
    with pytest.raises(ConfigError, match=r"template\.remedies"):
        load_config(None, [], **{"template.remedies": ["append_stopp"]})


# The token that begins texts


def test_add_bos_writes_the_first_token_once() -> None:
    tokenizer = tokenizer_with(PLAIN)
    tokenizer.bos_token = "<|spare_2|>"
    template = ChatTemplate(tokenizer, remedies=["add_bos"])
    messages = [user("a"), assistant("Hi"), user("b"), assistant("No")]
    assert [turn.prompt for turn in template.turns(conversation_of(*messages))] == [
        "<|spare_2|><|user|>a<|end|><|assistant|>",
        "<|spare_2|><|user|>a<|end|><|assistant|>Hi<|end|><|user|>b<|end|><|assistant|>",
    ]
    tokenizer.chat_template = template.source
    ids = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True)["input_ids"]
    assert "".join(tokenizer.convert_ids_to_tokens(ids)) == "<|spare_2|><|user|>a<|end|><|assistant|>"


def test_a_first_token_that_stands_there_already_is_not_written_twice() -> None:
    tokenizer = tokenizer_with("{{ bos_token }}" + PLAIN)
    tokenizer.bos_token = "<|spare_2|>"
    error = refusal(
        ChatTemplate(tokenizer, remedies=["add_bos"]), conversation_of(user("a"), assistant("Hi"))
    )
    assert error.law == "served"
    assert "begins with <|spare_2|> twice" in error.what


# Reasoning


@pytest.mark.parametrize("answer", [assistant("Hi", "Hm"), assistant("<think>\nHm\n</think>\n\nHi")])
def test_reasoning_is_dropped_wherever_the_row_gives_it(answer: dict[str, Any]) -> None:
    again = [user("a"), answer, user("b"), assistant("No", "Hm?")]
    assert texts(template_of(PLAIN, "drop_reasoning"), conversation_of(*again)) == [
        ("<|user|>a<|end|><|assistant|>", "Hi<|end|>"),
        ("<|user|>a<|end|><|assistant|>Hi<|end|><|user|>b<|end|><|assistant|>", "No<|end|>"),
    ]


@pytest.mark.parametrize(
    ("answer", "moved"),
    [
        (assistant("Hello", "Hm", spans=[span(1, 3)]), [1, 0, 0, 1, 1, 1]),
        (assistant("<think>Hm</think>\nHello", spans=[span(19, 21)]), [1, 0, 0, 1, 1, 1]),
        (assistant("<think>Hm</think>\nHello", spans=[span(7, 20)]), [0, 0, 1, 1, 1, 1]),
        (assistant("<think>Hm</think>\nHello", spans=[span(0, 18)]), [1, 1, 1, 1, 1, 1]),
    ],
)
def test_spans_move_with_the_text_when_reasoning_is_dropped(
    answer: dict[str, Any], moved: list[float]
) -> None:
    """18 characters stand before Hello where the reasoning is in the content."""
    (example,) = encode(conversation_of(user("a"), answer), template_of(PLAIN, "drop_reasoning"))
    assert example.weights[4:] == moved


def test_preparing_twice_is_preparing_once() -> None:
    template = template_of(PLAIN, "drop_reasoning")
    once = template.prepared(conversation_of(user("a"), assistant("<think>x</think><think>y</think>Hi")))
    assert template.prepared(once) == once


def test_an_answer_that_is_all_reasoning_is_refused_when_it_is_dropped() -> None:
    row = conversation_of(user("a"), assistant("<think>Hm</think>"))
    assert refusal(template_of(PLAIN, "drop_reasoning"), row).law == "faithful"


OPENS = EACH + TURN + END + "{{ '<|assistant|><think>\n' if add_generation_prompt }}"
"""As DeepSeek-R1's: the prompt opens a think block of which the finished turn shows nothing."""


@pytest.mark.parametrize(
    ("answer", "advised"),
    [
        (
            assistant("Hi", "Hm"),
            (("follow_generation_prompt", "keep_reasoning"), ("follow_generation_prompt", "drop_reasoning")),
        ),
        (assistant("Hi"), (("follow_generation_prompt",),)),
    ],
)
def test_a_prompt_that_opens_a_think_block_breaks_served(
    answer: dict[str, Any], advised: tuple[tuple[str, ...], ...]
) -> None:
    error = refusal(template_of(OPENS), conversation_of(user("a"), answer))
    assert (error.law, error.remedies) == ("served", advised)


@pytest.mark.parametrize(
    ("remedies", "answer", "completion"),
    [
        (("keep_reasoning",), assistant("Hi", "Hm"), "Hm\n</think>\n\nHi<|end|>"),
        (("keep_reasoning",), assistant("Hi"), "\n</think>\n\nHi<|end|>"),
        ((), assistant("Hi"), "\n</think>\n\nHi<|end|>"),
        (("drop_reasoning",), assistant("Hi", "Hm"), "\n</think>\n\nHi<|end|>"),
    ],
)
def test_a_think_block_that_the_prompt_opens_is_closed(
    remedies: tuple[str, ...], answer: dict[str, Any], completion: str
) -> None:
    template = template_of(OPENS, "follow_generation_prompt", *remedies)
    row = conversation_of(user("a"), answer)
    assert texts(template, row) == [("<|user|>a<|end|><|assistant|><think>\n", completion)]


def test_rows_with_and_without_reasoning_may_stand_in_one_conversation() -> None:
    template = template_of(OPENS, "follow_generation_prompt", "keep_reasoning")
    row = conversation_of(user("a"), assistant("Hi"), user("b"), assistant("No", "Hm"))
    served = "<|user|>a<|end|><|assistant|>"
    assert texts(template, row) == [
        (f"{served}<think>\n", "\n</think>\n\nHi<|end|>"),
        (f"{served}Hi<|end|><|user|>b<|end|><|assistant|><think>\n", "Hm\n</think>\n\nNo<|end|>"),
    ]


LIKE_QWEN3 = (
    EACH
    + "<|{{ m.role }}|>{%- if m.role == 'assistant' and loop.last -%}"
    + "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{%- endif -%}"
    + "{{ m.content }}<|end|>"
    + END
    + "{%- if add_generation_prompt -%}<|assistant|>"
    + "{{ '<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking }}{%- endif -%}"
)


def test_an_empty_think_block_that_is_trained_is_told_with_the_option_that_moves_it() -> None:
    row = conversation_of(user("a"), assistant("Hi"))
    (turn,) = template_of(LIKE_QWEN3).turns(row)
    assert (turn.prompt, turn.completion) == (
        "<|user|>a<|end|><|assistant|>",
        "<think>\n\n</think>\n\nHi<|end|>",
    )
    (note,) = turn.notes
    assert "'<think>\\n\\n</think>' before answers, and it is trained" in note
    assert "template.options: {enable_thinking: false}" in note
    (turn,) = template_of(LIKE_QWEN3, enable_thinking=False).turns(row)
    assert (turn.prompt, turn.completion) == (
        "<|user|>a<|end|><|assistant|><think>\n\n</think>\n\n",
        "Hi<|end|>",
    )
    assert turn.notes == ()


def test_reasoning_has_no_place_behind_a_closed_think_block() -> None:
    row = conversation_of(user("a"), assistant("Hi", "Hm"))
    assert texts(template_of(LIKE_QWEN3), row)[0][1] == "<think>\nHm\n</think>\n\nHi<|end|>"
    error = refusal(template_of(LIKE_QWEN3, enable_thinking=False), row)
    assert (error.law, error.remedies) == ("served", (("drop_reasoning",),))


# Merging


def test_spans_move_with_the_text_when_messages_are_merged() -> None:
    messages = [user("a"), assistant("one", spans=[span(0, 1)]), assistant("two", spans=[span(1, 3, 0.5)])]
    (example,) = encode(conversation_of(*messages), template_of(PLAIN, "merge_consecutive"))
    text = shared_byte_tokenizer().decode(example.input_ids)
    assert text == "<|user|>a<|end|><|assistant|>one\n\ntwo<|end|>"
    assert example.weights[4:] == [0, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5]  # o n e, two newlines, t w o, the end


def test_messages_of_one_weight_are_merged_and_others_refused_with_file_and_row() -> None:
    template = template_of(PLAIN, "merge_consecutive")
    alike = conversation_of(user("a"), assistant("b", weight=0.5), assistant("c", weight=0.5))
    assert encode(alike, template)[0].weights == [0] * 4 + [0.5] * 5
    other = [user("a"), assistant("b", weight=0.5), assistant("c")]
    with pytest.raises(TemplateError, match=r"rows\.jsonl:7: neighbouring assistant messages have different"):
        encode(Conversation.from_messages(other, source=Source("rows.jsonl", 7)), template)


@pytest.mark.parametrize(
    "messages",
    [
        [user("a", train=False), user("b"), assistant("c")],
        [user("a"), assistant("b", train=True), assistant("c")],
    ],
)
def test_marks_that_say_what_holds_anyway_do_not_hinder_merging(messages: Messages) -> None:
    (example,) = encode(conversation_of(*messages), template_of(PLAIN, "merge_consecutive"))
    assert len(example.turns) == 1


def test_results_of_several_calls_are_not_merged() -> None:
    messages = [user("a"), assistant("x"), *[{"role": "tool", "content": text} for text in "12"]]
    merged = template_of(PLAIN, "merge_consecutive").prepared(conversation_of(*messages))
    assert [message.content for message in merged.messages] == ["a", "x", "1", "2"]


def test_calls_side_by_side_and_their_results_as_text() -> None:
    calls = [{**CALL, "function": {"name": "add", "arguments": {"a": number}}} for number in (1, 2)]
    results = [{"role": "tool", "content": text} for text in ("one", "two")]
    messages = [system("Be"), user("a"), assistant("Look:", tool_calls=calls), *results, assistant("Hi")]
    first, second = texts(template_of(PLAIN, "tools_as_text"), conversation_of(*messages, tools=[TOOL]))
    assert first == (
        f"<|system|>Be\n\n{TOLD}<|end|><|user|>a<|end|><|assistant|>",
        'Look:\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call><|end|>',
    )
    assert second == (
        "".join(first)
        + "<|user|><tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|end|>"
        "<|assistant|>",
        "Hi<|end|>",
    )


# What is saved

SHOWS = "{{ value | tojson }}" + PLAIN
SHOWS_IN_A_MACRO = "{%- macro show() -%}{{ value | tojson }}{%- endmacro -%}{{ show() }}" + PLAIN
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["{{ x }}", "{% x %}", "'\"\\", "#}"]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)


@given(value=VALUE, source=st.sampled_from([SHOWS, SHOWS_IN_A_MACRO]))
def test_an_option_of_any_value_is_saved_as_the_default(value: Any, source: str) -> None:
    """As if it were given to ``apply_chat_template`` at every call."""
    tokenizer, messages = shared_byte_tokenizer(), [user("a")]
    saved = str(ChatTemplate(tokenizer, source_text=source, value=value).source)
    direct = tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, value=value)
    assert tokenizer.apply_chat_template(messages, chat_template=saved, tokenize=False) == direct


def test_options_are_defaults_that_a_caller_can_still_override() -> None:
    source = "{{ nested | tojson }}" + LIKE_QWEN3
    options = {"enable_thinking": False, "nested": {"a": [1, None, "x'\n"]}}
    template = template_of(source, **options)
    plain = tokenizer_with(str(template.source))
    asked: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False}
    shown, question = '{"a": [1, null, "x\'\\n"]}', "<|user|>a<|end|><|assistant|>"
    closed = "<think>\n\n</think>\n\n"
    assert plain.apply_chat_template([user("a")], **asked) == shown + question + closed
    assert texts(template, conversation_of(user("a"), assistant("Hi")))[0][0] == shown + question + closed
    overridden = plain.apply_chat_template([user("a")], **asked, enable_thinking=True, nested=[])
    assert overridden == "[]" + question


@pytest.mark.parametrize("name", ["documents", "messages", "tools", "eos_token", "a-b"])
def test_an_option_that_the_template_would_never_see_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"template.options.{name} cannot be set"):
        template_of(PLAIN, **{name: []})


def test_each_of_several_templates_is_saved_with_its_remedies() -> None:
    own = {"default": PLAIN, "tool_use": "{{ tools | length }}" + PLAIN}
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = own
    template = ChatTemplate(tokenizer, remedies=["merge_system_into_user"], unused=1)
    assert isinstance(template.source, dict)
    plain = byte_tokenizer()
    plain.chat_template = template.source
    messages = [system("Be"), user("a")]
    for tools, text in ((None, "<|user|>Be\n\na<|end|>"), ([TOOL], "1<|user|>Be\n\na<|end|>")):
        assert plain.apply_chat_template(messages, tools=tools, tokenize=False) == text
        assert template.render(messages, tools or [], add_generation_prompt=False) == text


def test_without_remedies_and_options_the_source_is_left_as_it_is() -> None:
    assert template_of(PLAIN).source == PLAIN
    assert template_of(PLAIN, "append_stop", "keep_reasoning", "drop_reasoning").source == PLAIN


NOTHING_TO_DO = [
    (["merge_system_into_user"], {}, []),
    (["tools_as_text", "arguments_as_text", "tool_role_tool"], {"burnish_unused": {"a": 1}}, [system("Be")]),
]


def rendered(source: str, messages: Messages, add_generation_prompt: bool) -> str:
    try:
        text = shared_byte_tokenizer().apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (jinja2.TemplateError, TypeError) as error:
        return f"refused: {error}"
    return str(text)


@pytest.mark.skipif(not sources(), reason="no templates of others are here")
@pytest.mark.parametrize(("remedies", "options", "before"), NOTHING_TO_DO)
def test_a_remedy_that_has_nothing_to_do_changes_no_byte(
    remedies: list[str], options: dict[str, Any], before: Messages
) -> None:
    messages = [
        *before,
        user(" Where is Rome?\n"),
        assistant("In Italy."),
        user("And Lima?"),
        assistant("In Peru."),
    ]
    changed = []
    for name, source in sources().items():
        template = ChatTemplate(shared_byte_tokenizer(), source_text=source, remedies=remedies, **options)
        assert template.source != source
        for count, asks in ((len(messages) - 1, True), (len(messages), False)):
            own = rendered(source, messages[:count], asks)
            if rendered(str(template.source), messages[:count], asks) != own:
                changed.append((name, asks))
    assert changed == []


# Rows that break a law, told together

GOOD = [user("a"), assistant("Hi")]
THINKS = [user("a"), assistant("Hi", "Hm")]
THINKS_LATER = [*GOOD, *THINKS]
GREETS = [assistant("Hello"), *GOOD]
UNTHINKING = "message 2: law 'faithful' fails: the rendered turn has not kept reasoning"


def written(folder: Path, *rows: Messages, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), "utf-8")
    return path


def broken_by(rows: list[Messages], source: str = PLAIN) -> Violations:
    template = template_of(source)
    conversations = [
        Conversation.from_messages(row, source=Source("rows.jsonl", n)) for n, row in enumerate(rows, 1)
    ]
    broken = Violations(template, "all")
    for encoded in encode_all(conversations, template):
        if encoded.error:
            broken.add(encoded.conversation, encoded.error)
    return broken


def test_broken_rows_are_grouped_by_law_and_message() -> None:
    """The place of the message makes no group of its own: rows 2 and 4 think in another turn."""
    broken = broken_by([GOOD, THINKS, GREETS, THINKS_LATER, THINKS])
    thinking, greeting = broken.largest_first()
    assert (thinking.law, [source.row for source in thinking.rows]) == ("faithful", [2, 4, 5])
    assert (greeting.law, [source.row for source in greeting.rows]) == ("served", [3])
    error = broken.as_error(5)
    assert error.what.splitlines() == [
        "4 of 5 rows break a mask law:",
        f"      3 x {UNTHINKING} (first: rows.jsonl:2)",
        "      1 x message 1: law 'served' fails: nothing stands before the answer (first: rows.jsonl:3)",
    ]
    assert (error.law, error.remedies) == ("faithful", (("keep_reasoning",), ("drop_reasoning",)))
    assert "template.remedies: [keep_reasoning]" in error.fix


def test_a_single_broken_row_is_told_as_it_is() -> None:
    error = broken_by([GOOD, THINKS]).as_error(2)
    assert (
        error.what
        == "rows.jsonl:2: message 2: law 'faithful' fails: the rendered turn has not kept reasoning"
    )


def test_rows_that_lose_their_calls_are_one_group_whatever_the_calls_say() -> None:
    rows = [
        [user("a"), assistant("", tool_calls=[{"function": {"name": "add", "arguments": {"a": text}}}])]
        for text in ("one", "two", "three")
    ]
    source = EACH + "<|{{ m.role }}|>{{ m.content }}{{ 'add' if m.tool_calls }}<|end|>" + END + ASK
    assert len(broken_by(rows, source).groups) == 1


def test_training_on_rows_that_break_laws_leaves_with_1_and_names_all_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path, GOOD, THINKS, GREETS, THINKS_LATER)
    out = tmp_path / "run"
    arguments = ["train", "--data", str(data), "--out", str(out), "--set", "data.held_out_share=0"]
    monkeypatch.setattr(sys, "argv", ["burnish", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    complaint = capsys.readouterr().err
    assert leaving.value.code == 1
    assert complaint.startswith("error: 3 of 4 rows break a mask law:\n")
    assert "2 x message 2: law 'faithful' fails" in complaint
    assert f"(first: {data}:2)" in complaint
    assert "1 x message 1: law 'served' fails" in complaint
    assert f"(first: {data}:3)" in complaint
    assert "template.remedies: [keep_reasoning]" in complaint
    assert "Traceback" not in complaint
    assert not out.exists()


def test_held_out_rows_that_break_a_law_are_told_with_the_others(tmp_path: Path) -> None:
    train, held_out = written(tmp_path, GOOD, THINKS), written(tmp_path, GREETS, name="held_out.jsonl")
    config = load_config(None, [], **{"data.train": [str(train)], "data.held_out": [str(held_out)]})
    with pytest.raises(TemplateError, match="2 of 3 rows break a mask law"):
        prepare(config, template_of(PLAIN), None)
