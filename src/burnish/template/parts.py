"""What messages and tools say, part by part, and the same conversation with invented parts.

A short text is found in a rendered prompt by chance: an ``a`` stands in ``assistant``, and the name of a
tool in the question. An invented one is found where the template wrote it and nowhere else::

    {"role": "user", "content": " b "}          {"role": "user", "content": " burnishaaaatext "}
    {"name": "add", "arguments": {"x": 1}}      {"name": "burnishaaabtext",
                                                 "arguments": {"burnishaaactext": 730000003}}

White space at the edges, think tags, types, roles and the length of ids stay as they are, since templates
look at them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.data.conversation import TOOL_ROLES
from burnish.data.keys import REASONING

Messages = Sequence[Mapping[str, Any]]

_INLINE = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
_TAGS = re.compile(r"(<[^<>\s][^<>]{0,60}>|\[/?[A-Z_]+\])")
"""What a template may look for in a content."""

NAMES = re.compile(r"burnish[a-z]{4}text|burnid\d{3}|730\d{6}(?:\.5)?")
NUMBER = 730_000_000

ID_LENGTH = 9

TOOLS = -1
"""The place of what belongs to no message."""

Kind = Literal["reasoning", "text", "call", "argument", "tool", "schema", "result name"]


@dataclass(frozen=True)
class Part:
    """``message``: the place of its message, from 0, or ``TOOLS``. ``label``: what it is, for errors.
    ``shown``: what stands for it in the invented conversation."""

    message: int
    kind: Kind
    label: str
    shown: str


@dataclass
class Invention:
    """The conversation with invented parts. ``forms``: for each invented name the ways in which a template
    may write what it stands for."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    forms: dict[str, tuple[str, ...]] = field(default_factory=dict)


def invented_name(number: int) -> str:
    """Letters only, which no template has a reason to change; no name is part of another, and they sort by
    their numbers, so that a template that sorts keys does with these what it did with the row's."""
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))
    return f"burnish{letters}text"


def invented(messages: Messages, tools: Messages, *, keep_tags: bool = False) -> Invention:
    """The conversation with an invented name for each part that it says. ``keep_tags``: tags within contents
    stay, for templates that look for them there."""
    inventor = _Inventor(keep_tags)
    made = inventor.made
    made.tools = [inventor.tool(tool) for tool in tools]
    for number, message in enumerate(messages):
        inventor.message = number
        made.messages.append(inventor.of_message(message))
    return made


class _Inventor:
    """Counts the names given so far. ``calls``: id, real name and invented name of calls without a result."""

    def __init__(self, keep_tags: bool) -> None:
        self.made, self.keep_tags, self.message = Invention(), keep_tags, TOOLS
        self.calls: list[tuple[Any, str, str]] = []
        self.ids: dict[str, str] = {}

    def name(self, *forms: str) -> str:
        name = invented_name(len(self.made.forms))
        self.made.forms[name] = tuple(dict.fromkeys(forms))
        return name

    def part(self, kind: Kind, label: str, shown: str) -> str:
        self.made.parts.append(Part(self.message, kind, label, shown))
        return shown

    def of_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(message)
        reasoning, _ = reasoning_and_text(message)
        if name := reasoning and self.part("reasoning", "reasoning", self.name(reasoning)):
            for key in REASONING:
                if found.get(key):
                    found[key] = _within(str(found[key]), name)
        content = str(message.get("content") or "")
        head = reasoning_block(message)  # with reasoning, or an empty block of it
        rest = content[len(head) :]
        if head and reasoning and not any(message.get(key) for key in REASONING):
            head = head.replace(reasoning, name, 1)
        if text := rest.strip():
            shown = self.part("text", "text", self.text(text, json_too=message["role"] in TOOL_ROLES))
            found["content"] = head + _within(rest, shown)
        elif head:
            found["content"] = head + rest
        if message.get("tool_calls"):
            found["tool_calls"] = [self.call(call) for call in message["tool_calls"]]
        if message.get("tool_call_id"):
            found["tool_call_id"] = self.identity(message["tool_call_id"])
        if message["role"] in TOOL_ROLES and message.get("name"):
            found["name"] = self.result_name(message)
        return found

    def text(self, text: str, *, json_too: bool) -> str:
        """``json_too``: Llama 3.1's template writes results as JSON strings."""
        if not self.keep_tags:
            return self.name(*(_forms(text) if json_too else (text,)))
        pieces = [
            _within(p, self.name(p.strip())) if n % 2 == 0 and p.strip() else p
            for n, p in enumerate(_TAGS.split(text))
        ]
        named = any(n % 2 == 0 and p.strip() for n, p in enumerate(_TAGS.split(text)))
        return "".join(pieces) if named else self.name(text)

    def call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call.get("function") or call
        name = str(function.get("name", ""))
        label = f"tool call {name}"
        shown = self.part("call", label, self.name(*_forms(name)))
        self.calls.append((call.get("id"), name, shown))
        made = {**function, "name": shown}
        if "arguments" in function:
            made["arguments"] = self.value(function["arguments"], label)
        outer = {**call, "id": self.identity(call["id"])} if call.get("id") else call
        return {**outer, "function": made} if call.get("function") else {**outer, **made}

    def identity(self, given: Any) -> str:
        """For the id of a call and of its results. Mistral's templates ask for nine characters."""
        text = str(given)
        if text not in self.ids:
            if len(text) == ID_LENGTH and len(self.ids) < 1000:
                self.ids[text] = f"burnid{len(self.ids):03}"
                self.made.forms[self.ids[text]] = (text,)
            else:
                self.ids[text] = self.name(*_forms(text))
        return self.ids[text]

    def value(self, value: Any, label: str) -> Any:
        """Keys and plain values of arguments, however deep. True, false and null say too little to be
        named."""
        if isinstance(value, Mapping):
            names = self.keys(value, "argument", label)
            return {names[key]: self.value(inner, label) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner, label) for inner in value]
        if value is None or isinstance(value, bool):
            return value
        label = f"{label}: argument {value!r}"
        if isinstance(value, str):
            if not value.strip():
                return value
            return _within(value, self.part("argument", label, self.name(*_forms(value.strip()))))
        other = NUMBER + len(self.made.forms) + (0.5 if isinstance(value, float) else 0)
        self.made.forms[str(other)] = tuple(dict.fromkeys((json.dumps(value), str(value))))
        self.part("argument", label, str(other))
        return other

    def keys(self, mapping: Mapping[str, Any], kind: Kind, label: str) -> dict[str, str]:
        """Names that sort as the keys do, as templates sort them (``dictsort``): whatever their case."""
        return {
            key: self.part(kind, f"{label}: argument {str(key)!r}", self.name(*_forms(str(key))))
            for key in sorted(mapping, key=lambda key: (str(key).lower(), str(key)))
        }

    def result_name(self, message: Mapping[str, Any]) -> str:
        """That of the call that it answers: templates compare the two."""
        real = str(message["name"])
        for number, (identity, name, shown) in enumerate(self.calls):
            given = message.get("tool_call_id")
            if (identity == given and identity is not None) or (given is None and name == real):
                del self.calls[number]
                return shown if name == real else self.part("result name", "name", self.name(*_forms(real)))
        return self.part("result name", "name", self.name(*_forms(real)))

    def tool(self, tool: Any) -> Any:
        if not isinstance(tool, Mapping):
            return tool
        function = tool.get("function") or tool
        name = str(function.get("name", ""))
        made = dict(function)
        if name:
            made["name"] = self.part("tool", f"tool {name}", self.name(*_forms(name)))
        for key, value in function.items():
            if key != "name":
                made[key] = self.schema(value, key, f"tool {name}")
        return {**tool, "function": made} if tool.get("function") else made

    def schema(self, value: Any, key: str, label: str) -> Any:
        """A JSON schema with other descriptions and property names."""
        if key == "description" and isinstance(value, str) and value.strip():
            label = f"description of {label}"
            return _within(value, self.part("schema", label, self.name(*_forms(value.strip()))))
        if isinstance(value, Mapping):
            if not isinstance(value.get("properties"), Mapping):
                return {inner: self.schema(v, inner, label) for inner, v in value.items()}
            names = self.keys(value["properties"], "schema", label)
            made: dict[str, Any] = {}
            for inner, v in value.items():
                if inner == "properties":
                    made[inner] = {
                        names[k]: self.schema(s, "", f"{label}: argument {k!r}") for k, s in v.items()
                    }
                elif inner == "required" and isinstance(v, list):
                    made[inner] = [names.get(k, k) if isinstance(k, str) else k for k in v]
                else:
                    made[inner] = self.schema(v, inner, label)
            return made
        if isinstance(value, list):
            return [self.schema(inner, "", label) for inner in value]
        return value


def with_another_switch(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The message with one true, false or null of its calls' arguments changed, each in turn: these say too
    little to have an invented name, but a template that keeps them writes something else then."""
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or call
        for arguments in _switched(function.get("arguments")):
            made = {**function, "arguments": arguments}
            calls = list(message["tool_calls"])
            calls[number] = {**call, "function": made} if call.get("function") else made
            yield {**message, "tool_calls": calls}


def _switched(value: Any) -> Iterator[Any]:
    if value is None or isinstance(value, bool):
        yield not value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in _switched(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in _switched(inner))


def reasoning_and_text(message: Mapping[str, Any]) -> tuple[str, str]:
    """Both without white space at the edges. Reasoning may also stand in the content, between think tags."""
    content = str(message.get("content") or "")
    reasoning = next((str(message[key]).strip() for key in REASONING if message.get(key)), "")
    if not reasoning and (head := reasoning_block(message)):
        return head.strip().removeprefix("<think>").removesuffix("</think>").strip(), content[
            len(head) :
        ].strip()
    return reasoning, content.strip()


def reasoning_block(message: Mapping[str, Any]) -> str:
    """The block of reasoning that an assistant's content begins with, its tags included; of a message that
    has its reasoning in a field only an empty one."""
    inline = _INLINE.fullmatch(str(message.get("content") or "")) if message["role"] == "assistant" else None
    if inline is None or (inline[1].strip() and any(message.get(key) for key in REASONING)):
        return ""
    return str(message["content"])[: inline.start(2)]


def without_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its reasoning taken out, wherever it stood."""
    kept = {key: value for key, value in message.items() if key not in REASONING}
    while message["role"] == "assistant" and (inline := _INLINE.fullmatch(str(kept.get("content") or ""))):
        kept["content"] = inline[2].lstrip()
    return kept


@dataclass(frozen=True)
class Piece:
    """``kind``: of the part that it is. ``forms``: the ways in which a template may write it."""

    kind: Kind
    forms: tuple[str, ...]

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """(start, end) of the first of its forms in ``text`` that is there."""
        for form in self.forms:
            place = text.find(form, start)
            if place >= 0:
                return place, place + len(form)
        return None


def content_pieces(message: Mapping[str, Any]) -> list[Piece]:
    """Reasoning, text, names and arguments of calls of a message, in this order."""
    made = invented([message], ())
    found = [Piece(part.kind, made.forms[part.shown]) for part in made.parts if part.shown in made.forms]
    return sorted(found, key=lambda piece: piece.kind not in ("reasoning", "text"))


def _within(text: str, name: str) -> str:
    """``name`` with the white space around ``text``."""
    core = text.strip()
    place = text.find(core)
    return text[:place] + name + text[place + len(core) :]


def _forms(text: str) -> tuple[str, ...]:
    """As it stands (XML kinds), as JSON with and without ASCII escapes, and as Python writes it."""
    escaped = (json.dumps(text, ensure_ascii=False), json.dumps(text), repr(text))
    return tuple(dict.fromkeys((text, *(form[1:-1] for form in escaped))))
