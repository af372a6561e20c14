"""The unit of training: one assistant turn, split by who produces the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """``prompt``: the text that inference serves; ``completion``: the text to learn, which ends in a
    stop token; ``index``: the place of its message in the conversation, from 0.

    ``notes``: what the template does that is no fault but should be known. ``apart``: prompt and
    completion once more, with the special tokens that a person typed set apart from the template's own
    (see ``tokens.ids``); None where nobody typed one.
    """

    prompt: str
    completion: str
    index: int
    notes: tuple[str, ...] = ()
    apart: tuple[str, str] | None = None
