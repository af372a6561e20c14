"""Blocks of reasoning in rendered text: which tags open and close them, and where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Tags:
    """A pair of tags. ``space``: what families that use it write inside and behind the block."""

    open: str
    close: str
    inside: str = ""
    behind: str = ""

    def around(self, reasoning: str) -> str:
        return f"{self.open}{self.inside}{reasoning}{self.inside}{self.close}{self.behind}"


THINK = Tags("<think>", "</think>", "\n", "\n\n")
"""DeepSeek-R1's and Qwen3's, taken where a template has none of its own."""
KNOWN = (
    THINK,
    Tags("[THINK]", "[/THINK]"),
    Tags("<|channel>thought", "<channel|>", "\n"),
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
)


def left_open(text: str) -> Tags | None:
    """The tags of the block that ``text`` opens at its end."""
    return next((tags for tags in KNOWN if text.rstrip().endswith(tags.open)), None)


def just_closed(text: str) -> Tags | None:
    """The tags of the block that ``text`` closes at its end."""
    return next((tags for tags in KNOWN if text.rstrip().endswith(tags.close)), None)


def empty_block(text: str) -> tuple[Tags, int] | None:
    """The tags of the empty block that ``text`` begins with, and where what follows it begins."""
    for tags in KNOWN:
        found = re.match(rf"\s*{re.escape(tags.open)}\s*{re.escape(tags.close)}\s*", text)
        if found:
            return tags, found.end()
    return None


def blocks(text: str) -> tuple[int, int]:
    """How many blocks are opened in ``text``, and how many closed."""
    return sum(text.count(t.open) for t in KNOWN), sum(text.count(t.close) for t in KNOWN)
