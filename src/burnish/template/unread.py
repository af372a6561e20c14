"""The keys of messages, calls and tools that a template does not read.

A key is read where the text is another one without it, or where the template refuses the messages then. What
the proof of a turn looks for (texts, reasoning, calls and their arguments, tools) is not asked again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from burnish.data.keys import REASONING, shown
from burnish.errors import TemplateError

Messages = Sequence[Mapping[str, Any]]
Render = Callable[[Messages, Messages], str]

PROVEN = frozenset({"role", "content", "tool_calls", *REASONING})
PROVEN_OF_CALLS = frozenset({"type", "function", "name", "arguments"})
PROVEN_OF_TOOLS = frozenset({"type", "function", "name", "description", "parameters"})

Asked = tuple[str, str]
"""(a role, or "calls" or "tools"; the key)"""
ALONE = 50
"""Keys that are asked for one at a time."""


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
    render: Render, messages: Messages, tools: Messages, asked: Sequence[Asked]
) -> tuple[str, ...]:
    """Those of them that the template does not read, in words. Nothing is said of messages that it refuses:
    the proof of their turns does."""
    try:
        written = render(messages, tools)
    except TemplateError:
        return ()
    if len(asked) > 1 and _same_without(render, messages, tools, asked, written):
        return tuple(map(_in_words, asked))
    # A row may have any number of keys: those behind the first ones are asked for together.
    groups = [[key] for key in asked[:ALONE]] + ([list(asked[ALONE:])] if len(asked) > ALONE else [])
    found = [group for group in groups if _same_without(render, messages, tools, group, written)]
    return tuple(_in_words(key) for group in found for key in group)


def _same_without(
    render: Render, messages: Messages, tools: Messages, asked: Iterable[Asked], text: str
) -> bool:
    keys: dict[str, set[str]] = defaultdict(set)
    for of, key in asked:
        keys[of].add(key)
    bare = []
    for message in messages:
        found = _bare(message, keys[message["role"]])
        if keys["calls"] and found.get("tool_calls"):
            found["tool_calls"] = [_without(call, keys["calls"]) for call in found["tool_calls"]]
        bare.append(found)
    try:
        return render(bare, [_without(tool, keys["tools"]) for tool in tools]) == text
    except TemplateError:
        return False


def _in_words(asked: Asked) -> str:
    of, key = asked
    return f"{shown(key)} of {'tool calls' if of == 'calls' else of if of == 'tools' else f'{of} messages'}"


def _keys(thing: Mapping[str, Any]) -> list[str]:
    """Of a call or a tool and of its function."""
    inner = thing.get("function")
    return [*thing, *(inner if isinstance(inner, Mapping) else ())]


def _without(thing: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    inner = thing.get("function")
    bare = _bare(thing, keys)
    return {**bare, "function": _bare(inner, keys)} if isinstance(inner, Mapping) else bare


def _bare(thing: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {name: value for name, value in thing.items() if name not in keys}
