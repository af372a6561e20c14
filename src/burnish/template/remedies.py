"""What can be done where a template breaks a law, each by a name that a config chooses.

Three kinds. Some change the conversation before it is rendered. Some wrap the template's Jinja source: the
wrapped source is what a run saves, so that plain transformers serves what was trained. Some complete the
completion and leave every prompt as the template renders it. Nothing here is ever chosen silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from burnish.data import Conversation, Message, Source, Span
from burnish.data.conversation import TOOL_ROLES
from burnish.data.keys import REASONING
from burnish.errors import ConfigError, TemplateError
from burnish.template.parts import ID_LENGTH, reasoning_and_text, without_reasoning

REMEDIES = {
    "append_stop": "A stop token is put behind each answer that the template leaves without one.",
    "stop_at_next_turn": "The token that begins the next turn is put behind each answer that the template "
    "leaves without a stop token, and generation stops there, as GLM's models do.",
    "follow_generation_prompt": "The answer is put behind the generation prompt as it is served, though the "
    "template renders finished turns otherwise; a think block that the prompt opens is closed first.",
    "keep_reasoning": "Reasoning that the template drops is put before the answer between think tags.",
    "drop_reasoning": "Reasoning is taken out of the rows.",
    "add_generation_prompt": "The header of an answer, which the template writes only once there is one, "
    "becomes the generation prompt.",
    "merge_system_into_user": "System turns go to the head of the next user turn.",
    "merge_consecutive": "Neighbouring messages of one role become one.",
    "split_turns": "An answer sees the system turns and what was said since the last user turn only.",
    "tools_as_text": "Tools, calls and results become text between tags, in turns that the template knows.",
    "rename_call_ids": "Ids of tool calls, and of the results that answer them, become nine letters and "
    "digits; where there are none, they are given.",
    "tool_role_tool": "Tool results are given to the template under the role tool.",
    "arguments_as_text": "Arguments of tool calls are given to the template as JSON text, not as objects.",
    "content_parts": "Contents are given to the template as lists of parts.",
    "add_bos": "The token that begins every text is put before everything.",
}
"""Name -> what it does, in the order in which they are tried."""


_PRELUDES = (
    "tool_role_tool",
    "split_turns",
    "tools_as_text",
    "merge_system_into_user",
    "arguments_as_text",
    "content_parts",
)
"""Remedies that give the template other messages, in the order in which they are applied."""


@cache
def jinja(name: str) -> str:
    """The source of a template or a part of one in ``template/jinja``.

    A prelude writes nothing. The newline behind its last tag is swallowed (trim_blocks), so that the
    template's first line stays the beginning of a line.
    """
    return files("burnish.template").joinpath("jinja", f"{name}.jinja").read_text("utf-8")


def known(names: Iterable[str]) -> tuple[str, ...]:
    """The names, without repeats; ``ConfigError`` for one that does not exist."""
    chosen = tuple(dict.fromkeys(names))
    if unknown := [name for name in chosen if name not in REMEDIES]:
        raise ConfigError(f"no such remedy: {', '.join(unknown)}", fix=f"There are {', '.join(REMEDIES)}.")
    return chosen


def require_free(options: Iterable[str], taken: Iterable[str]) -> None:
    """``ConfigError`` for an option whose name a template gets from elsewhere, or cannot read."""
    reserved = {"messages", "tools", "documents", "add_generation_prompt", *taken}
    for name in options:
        if name in reserved or not name.isidentifier():
            raise ConfigError(
                f"template.options.{name} cannot be set",
                why="The template gets it from elsewhere." if name in reserved else "It is no name in Jinja.",
                fix="Use a variable that the template reads, such as enable_thinking.",
            )


def wrapped(source: str, remedies: Sequence[str], options: Mapping[str, Any], header: str, bos: str) -> str:
    """The template's source with its remedies around it and its options as defaults.

    ``header``: what add_generation_prompt writes; ``bos``: what add_bos does. Without remedies and options,
    the source as it is.
    """
    before = [_default(name, value) for name, value in options.items()]
    before += [jinja(name) for name in _PRELUDES if name in remedies]
    if "add_bos" in remedies:
        before.append("{{ %s }}{%% set burnish_bos = true %%}\n" % _literal(bos))  # noqa: UP031
    if "add_generation_prompt" in remedies:
        source = source.removesuffix("\n")  # as Jinja does with a last newline
        source += "{%% if add_generation_prompt %%}{{ %s }}{%% endif %%}" % _literal(header)  # noqa: UP031
    return "".join([*before, source])


def prepared(conversation: Conversation, remedies: Sequence[str]) -> Conversation:
    """The conversation with the remedies that change conversations, what they must keep compared. Raises
    ``TemplateError`` for messages that cannot be merged without loss."""
    messages = list(conversation.messages)
    if "drop_reasoning" in remedies:
        messages = [_without_reasoning(message) for message in messages]
    elif "keep_reasoning" in remedies:
        messages = [_with_field(message) for message in messages]
    kept = messages if "drop_reasoning" in remedies else list(conversation.messages)
    if "merge_consecutive" in remedies:
        groups = [
            list(group)
            for _, group in groupby(messages, key=lambda m: (m.role, m.role in TOOL_ROLES and id(m)))
        ]
        messages = [_joined(group, conversation.source) for group in groups]
    if "rename_call_ids" in remedies:
        messages = _with_short_ids(messages)
    made = replace(conversation, messages=tuple(messages))
    if _content_of(kept) != _content_of(messages):
        raise TemplateError(
            f"{conversation.source}: law 'faithful' fails: its messages cannot be merged without loss",
            why="Reasoning or a call between two texts would move, or be left out.",
            fix="Merge the messages in the data, or use a template that takes them one by one.",
            law="faithful",
        )
    return made


def _content_of(messages: Iterable[Message]) -> list[Any]:
    """All that messages say, in its order: roles, reasoning, texts without the white space at their edges,
    and calls. Neighbouring texts of one role are one."""
    found: list[Any] = []

    def say(role: str, kind: str, what: str) -> None:
        if found and found[-1][:2] == (role, kind):
            found[-1] = (role, kind, f"{found[-1][2]} {what}")
        else:
            found.append((role, kind, what))

    for message in messages:
        reasoning, text = reasoning_and_text(message.as_dict())
        if reasoning:
            say(message.role, "reasoning", " ".join(reasoning.split()))
        if text:
            say(message.role, "text", " ".join(text.split()))
        for call in message.extra.get("tool_calls", ()):
            found.append((message.role, "call", call["function"]))
    return found


def _with_short_ids(messages: Sequence[Message]) -> list[Message]:
    """Nine letters and digits for each id of a call, as Mistral's templates ask for; the same one for the
    result that answers it. A call without an id gets one, and a result without one that of the first call
    that has no result yet."""
    found: list[Message] = []
    open_calls: list[tuple[str, str]] = []
    for place, message in enumerate(messages):
        extra = dict(message.extra)
        if extra.get("tool_calls"):
            calls = [
                {**call, "id": _short_id(call.get("id") or f"{place}.{number}")}
                for number, call in enumerate(extra["tool_calls"])
            ]
            extra["tool_calls"] = calls
            open_calls = [(call["id"], call["function"]["name"]) for call in calls]
        if message.role in TOOL_ROLES:
            given, name = extra.get("tool_call_id"), extra.get("name")
            meant = [i for i, called in open_calls if name in (None, called)]
            answered = _short_id(given) if given else next(iter(meant), None)
            if answered:
                extra["tool_call_id"] = answered
                open_calls = [call for call in open_calls if call[0] != answered]
        found.append(replace(message, extra=extra))
    return found


def _short_id(identity: Any) -> str:
    text = str(identity)
    fits = len(text) == ID_LENGTH and text.isascii() and text.isalnum()
    return text if fits else hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _without_reasoning(message: Message) -> Message:
    bare = without_reasoning(message.as_dict())
    content = bare.pop("content")
    bare.pop("role")
    if message.spans and content != message.content:
        moved = len(message.content) - len(content)
        spans = [
            replace(s, start=max(s.start - moved, 0), end=s.end - moved)
            for s in message.spans
            if s.end > moved
        ]
        return replace(message, content=content, extra=bare, spans=tuple(spans), parts=())
    parts = message.parts if content == message.content else ()
    return replace(message, content=content, extra=bare, parts=parts)


def _with_field(message: Message) -> Message:
    """A message whose reasoning stands in a field of its own, not at the head of its content."""
    reasoning, _ = reasoning_and_text(message.as_dict())
    bare = _without_reasoning(message)
    if bare.content == message.content:
        return message
    return replace(bare, extra={**bare.extra, "reasoning_content": reasoning})


def _joined(messages: Sequence[Message], source: Source) -> Message:
    """One message of several, an empty line between their texts."""
    first = messages[0]
    if len(messages) == 1:
        return first
    weights = {message.weight for message in messages} if first.role == "assistant" else {None}
    if weights == {None, 1.0}:
        weights.discard(None)
    if len(weights) > 1:
        raise TemplateError(
            f"{source}: neighbouring {first.role} messages have different weights and cannot be merged",
            fix="Weight them alike, or use a template that takes them one by one.",
        )
    extra: dict[str, Any] = {}
    content, spans = "", list[Span]()
    for message in messages:
        for key, value in message.extra.items():
            if key == "tool_calls" and key in extra:
                value = [*extra[key], *value]
            elif key in REASONING and key in extra:
                value = f"{extra[key]}\n\n{value}"
            elif extra.get(key, value) != value:
                raise TemplateError(
                    f"{source}: neighbouring {first.role} messages differ in {key} and cannot be merged",
                    fix="Merge them in the data, or use a template that takes them one by one.",
                )
            extra[key] = value
        content += "\n\n" if content and message.content else ""
        spans += [replace(s, start=s.start + len(content), end=s.end + len(content)) for s in message.spans]
        content += message.content
    weight = weights.pop()
    return replace(first, content=content, extra=extra, weight=weight, spans=tuple(spans), parts=())


def _default(name: str, value: Any) -> str:
    return "{%% if %s is not defined %%}{%% set %s = %s %%}{%% endif %%}\n" % (name, name, _literal(value))  # noqa: UP031


def _literal(value: Any) -> str:
    """A value as Jinja writes it: JSON, but for none."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, date):  # as YAML reads 2024-07-26
        return repr(value.isoformat())
    return json.dumps(value)
