"""Faults of masks that were found once, each as a test: what was called proven and was wrong, and what was
refused or advised for a reason that did not hold."""

from __future__ import annotations

import copy
import json
import resource
import signal
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import GenerationConfig, PreTrainedTokenizerBase

from burnish import limits
from burnish.cli.main import main
from burnish.data import Conversation
from burnish.data.read import read
from burnish.errors import TemplateError
from burnish.template import ChatTemplate
from burnish.tokens import encode
from conftest import SHARED, byte_tokenizer, needs_shared, shared_tokenizer, small_tokenizer, tiny_model
from oracle import (
    CHATML,
    Outcome,
    Proof,
    answer_of,
    changed,
    conversation_of_row,
    faults_of,
    outcome_of,
    refusal,
    served_ids,
    template_named,
    trained,
)
from templates import (
    SUITE,
    TOOLS,
    Row,
    assistant,
    call,
    call_of,
    parts,
    result,
    system,
    tokenizer_with,
    tool_of,
    user,
)
from test_masks import text_of

CHATML_SOURCE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""Knows roles and contents, nothing else."""

PLAIN = (
    "{%- for m in messages -%}<|{{ m.role }}|>{{ m.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def plain() -> ChatTemplate:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = PLAIN
    return ChatTemplate(tokenizer)


def rightly(template: ChatTemplate, row: Row) -> Outcome:
    """What burnish says of the row, once the oracle has found nothing wrong with it."""
    found = outcome_of(template, row)
    assert faults_of(found, row) == []
    return found


def refused(template: ChatTemplate, row: Row, law: str) -> Outcome:
    """The same of a row that the template cannot be trained on as it is."""
    found = rightly(template, row)
    assert () not in [proof.how for proof in found.proofs]
    assert found.law == law, found.what
    return found


def hows(found: Outcome) -> list[tuple[str, ...]]:
    return [proof.how for proof in found.proofs]


def answers(proof: Proof, row: Row) -> list[tuple[str, str]]:
    """Each answer as it is learnt: its text, and the token that it ends in."""
    turns, wrong = trained(proof, row)
    assert wrong == []
    return [(answer_of(proof, turn), text_of(proof.template.tokenizer, turn.learnt[-1:])) for turn in turns]


# Ids decide


def with_added_markers(name: str, source: str, markers: tuple[str, ...], normalized: bool) -> ChatTemplate:
    tokenizer = shared_tokenizer(name)
    tokenizer.add_tokens([AddedToken(marker, special=False, normalized=normalized) for marker in markers])
    tokenizer.chat_template = source
    return ChatTemplate(tokenizer)


@needs_shared
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", ["mistral_v1", "mistral_v3", "phi-3"])
def test_a_stop_token_that_the_tokenizer_takes_to_pieces_is_not_called_proven(
    name: str, normalized: bool
) -> None:
    template = with_added_markers(name, CHATML_SOURCE, ("<|im_start|>", "<|im_end|>"), normalized)
    found = rightly(template, SUITE["several turns"])
    for proof in found.proofs:
        assert {end for _, end in answers(proof, SUITE["several turns"])} <= {*proof.template.stop_tokens}


@needs_shared
def test_a_remedy_is_advised_only_where_its_ids_are_proven_too() -> None:
    """Without system turns the template renders well, and its stop token is still no token."""
    source = CHATML_SOURCE.replace(
        "{{ '<|im_start|>'", "{{ raise_exception('no system turns') if m.role == 'system' }}{{ '<|im_start|>'"
    )
    template = with_added_markers("mistral_v1", source, ("<|im_start|>", "<|im_end|>"), True)
    rightly(template, SUITE["system"])


def test_a_remedy_is_advised_only_where_its_spans_are_found() -> None:
    """The edge of the span stands within a token, whatever is done about the system turn."""
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.chat_template = (
        "{%- for m in messages -%}{{ raise_exception('no system turns') if m.role == 'system' }}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
    )
    assert len(tokenizer("the cat sat", add_special_tokens=False)["input_ids"]) == 3
    spans = [{"start": 0, "end": 5, "weight": 0.5}]
    row: Row = ([system("Be brief."), user("Who?"), assistant("the cat sat", spans=spans)], None)
    assert hows(rightly(ChatTemplate(tokenizer), row)) == []


def base_folder(folder: Path, tokenizer: PreTrainedTokenizerBase, **generation: Any) -> Path:
    """A base as a user has it: a tiny model, its tokenizer and where it stops."""
    tiny_model(vocabulary=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if generation:
        GenerationConfig(**generation).save_pretrained(folder)
    return folder


def rows_file(folder: Path, row: Row, times: int = 1) -> Path:
    messages, tools = row
    path = folder / "rows.jsonl"
    line = json.dumps({"messages": messages, **({"tools": tools} if tools else {})}) + "\n"
    path.write_text(line * times, "utf-8")
    return path


def left_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["burnish", *arguments])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


@needs_shared
def test_check_fails_where_no_turn_ends_in_a_stop_token_that_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    template = with_added_markers("mistral_v1", CHATML_SOURCE, ("<|im_start|>", "<|im_end|>"), True)
    base = base_folder(tmp_path / "base", template.tokenizer)
    data = rows_file(tmp_path, SUITE["several turns"], times=10)
    code = left_with(monkeypatch, "check", "--data", str(data), "--model", str(base))
    said = capsys.readouterr().out
    trained_stops = [line for line in said.splitlines() if "turns end in a trained stop token" in line]
    assert code == 1, trained_stops


# Found by chance


@pytest.mark.parametrize(
    "kind", ["reasoning within the answer", "reasoning within answers", "reasoning is the answer"]
)
def test_reasoning_that_the_template_drops_is_missed_though_the_answer_says_it_again(kind: str) -> None:
    found = refused(plain(), SUITE[kind], "faithful")
    assert {("keep_reasoning",), ("drop_reasoning",)} <= {*hows(found)}


@pytest.mark.parametrize("kind", ["a call quoted in content", "a call quoted in thought"])
def test_a_call_that_the_template_drops_is_missed_though_it_is_quoted(kind: str) -> None:
    """The tools are not on offer in these rows, which end in the call: it is all that can be missed."""
    found = refused(plain(), (SUITE[kind][0][:2], None), "faithful")
    assert any("tools_as_text" in how for how in hows(found))
    assert ("keep_reasoning",) not in hows(found)


@pytest.mark.parametrize("template", ["gpt-oss", "first call", "last call"])
def test_the_second_of_two_like_calls_is_missed(template: str) -> None:
    found = refused(template_named(f"own/{template}"), SUITE["one call twice"], "faithful")
    assert any("tools_as_text" in how for how in hows(found))


def test_calls_in_another_order_are_not_those_of_the_row() -> None:
    refused(
        template_named("own/last function's call"), SUITE["two functions, the longer name first"], "faithful"
    )


@pytest.mark.parametrize("template", ["no tools", "parts, joined", "names of tools"])
def test_tools_that_the_template_never_shows_are_missed_though_the_question_names_them(template: str) -> None:
    found = refused(template_named(f"own/{template}"), SUITE["tools named in the question"], "faithful")
    assert any("tools_as_text" in how for how in hows(found))


def test_each_of_several_tools_is_to_be_shown_though_another_begins_with_its_name() -> None:
    tools = [tool_of("get_weather_forecast", "The sky.", town="The place."), *TOOLS]
    row: Row = ([user("Where is Rome?"), assistant("In Italy.")], tools)
    refused(template_named("own/first tool"), row, "faithful")


@pytest.mark.parametrize("template", ["no past calls", "parts, joined"])
def test_a_past_call_that_is_not_learnt_is_still_to_be_read(template: str) -> None:
    found = refused(template_named(f"own/{template}"), SUITE["past call not learnt"], "faithful")
    assert any("tools_as_text" in how for how in hows(found))


def to_first_call(conversation: Conversation) -> Row | None:
    messages = conversation.as_dicts()
    calling = next((n for n, message in enumerate(messages) if message.get("tool_calls")), None)
    return None if calling is None else (messages[: calling + 1], [dict(tool) for tool in conversation.tools])


@needs_shared
@pytest.mark.parametrize("number", [1, 2, 4, 7])
def test_rows_that_end_in_a_call_keep_it_under_what_is_advised(number: int) -> None:
    """Rows of reasoning and calls, cut behind the first call, on ChatML, which renders none."""
    _keeps_the_call_of_row(number)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("number", range(50))
def test_every_row_that_ends_in_a_call_keeps_it_under_what_is_advised(number: int) -> None:
    _keeps_the_call_of_row(number)


def _keeps_the_call_of_row(number: int) -> None:
    """With its tools on offer and without, where their absence is not what is missed."""
    row = to_first_call(read(SHARED / "sft" / "reason_tool_use_demo_50.jsonl")[number])
    if row is None:
        pytest.skip("the row holds no call")
    template = ChatTemplate(shared_tokenizer("qwen2"))
    for tools in (row[1], None):
        refused(template, (row[0], tools), "faithful")


# Where a turn ends

GLM = ["glm-4.5", "glm-4.7", "glm-4.5, added", "glm-4.7, added"]


@pytest.mark.parametrize("name", GLM)
@pytest.mark.parametrize("kind", ["one turn", "call and result", "parallel calls", "nested arguments"])
def test_no_stop_token_of_glm_stands_within_a_call(name: str, kind: str) -> None:
    """The oracle looks at the stop tokens of each template that is advised."""
    template = template_named(f"own/{name}")
    assert not {"<arg_value>", "<tool_call>", "<arg_key>", "<think>"} & {*template.stop_tokens}
    rightly(template, SUITE[kind])


@pytest.mark.parametrize("name", GLM)
def test_a_turn_of_glm_ends_in_the_marker_of_the_next_and_the_model_stops_there(name: str) -> None:
    found = refused(
        template_named(f"own/{name}"), SUITE["call and result"], "stops" if "4.5" in name else "served"
    )
    native = [proof for proof in found.proofs if not {"tools_as_text", CHATML} & {*proof.how}]
    ended = [proof for proof in native if "<|user|>" in proof.template.stop_tokens]
    assert ended, hows(found)
    for proof in ended:
        assert {"<|user|>", "<|observation|>", "</s>"} <= {*proof.template.stop_tokens}
        (called, after_call), (_, after_answer) = answers(proof, SUITE["call and result"])
        assert called.endswith("</tool_call>")
        assert (after_call, after_answer) == ("<|observation|>", "<|user|>")


@pytest.mark.parametrize("name", ["chatglm3", "chatglm3, added"])
def test_a_turn_of_chatglm_ends_in_the_marker_of_the_next(name: str) -> None:
    found = rightly(template_named(f"own/{name}"), SUITE["call and result"])
    ended = [proof for proof in found.proofs if "<|observation|>" in proof.template.stop_tokens]
    assert ended, hows(found)
    for proof in ended:
        assert [end for _, end in answers(proof, SUITE["call and result"])] == ["<|observation|>", "<|user|>"]


@pytest.mark.parametrize("name", ["command-r+", "command-r+, added"])
@pytest.mark.parametrize("kind", ["call and result", "content with a call", "parallel calls"])
def test_a_call_of_command_r_ends_before_the_next_header(name: str, kind: str) -> None:
    found = rightly(template_named(f"own/{name}"), SUITE[kind])
    assert found.proofs
    for proof in found.proofs:
        assert "<|START_OF_TURN_TOKEN|>" not in str(answers(proof, SUITE[kind]))


def test_a_run_stops_where_the_base_stops_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base stops at a token that its template never writes."""
    tokenizer = copy.deepcopy(small_tokenizer())
    own = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|spare_1|>"])
    tokenizer.chat_template = PLAIN
    base = base_folder(tmp_path / "base", tokenizer, eos_token_id=own)
    data, out = rows_file(tmp_path, SUITE["several turns"], times=4), tmp_path / "run"
    settings = {
        "adapter.kind": "none",
        "train.max_steps": 1,
        "data.held_out_share": 0,
        "evaluate.max_new_tokens": 2,
    }
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    arguments = ("train", "--data", str(data), "--model", str(base), "--out", str(out), *given)
    assert left_with(monkeypatch, *arguments) == 0
    stops = GenerationConfig.from_pretrained(out / "final").eos_token_id
    assert {*own, tokenizer.convert_tokens_to_ids("<|end|>")} == {*stops}


# Headers

HEADERS = {
    "falcon, unasked": "Falcon: ",
    "answer": "### Answer: ",
    "output": "Output: ",
    "chinese": "\u7b54\uff1a",
    "bare token": "<|reply|>",
    "bare token, added": "<|reply|>",
    "half of a header": "Output: ",
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("kind", ["one turn", "short contents", "several turns", "reasoning"])
def test_what_stands_before_every_answer_is_its_header_whatever_it_says(name: str, kind: str) -> None:
    found = outcome_of(template_named(f"own/{name}"), SUITE[kind])
    assert faults_of(found, SUITE[kind]) == []
    assert () not in hows(found)
    assert found.law in (("only", "faithful") if kind == "reasoning" else ("only",))
    asked = [proof for proof in found.proofs if "add_generation_prompt" in proof.how]
    assert asked, hows(found)
    for proof in asked:
        assert HEADERS[name] not in "".join(text for text, _ in answers(proof, SUITE[kind]))


# Changed before the proof


@pytest.mark.parametrize("name", ["all kept", "reasoning of the last"])
def test_merged_answers_keep_the_reasoning_of_each_or_are_refused(name: str) -> None:
    template, row = template_named(f"own/{name}"), SUITE["reasoning in a row"]
    merged = changed(template, ("merge_consecutive",))
    assert faults_of(outcome_of(merged, row), row) == []
    rightly(template, row)


@pytest.mark.parametrize("name", ["parts, joined", "parts, a line each", "first part", "all kept"])
def test_contents_given_as_parts_are_trained_as_they_are_served(name: str) -> None:
    rightly(template_named(f"own/{name}"), SUITE["several parts"])


def test_parts_are_joined_by_nothing() -> None:
    row: Row = ([user(parts("Where is", " Rome?")), assistant(parts("In It", "aly."))], None)
    (example,) = encode(conversation_of_row(row), plain())
    assert (
        text_of(plain().tokenizer, example.input_ids)
        == "<|user|>Where is Rome?<|end|><|assistant|>In Italy.<|end|>"
    )
    thought = [{"type": "reasoning", "text": "It is"}, {"type": "reasoning", "text": " a city."}]
    messages = [user("Rome?"), {"role": "assistant", "content": [*thought, *parts("A ", "city.")]}]
    message = Conversation.from_messages(messages).messages[1]
    assert (message.content, message.extra) == ("A city.", {"reasoning_content": "It is a city."})


# Chance places


@pytest.mark.parametrize("content", ["final", "assistant"])
@pytest.mark.parametrize("name", ["gpt-oss", "gpt-oss, added"])
def test_a_span_on_the_name_of_a_channel_does_not_land_on_the_channel(name: str, content: str) -> None:
    spans = [{"start": 0, "end": len(content), "weight": 0.5}]
    row: Row = ([user("Which?"), assistant(content, "They ask for one.", spans=spans)], None)
    found = rightly(template_named(f"own/{name}"), row)
    assert found.proofs


@pytest.mark.parametrize("token", ["<|user|>", "<|system|>"])
def test_an_argument_is_not_trained_as_the_token_that_its_name_holds(token: str) -> None:
    row: Row = (
        [
            user("Weather?"),
            assistant("", calls=[call_of("get_weather", {f"a{token}b": "Paris"})]),
            result("21 degrees"),
            assistant("It is sunny."),
        ],
        [tool_of("get_weather", "The weather in a city.", **{f"a{token}b": "The city."})],
    )
    for proof in rightly(template_named("own/all kept"), row).proofs:
        turns, _ = trained(proof, row)
        number = proof.template.tokenizer.convert_tokens_to_ids(token)
        assert all(number not in turn.learnt for turn in turns)


@pytest.mark.parametrize("name", ["glm-4.5", "all kept"])
def test_a_tag_that_a_person_typed_is_served_by_plain_transformers_as_it_was_trained(name: str) -> None:
    row = SUITE["tags in content"]
    native = [proof for proof in rightly(template_named(f"own/{name}"), row).proofs if proof.how != (CHATML,)]
    assert native
    for proof in native:
        (turn,), _ = trained(proof, row)
        assert turn.prompt == served_ids(proof, row[0][:1], None)


def test_call_ids_that_the_template_refuses_are_renamed_with_their_results() -> None:
    row = SUITE["call ids of other lengths"]
    template = template_named("own/mistral")
    found = rightly(template, row)
    assert found.column == "by remedy"
    native = [proof for proof in found.proofs if not {"tools_as_text", CHATML} & {*proof.how}]
    assert native, hows(found)
    for proof in native:
        messages = proof.template.prepared(conversation_of_row(row)).as_dicts()
        called = [call["id"] for call in messages[1]["tool_calls"]]
        assert [len(number) for number in called] == [9, 9] and len({*called}) == 2
        assert [message["tool_call_id"] for message in messages[2:4]] == called


def test_call_ids_of_the_right_length_are_left_alone() -> None:
    messages = [user("a"), assistant("", calls=[call("Paris")]), result("21"), assistant("b")]
    template = template_named("own/mistral")
    assert hows(rightly(template, (messages, TOOLS))) == [()]
    with pytest.raises(TemplateError):
        encode(conversation_of_row(SUITE["call ids of other lengths"]), template)


# What a template does to values, to the order of calls and with the clock


def im(body: str, prompt: str = "", begin: str = "") -> str:
    """A template of ChatML's shape whose turns say ``body``."""
    return (
        f"{begin}{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{body}<|im_end|>\n{{% endfor %}}"
        f"{{% if add_generation_prompt %}}<|im_start|>assistant\n{prompt}{{% endif %}}"
    )


def with_source(source: str) -> ChatTemplate:
    return ChatTemplate(tokenizer_with(source))


CALLS = "{{ m.content }}{% for c in m.tool_calls or [] %}"
NAME = "{{ c.function.name }}"
BOTH = [call("Paris"), call("Lima", 2)]


@pytest.mark.parametrize("past", [False, True])
def test_values_between_quotes_are_escaped_or_the_row_is_refused(past: bool) -> None:
    value = '{% for k, v in c.function.arguments.items() %}"{{ k }}": "{{ v }}"{% endfor %}'
    template = with_source(
        im(CALLS + '<call>{"name": "' + NAME + '", "arguments": { ' + value + " }}</call>{% endfor %}")
    )
    for text, law in (("Say hi.", ""), ('Say "hi".', "faithful"), ("Say\nhi.", "faithful")):
        messages = [user("?"), assistant("", calls=[call_of("say", {"text": text})])]
        if past:
            messages = [*messages, result("Said.", name="say"), assistant("Done.")]
        found = rightly(template, (messages, None))
        assert found.law == law, (text, found.what)
        assert (() in hows(found)) == (not law)


def test_the_arguments_of_one_call_do_not_stand_behind_the_name_of_another() -> None:
    """Names first, arguments after them: which belong together cannot be told, learnt or given."""
    names = CALLS + "<call>" + NAME + "</call>{% endfor %}"
    values = "<args>{{ c.function.arguments | tojson }}</args>{% endfor %}"
    template = with_source(im(names + "{% for c in (m.tool_calls or []) | reverse %}" + values))
    learnt, given = assistant("", calls=BOTH), assistant("", calls=BOTH, train=False)
    refused(template, ([user("?"), learnt], None), "faithful")
    results = [result("21"), result("17", 2)]
    refused(template, ([user("?"), given, *results, assistant("Warm.")], None), "faithful")
    rightly(template, ([user("?"), assistant("", calls=BOTH[:1])], None))


def test_a_value_that_a_template_takes_for_nothing_is_missed() -> None:
    value = "{% for k, v in c.function.arguments.items() %}<{{ k }}>{{ v or '' }}</{{ k }}>{% endfor %}"
    template = with_source(im(CALLS + "<call>" + NAME + value + "</call>{% endfor %}"))
    for arguments in ({"a": False}, {"a": 0}, {"a": None}, {"a": []}):
        refused(template, ([user("?"), assistant("", calls=[call_of("f", arguments)])], None), "faithful")


def test_a_prompt_that_opens_a_block_of_unknown_name_is_served_by_no_answer_without_it() -> None:
    template = with_source(im("{{ m.content }}", prompt="<thought>\n"))
    refused(template, ([user("2 + 2?"), assistant("Four.")], None), "served")
    block = "{% if m.reasoning_content %}<thought>\n{{ m.reasoning_content }}\n</thought>\n{% endif %}"
    thought = im(block + "{{ m.content }}", prompt="<thought>\n")
    rightly(with_source(thought), ([user("2 + 2?"), assistant("Four.")], None))
    rightly(with_source(thought), ([user("2 + 2?"), assistant("Four.", "Two and two.")], None))


def test_a_template_that_is_no_jinja_is_an_error_that_names_the_line() -> None:
    error = refusal(with_source("{% for m in messages %}\n{{% m %}{% endfor %}"), SUITE["one turn"])
    assert error is not None and "no Jinja (line 2" in error.what


def test_a_template_that_writes_the_time_is_proven_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    template = with_source(im("{{ m.content }}", begin="{{ strftime_now('%M:%S') }}\n"))
    row: Row = ([user("Where is Rome?"), assistant("In Italy.")], None)
    seen = set()
    for second in range(3):
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock(second))
        (example,) = encode(conversation_of_row(row), template)
        seen.add(text_of(template.tokenizer, example.input_ids)[:5])
    assert seen == {"00:00", "00:01", "00:02"}


class Clock:
    """Stands for the class ``datetime``; it is ``second`` seconds past the hour."""

    def __init__(self, second: int) -> None:
        self.second = second

    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, 0, self.second)


def test_a_refusal_names_the_parts_of_its_own_row() -> None:
    """Two rows of one kind: what was found of the first says nothing about the second."""
    template = with_source(im("{{ m.content }}"))
    for name in ("alpha", "beta"):
        error = refusal(
            template, ([user("?"), assistant("Yes.", calls=[call_of(name, {f"of_{name}": 1})])], None)
        )
        assert error is not None and name in error.what


def test_an_option_may_be_a_date_as_yaml_reads_it() -> None:
    tokenizer = tokenizer_with(im("{{ m.content }}", begin="{{ day }}\n"))
    template = ChatTemplate(tokenizer, day=date(2024, 7, 26))
    (example,) = encode(conversation_of_row(([user("a"), assistant("b")], None)), template)
    assert text_of(tokenizer, example.input_ids).startswith("2024-07-26\n")


def test_results_that_name_their_tool_get_the_id_of_its_call() -> None:
    names = ("get_weather", "get_time")
    calls = [{"function": call_of(name, {"city": "Lima"})["function"]} for name in names]
    messages = [
        user("Both?"),
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "name": "get_time", "content": "noon"},
        {"role": "tool", "name": "get_weather", "content": "21"},
        assistant("Warm at noon."),
    ]
    tools = [tool_of(name, "Looks it up.", city="The city.") for name in names]
    template = changed(template_named("own/mistral"), ("rename_call_ids",))
    renamed = template.prepared(conversation_of_row((messages, tools))).as_dicts()
    weather, time = (call["id"] for call in renamed[1]["tool_calls"])
    assert [message["tool_call_id"] for message in renamed[2:4]] == [time, weather]


RUNAWAY = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a product of texts": "{{ 'a' * 4000000000 }}",
    "a product of texts of the row": "{{ messages[0].content * 4000000000 }}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a width": "{{ '%4000000000d' % 1 }}",
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a macro that calls itself": "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
}


@pytest.mark.parametrize("how", RUNAWAY)
def test_a_template_without_an_end_is_ended(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 1.0)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = RUNAWAY[how] + PLAIN
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(TemplateError, match="the chat template was ended") as caught:
        encode(conversation_of_row(([user("a"), assistant("b")], None)), ChatTemplate(tokenizer))
    assert not caught.value.remedies and "chatml" in caught.value.fix
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_whatever_a_template_raises_is_an_error_of_it() -> None:
    for source in (
        "{{ 1 // 0 }}",
        "{{ messages[0].content.x.y }}",
        "{{ [] | first | int('x') }}",
        "{{ 'a' ~ f() }}",
    ):
        error = refusal(with_source(source), SUITE["one turn"])
        assert error is not None
