"""Control tokens that a person typed, marked so that they differ from those that the template writes.

A user who types ``<|im_end|>`` must not end a turn. transformers puts such text between a pair of private
characters and encodes it as plain text (``sanitize_control_tokens``); so does burnish, with its functions and
for the same tokens. In assistant messages the tags of reasoning are not marked, since rows hold them on
purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from transformers.utils.chat_template_utils import mark_control_tokens

from burnish.data.conversation import PRIVATE

START, END = PRIVATE

REASONING_TAGS = frozenset(("<think>", "</think>", "[THINK]", "[/THINK]"))

Data = TypeVar("Data")


def mark(data: Data, control: tuple[str, ...], *, keep_reasoning_tags: bool = False) -> Data:
    """``data`` (strings in lists and dicts) with every typed control token between the two characters. Names
    of dicts stay as they are; see ``token_in_names``."""
    pattern = _pattern(control, keep_reasoning_tags)
    if not _holds(data, pattern):
        return data
    marked: Data = mark_control_tokens(data, pattern)
    return marked


def token_in_names(data: Any, control: tuple[str, ...]) -> str | None:
    """The first name in ``data``'s dicts that holds a control token: a name cannot be marked."""
    pattern = _pattern(control, False)
    return next((name for name in _names(data) if pattern.search(name)), None)


def without_marks(text: str) -> str:
    """The text without the two characters."""
    return text.replace(START, "").replace(END, "")


def without_typed(text: str) -> str:
    """The text without the typed tokens that are marked in it."""
    return re.sub(f"{START}[^{END}]*{END}", "", text)


def is_marked(text: str) -> bool:
    return START in text or END in text


@lru_cache(maxsize=64)
def _pattern(control: tuple[str, ...], keep_reasoning_tags: bool) -> re.Pattern[str]:
    kept = REASONING_TAGS if keep_reasoning_tags else frozenset()
    wanted = [re.escape(token) for token in control if token not in kept and token.strip()]
    return re.compile("|".join([*wanted, START, END]))


def _holds(data: Any, pattern: re.Pattern[str]) -> bool:
    if isinstance(data, str):
        return pattern.search(data) is not None
    if isinstance(data, dict):
        return any(_holds(value, pattern) for value in data.values())
    return isinstance(data, list | tuple) and any(_holds(value, pattern) for value in data)


def _names(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield str(name)
            yield from _names(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _names(value)
