"""What a message says: the pieces of it that a rendered turn must hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.data.conversation import TOOL_ROLES

REASONING = ("reasoning_content", "reasoning", "thinking")
"""The names under which rows give reasoning; transformers hands it to templates under all of them."""

_INLINE = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """``name``: what it is, for errors. ``forms``: the ways in which a template may write it."""

    name: str
    forms: tuple[str, ...]

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """(start, end) of the first of its forms in ``text`` that is there."""
        for form in self.forms:
            place = text.find(form, start)
            if place >= 0:
                return place, place + len(form)
        return None


def pieces(message: Mapping[str, Any]) -> list[Piece]:
    """Reasoning, text and tool calls of a message, in this order. White space at the edges does not count."""
    reasoning, text = reasoning_and_text(message)
    found = [Piece("reasoning", (reasoning,))] if reasoning else []
    if text:
        # Llama 3.1's template writes results as JSON strings.
        found.append(Piece("text", _forms(text) if message["role"] in TOOL_ROLES else (text,)))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call
        name = str(function.get("name", ""))
        found.append(Piece(f"tool call {name}", (name,)))
        for leaf in _leaves(function.get("arguments")):
            found.append(Piece(f"tool call {name}: argument {leaf!r}", _forms(leaf)))
    return found


def reasoning_and_text(message: Mapping[str, Any]) -> tuple[str, str]:
    """Both without white space at the edges. Reasoning may also stand in the content, between think tags."""
    content = str(message.get("content") or "")
    reasoning = next((str(message[key]).strip() for key in REASONING if message.get(key)), "")
    if not reasoning and message["role"] == "assistant" and (inline := _INLINE.fullmatch(content)):
        return inline[1].strip(), inline[2].strip()
    return reasoning, content.strip()


def without_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its reasoning taken out, wherever it stood."""
    kept = {key: value for key, value in message.items() if key not in REASONING}
    while message["role"] == "assistant" and (inline := _INLINE.fullmatch(str(kept.get("content") or ""))):
        kept["content"] = inline[2].lstrip()
    return kept


def _leaves(value: Any) -> Iterator[Any]:
    """Keys and plain values of arguments, however deep."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _forms(leaf: Any) -> tuple[str, ...]:
    """JSON with and without ASCII escapes, Python's own, and as it stands (XML kinds)."""
    if isinstance(leaf, str):
        escaped = (json.dumps(leaf, ensure_ascii=False), json.dumps(leaf), repr(leaf))
        return tuple(dict.fromkeys((leaf.strip(), *(form[1:-1] for form in escaped))))
    return tuple(dict.fromkeys((json.dumps(leaf), str(leaf))))
