"""Rows to train on and rows to hold out, without a prompt on both sides."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

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
    groups: dict[str, list[int]] = defaultdict(list)
    for row, conversation in enumerate(conversations):
        groups[_prompt_hash(conversation, seed)].append(row)
    wanted = max(1, round(share * len(conversations))) if share and len(groups) > 1 else 0
    held_out: set[int] = set()
    for key in sorted(groups)[:-1]:
        if len(held_out) >= wanted:
            break
        held_out.update(groups[key])
    rows = list(enumerate(conversations))
    return [c for row, c in rows if row not in held_out], [c for row, c in rows if row in held_out]


def _prompt_hash(conversation: Conversation, seed: int) -> str:
    parts = [str(seed), *([conversation.text] if conversation.text else [])]
    for message in conversation.messages:
        if message.role == "assistant":
            break
        parts += [message.role, message.content.strip().lower()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
