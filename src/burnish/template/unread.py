"""The keys of messages, calls and tools that a template does not read.

A key is read where the text is another one without it, or where the template refuses the messages then. What
the proof of a turn looks for (texts, reasoning, calls and their arguments, tools) is not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from burnish.data.keys import REASONING, shown
from burnish.errors import TemplateError

Messages = Sequence[Mapping[str, Any]]

PROVEN = frozenset({"role", "content", "tool_calls", *REASONING})
PROVEN_OF_CALLS = frozenset({"type", "function", "name", "arguments"})
PROVEN_OF_TOOLS = frozenset({"type", "function", "name", "description", "parameters"})

Asked = tuple[str, str]
"""(a role, or "calls" or "tools"; the key)"""


def asked_keys(messages: Messages, tools: Messages) -> tuple[Asked, ...]:
    """The keys that a template may read or not, in their order."""
    found: dict[Asked, None] = {}
    for message in messages:
        found |= dict.fromkeys((str(message["role"]), key) for key in message if key not in PROVEN)
        for call in message.get("tool_calls") or ():
            found |= dict.fromkeys(("calls", key) for key in _keys(call) if key not in PROVEN_OF_CALLS)
    for tool in tools:
        found |= dict.fromkeys(("tools", key) for key in _keys(tool) if key not in PROVEN_OF_TOOLS)
    return tuple(found)


def unread_keys(
    render: Callable[[Messages, Messages], str], messages: Messages, tools: Messages, asked: Iterable[Asked]
) -> tuple[str, ...]:
    """Those of them that the template does not read, in words. Nothing is said of messages that it refuses:
    the proof of their turns does."""
    try:
        written = render(messages, tools)
    except TemplateError:
        return ()
    return tuple(_in_words(key) for key in asked if _same_without(render, messages, tools, key, written))


def _same_without(
    render: Callable[[Messages, Messages], str], messages: Messages, tools: Messages, asked: Asked, text: str
) -> bool:
    of, key = asked
    if of == "tools":
        tools = [_without(tool, key) for tool in tools]
    elif of == "calls":
        messages = [
            {**m, "tool_calls": [_without(call, key) for call in m["tool_calls"]]}
            if m.get("tool_calls")
            else m
            for m in messages
        ]
    else:
        messages = [_bare(message, key) if message["role"] == of else message for message in messages]
    try:
        return render(messages, tools) == text
    except TemplateError:
        return False


def _in_words(asked: Asked) -> str:
    of, key = asked
    return f"{shown(key)} of {'tool calls' if of == 'calls' else of if of == 'tools' else f'{of} messages'}"


def _keys(thing: Mapping[str, Any]) -> list[str]:
    """Of a call or a tool and of its function."""
    inner = thing.get("function")
    return [*thing, *(inner if isinstance(inner, Mapping) else ())]


def _without(thing: Mapping[str, Any], key: str) -> dict[str, Any]:
    inner = thing.get("function")
    bare = _bare(thing, key)
    return {**bare, "function": _bare(inner, key)} if isinstance(inner, Mapping) else bare


def _bare(thing: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in thing.items() if name != key}
