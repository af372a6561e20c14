"""The keys that rows and what stands in them may have, and what becomes of the others.

A key that nothing reads is counted and said (``Conversation.unread``). Three kinds are refused, since what
they say would be lost without a trace: the slip of the pen, ``"trian": false``; the marks with which other
trainers choose what is learnt; and content where nothing reads it, such as a row's ``system``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from burnish.errors import DataError

REASONING = ("reasoning_content", "reasoning", "thinking")
"""The names under which rows give reasoning; transformers hands it to templates under all of them."""

MEDIA = ("image", "images", "audio", "audios", "video", "videos")

MARKS = ("train", "weight", "spans")
"""What a message says of its own part in the loss."""

ROW_KEYS = frozenset({"messages", "tools"})
TEXT_ROW_KEYS = frozenset({"text"})
MESSAGE_KEYS = frozenset(
    {"role", "content", *MARKS, "tool_calls", "function_call", "tool_call_id", "name", *REASONING}
)
PART_KEYS = frozenset({"type", "text", "value", "thinking", "function"})
CALL_KEYS = frozenset({"id", "type", "function", "name", "arguments"})
TOOL_KEYS = frozenset({"type", "function", "name", "description", "parameters"})

FOREIGN_MARKS = (
    "loss",
    "loss_mask",
    "loss_scale",
    "loss_weight",
    "mask",
    "masked",
    "trainable",
    "training",
    "train_detail",
    "training_detail",
    "output_with_loss",
)
"""The names under which other trainers' rows say the same."""

FOREIGN_ARGUMENTS = ("parameters", "args", "kwargs", "input", "params")
"""The names under which other programs' calls give their arguments."""

LONGEST = 40
"""Characters of a key that are shown; a longer one is no slip."""

_SYSTEM = 'Write it as the first message: {"role": "system", "content": ...}.'
_TEXT_ONLY = "burnish trains on text only. Take the row out."
ROW_CONTENT = {
    "system": _SYSTEM,
    "system_prompt": _SYSTEM,
    "system_message": _SYSTEM,
    "functions": 'Write them under tools, each as {"type": "function", "function": {...}}.',
    "documents": "Write them into a message.",
    "chat_template_kwargs": "Set template.options for the whole run, or take it out.",
    **dict.fromkeys(MEDIA, _TEXT_ONLY),
}
"""Keys of a row whose content other programs put before the model, and where it belongs here."""


def require_known(given: Mapping[Any, Any], known: frozenset[str], where: str) -> None:
    """Raises ``DataError`` for a mark of another trainer, and for a key that is nearly a known one that is
    not there: ``context`` beside ``content`` is a key of its own."""
    unknown = given.keys() - known
    for key in sorted(str(key) for key in unknown if given[key] is not None) if unknown else ():
        if key in FOREIGN_MARKS:
            raise DataError(
                f"{where} has the key {shown(key)}, which says what is learnt in the rows of another trainer",
                why="burnish does not read it, and would train what it may exclude.",
                fix='Say it of each assistant message: "train": false, "weight": 0.3, or spans; then take '
                f"{shown(key)} out.",
            )
        if meant := nearest(key, known.difference(given)):
            raise DataError(
                f"{where} has the unknown key {shown(key)}; did you mean {meant}?",
                why="What it says would be lost.",
                fix=f"Write {meant}, or give the key another name if it is a remark.",
            )


def require_no_row_content(row: Mapping[str, Any], where: str) -> None:
    """Raises ``DataError`` for content and marks that stand on the row and not in its messages."""
    for key in sorted(row.keys() & ROW_CONTENT.keys()):
        if row[key] and not _stands_first(row, key):
            raise DataError(
                f"{where}: {shown(key)} stands beside what is trained",
                why="Nothing reads it there: the model would be trained without it.",
                fix=ROW_CONTENT[key],
            )
    if marks := [key for key in MARKS if row.get(key) is not None]:
        raise DataError(
            f"{where}: {shown(marks[0])} stands beside what is trained",
            why="Messages say what of them is learnt, rows do not: it would have no effect.",
            fix=f"Write {marks[0]} into each assistant message that it is meant for.",
        )


def _stands_first(row: Mapping[str, Any], key: str) -> bool:
    """Whether the first message says the same."""
    messages = row.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    return isinstance(first, Mapping) and first.get("role") == "system" and first.get("content") == row[key]


def unread(given: Mapping[Any, Any], known: Iterable[str], of: str) -> list[str]:
    """What is said of the keys that nothing reads."""
    others = [key for key in given if key not in known and given[key] is not None]
    return [f"{shown(str(key))} of {of}" for key in others]


def shown(key: str) -> str:
    return repr(key if len(key) <= LONGEST else f"{key[: LONGEST - 3]}...")


def nearest(key: str, known: frozenset[str]) -> str | None:
    """The known key that was meant, where there is one."""
    return _nearest(key, known) if len(key) <= LONGEST else None


@lru_cache(maxsize=4096)
def _nearest(key: str, known: frozenset[str]) -> str | None:
    near = [name for name in sorted(known) if _is_slip(_folded(key), _folded(name))]
    return max(near, key=lambda name: SequenceMatcher(None, key, name).ratio(), default=None)


def _folded(key: str) -> str:
    """``toolCalls``, ``tool-calls`` and ``tool_calls`` are one."""
    return re.sub(r"[\W_]+", "", key).lower()


def _is_slip(key: str, name: str) -> bool:
    """One letter is missing, too many, wrong or in its neighbour's place; in a long name also two."""
    if abs(len(key) - len(name)) > 2:
        return False
    start = next((n for n, (a, b) in enumerate(zip(key, name, strict=False)) if a != b), None)
    if start is None:
        return abs(len(key) - len(name)) <= 1
    one, other = key[start:], name[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    if max(len(one), len(other)) <= 1:
        # Among four letters another one makes another word: game, same, name.
        return len(one) != len(other) or len(key) > 4
    if len(one) == len(other) == 2 and one == other[::-1]:
        return True
    return SequenceMatcher(None, key, name).ratio() >= 0.9
