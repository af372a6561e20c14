"""The unit of training: one assistant turn, split by who produces the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """``prompt``: the text that inference serves; ``completion``: the text to learn, which ends in a
    stop token; ``index``: the place of its message in the conversation, from 0.

    ``content_at``: the place in the completion of the content's first character, below 0 where the
    template trims it; None where the content does not stand there as it was written. ``notes``: what the
    template does that is no fault but should be known. ``marked``: prompt and completion once
    more, with the control tokens that a person typed marked (``typed_tokens``); None where nobody typed one.
    """

    prompt: str
    completion: str
    index: int
    content_at: int | None = None
    notes: tuple[str, ...] = ()
    marked: tuple[str, str] | None = None
