"""The oracle sees what is wrong: templates that lose something, trained by one that proves nothing."""

from __future__ import annotations

from typing import Any

import pytest

import oracle
from burnish.data import Conversation, Source
from burnish.template import ChatTemplate
from burnish.tokens import Encoded, Example
from oracle import Proof, ends, judged, reason_of, template_named
from templates import SUITE


def unproven(conversation: Conversation, template: ChatTemplate) -> list[Example]:
    """What rendering an answer adds to the text before it, up to the end of the turn, is learnt: whatever it
    is."""
    found = []
    tokenizer, messages, tools = template.tokenizer, conversation.as_dicts(), list(conversation.tools) or None
    for index, message in enumerate(conversation.messages):
        if not message.is_learnt:
            continue
        given: dict[str, Any] = {"tools": tools, "chat_template": template.source, "tokenize": False}
        prompt = tokenizer.apply_chat_template(messages[:index], add_generation_prompt=True, **given)
        added = tokenizer.apply_chat_template(messages[: index + 1], **given).removeprefix(prompt)
        stop = next((s for s in ("<|end|>", "</s>", "<|return|>", "<|call|>") if s in added), "")
        learnt = added.partition(stop)[0] + stop if stop else added
        ids, rest = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, learnt))
        weights = [0.0] * len(ids) + [message.weight or 1.0] * len(rest)
        found.append(Example(ids + rest, weights, Source(), (index,), conversation))
    return found


@pytest.fixture(autouse=True)
def _proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode_all(conversations: list[Conversation], template: ChatTemplate) -> list[Encoded]:
        return [Encoded(c, tuple(unproven(c, template))) for c in conversations]

    monkeypatch.setattr(oracle, "encode", unproven)
    monkeypatch.setattr(oracle, "encode_all", encode_all)


def reasons(template: str, kind: str) -> set[str]:
    return {reason_of(fault) for fault in judged(Proof((), template_named(f"own/{template}")), SUITE[kind])}


@pytest.mark.parametrize(
    ("template", "kind", "reason"),
    [
        ("answer", "one turn", "header"),
        ("chinese", "several turns", "header"),
        ("bare token", "one turn", "header"),
        ("half of a header", "one turn", "header"),
        ("falcon", "one turn", "stops"),
        ("glm-4.5, added", "one turn", "stops"),
        ("empty block", "empty thought in content", "blocks"),
        ("first call", "one call twice", "lost: name"),
        ("first call", "parallel calls", "lost: name"),
        ("last call", "two functions", "lost: name"),
        ("last function's call", "two functions, the longer name first", "order: name"),
        ("gpt-oss", "one call twice", "lost: name"),
        ("no past calls", "past call not learnt", "past"),
        ("no past calls", "call and result", "past"),
        ("no tools", "tools named in the question", "tools"),
        ("no tools", "a tool named in the question and called", "tools"),
        ("names of tools", "call and result", "tools"),
        ("first tool", "a tool's name begins another's", "tools"),
        ("parts, a line each", "one turn", ""),
        ("parts, a line each", "several parts", "parts"),
        ("reasoning unless in the answer", "reasoning within the answer", "chance"),
        ("reasoning unless in the answer", "reasoning", ""),
        ("falcon, unasked", "reasoning within the answer", "lost: reasoning"),
        ("all kept", "special tokens in names", "served"),
    ],
)
def test_what_is_trained_unproven_is_found_wrong(template: str, kind: str, reason: str) -> None:
    found = reasons(template, kind)
    assert any(one.startswith(reason) for one in found) if reason else not found


KEEPS_ALL = (
    "one turn",
    "several turns",
    "reasoning",
    "parallel calls",
    "two functions",
    "reasoning with a call",
)


@pytest.mark.parametrize("kind", KEEPS_ALL)
def test_a_template_that_keeps_everything_is_found_right_even_so(kind: str) -> None:
    assert reasons("all kept", kind) == set()


def test_a_stop_token_that_stands_within_calls_is_found_whatever_the_row() -> None:
    template = ChatTemplate(template_named("own/glm-4.5").tokenizer)
    template.__dict__["stop_tokens"] = ("<arg_value>", "</s>")
    assert ends(template) == ("ends: <arg_value> stands within a call",)
