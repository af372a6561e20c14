"""Tool calls and tools as rows give them, in the form that templates are written for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from burnish.data.keys import CALL_KEYS, FOREIGN_ARGUMENTS, TOOL_KEYS, require_known
from burnish.errors import DataError

DEEPEST = 100
"""Objects and lists within one another, in calls, tools and whatever else a row says of a message; what
walks them calls itself once a level."""


def tool_calls_of(raw: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Tool calls in the form that templates are written for: arguments as objects, under ``function``."""
    if raw.get("tool_calls") and raw.get("function_call"):
        raise DataError(
            f"{where} has tool_calls and a function_call", why="One of them is read.", fix="Keep tool_calls."
        )
    calls = raw.get("tool_calls") or ([raw["function_call"]] if raw.get("function_call") else [])
    if not isinstance(calls, list | tuple) or not all(isinstance(call, Mapping) for call in calls):
        raise DataError(f"{where}: its tool_calls are no list of objects", fix="Write a list of calls.")
    found = []
    for call in calls:
        function = call.get("function") or {key: call[key] for key in ("name", "arguments") if key in call}
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise DataError(
                f"{where}: a tool call has no name",
                fix='Write {"type": "function", "function": {"name": ..., "arguments": {...}}}.',
            )
        _require_whole_call(call, function, f"{where}: the call of {function['name']}")
        arguments = _arguments(function.get("arguments"), f"{where}: the call of {function['name']}")
        outer = {key: value for key, value in call.items() if key not in ("function", "name", "arguments")}
        inner = {**function, "arguments": arguments}
        found.append({"type": "function", **outer, "function": inner})
    return found


def _require_whole_call(call: Mapping[str, Any], function: Mapping[str, Any], where: str) -> None:
    """Its name and arguments stand where they are read, and nowhere else."""
    if call.get("function"):
        require_known(call, CALL_KEYS, where)
        if beside := [key for key in ("name", "arguments") if call.get(key) is not None]:
            raise DataError(
                f"{where}: {' and '.join(beside)} stand beside its function",
                why="Only what stands in the function is read.",
                fix='Write {"type": "function", "function": {"name": ..., "arguments": {...}}}.',
            )
    require_known({**call, **function}, CALL_KEYS, where)
    given = {**call, **function}
    foreign = [key for key in FOREIGN_ARGUMENTS if given.get(key)]
    if foreign and function.get("arguments") is None:
        raise DataError(
            f"{where}: its {foreign[0]} are not read, and it has no arguments",
            why="The model would learn to call it without any.",
            fix="Write them under arguments.",
        )


def _arguments(given: Any, where: str) -> dict[str, Any]:
    """Arguments as an object; text is read as JSON, nothing is an empty object."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return {}
    try:
        parsed = json.loads(given, object_pairs_hook=_without_repeats) if isinstance(given, str) else given
        json.dumps(parsed, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{where}: its arguments are no JSON ({str(error)[:80]})",
            why="The model would learn to write calls that no program reads.",
            fix='Write an object, such as {"city": "Paris"}, or its JSON as text.',
        ) from error
    if not isinstance(parsed, Mapping):
        raise DataError(
            f"{where}: its arguments are {type(parsed).__name__}, not an object",
            fix='Write an object, such as {"city": "Paris"}.',
        )
    return dict(parsed)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def require_tools(tools: Sequence[Any], where: str) -> None:
    """Raises ``DataError`` for a tool that is no object, or says what nothing reads."""
    for number, tool in enumerate(tools, 1):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping):
            raise DataError(
                f"{where}: tool {number} is no object, or its function is none",
                why="The model would be told of no tool.",
                fix='Write {"type": "function", "function": {"name": ..., "description": ..., "parameters": '
                "{...}}}.",
            )
        require_known(tool, TOOL_KEYS, f"{where}: tool {number}")
        require_known(function, TOOL_KEYS, f"{where}: tool {number}")
        require_shallow(function, f"{where}: tool {number}")


def require_shallow(value: Any, where: str) -> None:
    """Raises ``DataError`` for what is nested deeper than anything that a row has to say."""
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _within(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise DataError(
                f"{where}: it holds objects or lists more than {DEEPEST} deep",
                why="No template can be proven to write them.",
                fix="Flatten it, or take the row out.",
            )


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
