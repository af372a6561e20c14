"""The unit of training: one assistant turn, split by who produces the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """``prompt``: the text that inference serves; ``completion``: the text to learn, which ends in a
    stop token; ``index``: the place of its message in the conversation, from 0."""

    prompt: str
    completion: str
    index: int
