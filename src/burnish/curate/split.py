"""Rows to train on and rows to hold out, without a prompt on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.curate.overlap import prompt_hash
from burnish.data import Conversation


def split(
    conversations: Sequence[Conversation], share: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """(train, held out), about ``share`` of the rows held out, both in their order.

    Rows that begin with the same messages up to the first answer go to the same side: else the model
    would be measured on a prompt that it was trained on. Which prompts are held out depends on their
    text and the seed alone. At least one row is held out where the share asks for any and two prompts
    or more are there.
    """
    sides = held_out_rows([prompt_hash(conversation, seed) for conversation in conversations], share)
    pairs = list(zip(conversations, sides, strict=True))
    return [c for c, held_out in pairs if not held_out], [c for c, held_out in pairs if held_out]


def held_out_rows(prompts: Sequence[bytes], share: float) -> np.ndarray:
    """Whether each row is held out, given the hashes of their prompts: all that ``split`` needs of a row,
    so that rows need not be kept."""
    if not prompts:
        return np.zeros(0, bool)
    hashes = np.frombuffer(b"".join(prompts), dtype=f"S{len(prompts[0])}")
    groups, group_of_row, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    wanted = max(1, round(share * len(prompts))) if share and len(groups) > 1 else 0
    # The groups before this one, in the order of their hashes, do not reach what is wanted.
    held_before = np.cumsum(sizes) - sizes
    held_out = held_before < wanted
    held_out[-1] = False  # something must be left to train on
    return np.asarray(held_out[group_of_row])
