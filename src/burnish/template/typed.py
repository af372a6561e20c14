"""Special tokens that a person typed, set apart from those that the template writes.

A user who types ``<|im_end|>`` must not end a turn. transformers sets such text apart with a pair of
private characters, and encodes it as plain text (``sanitize_control_tokens``); so do we, with its functions,
for every special token but the tags of reasoning, which rows hold on purpose.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeVar

from transformers.utils.chat_template_utils import mark_control_tokens

from burnish.data.conversation import PRIVATE

START, END = PRIVATE

KEPT = frozenset(("<think>", "</think>", "[THINK]", "[/THINK]"))

Data = TypeVar("Data")


def set_apart(data: Data, special: tuple[str, ...]) -> Data:
    """``data`` (strings in lists and dicts) with every typed special token between the two characters."""
    pattern = _pattern(special)
    if not _holds(data, pattern):
        return data
    marked: Data = mark_control_tokens(data, pattern)
    return marked


def plain(text: str) -> str:
    """Text without the two characters."""
    return text.replace(START, "").replace(END, "")


def without(text: str) -> str:
    """Text without the typed tokens that stand apart in it."""
    return re.sub(f"{START}[^{END}]*{END}", "", text)


def is_apart(text: str) -> bool:
    return START in text or END in text


@lru_cache(maxsize=64)
def _pattern(special: tuple[str, ...]) -> re.Pattern[str]:
    wanted = [re.escape(token) for token in special if token not in KEPT and token.strip()]
    return re.compile("|".join([*wanted, START, END]))


def _holds(data: Any, pattern: re.Pattern[str]) -> bool:
    if isinstance(data, str):
        return pattern.search(data) is not None
    if isinstance(data, dict):
        return any(_holds(value, pattern) for value in data.values())
    return isinstance(data, list | tuple) and any(_holds(value, pattern) for value in data)
