"""Rows longer than the limit: what becomes of them, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from burnish.data import Conversation
from burnish.data.conversation import SYSTEM_ROLES
from burnish.template import ChatTemplate
from burnish.tokens.encode import Encoded, encode_turns
from burnish.tokens.example import Example

TooLong = Literal["truncate_left", "split", "truncate_right", "drop", "error"]


@dataclass(frozen=True)
class Fitted:
    """A row's examples of at most the limit. ``fate``: empty where all of it is trained as it stands.

    ``lost_tokens``, ``lost_trained``: tokens, and trained ones, that the row had and its examples do not;
    below 0 where parts of a split row repeat its system turn.
    """

    examples: tuple[Example, ...]
    fate: str = ""
    reason: str = ""
    lost_tokens: int = 0
    lost_trained: int = 0


def fit(encoded: Encoded, template: ChatTemplate, limit: int, too_long: TooLong) -> Fitted:
    """Bring a row's examples to ``limit`` tokens.

    - ``truncate_left``: the earliest whole exchanges are left out; the system turn stays. An example of
      which not even the last exchange fits is dropped.
    - ``split``: several examples, each of whole exchanges behind the system turn.
    - ``truncate_right``: tokens behind the limit are cut off, in the middle of an answer if it comes so.
    - ``drop``, ``error``: left out; the caller makes the error.

    Plain text is cut into pieces (``truncate_left``, ``split``). Examples without a token to learn never
    get through.
    """
    examples: list[Example] = []
    fates: list[str] = []
    longest = max((len(e.input_ids) for e in encoded.examples), default=0)
    for example in encoded.examples:
        if not example.trained_tokens:
            fates.append("nothing to learn")
        elif len(example.input_ids) <= limit:
            examples.append(example)
        else:
            found = _SHORTER[too_long](example, template, limit)
            found = [e for e in found if e.trained_tokens]
            fates.append(_FATES[too_long] if found else "too long")
            examples += found
    if not fates:
        return Fitted(tuple(examples), *(() if examples else ("nothing to learn", "no turn is to be learnt")))
    reason = f"{longest} tokens, at most {limit} fit" if longest > limit else "no token is to be learnt"
    fate = (
        fates[0]
        if len(set(fates)) == 1 or not examples
        else next(f for f in fates if f != "nothing to learn")
    )
    if examples and fate in ("too long", "nothing to learn"):
        fate = "shortened"
    return Fitted(
        tuple(examples),
        fate,
        reason,
        sum(len(e.input_ids) for e in encoded.examples) - sum(len(e.input_ids) for e in examples),
        sum(e.trained_tokens for e in encoded.examples) - sum(e.trained_tokens for e in examples),
    )


def _left(example: Example, template: ChatTemplate, limit: int) -> list[Example]:
    if example.conversation is None or not example.turns:
        return _pieces(example, limit)
    _, starts = _exchanges(example.conversation, example.turns[-1])
    for first in starts[1:]:
        found = _part(example, template, first, example.turns[-1] + 1)
        if all(len(e.input_ids) <= limit for e in found):
            return found
    return []


def _split(example: Example, template: ChatTemplate, limit: int) -> list[Example]:
    if example.conversation is None or not example.turns:
        return _pieces(example, limit)
    _, starts = _exchanges(example.conversation, example.turns[-1])
    edges = [*starts, example.turns[-1] + 1]
    found: list[Example] = []
    place = 0
    while place < len(starts):
        best: list[Example] = []
        after = place + 1
        for end in range(place + 1, len(edges)):
            part = _part(example, template, edges[place], edges[end])
            if any(len(e.input_ids) > limit for e in part):
                break
            best, after = part, end
        found += best
        place = after
    return found


def _right(example: Example, template: ChatTemplate, limit: int) -> list[Example]:
    return [replace(example, input_ids=example.input_ids[:limit], weights=example.weights[:limit])]


def _none(example: Example, template: ChatTemplate, limit: int) -> list[Example]:
    return []


_SHORTER: dict[TooLong, Callable[[Example, ChatTemplate, int], list[Example]]] = {
    "truncate_left": _left,
    "split": _split,
    "truncate_right": _right,
    "drop": _none,
    "error": _none,
}
_FATES = {
    "truncate_left": "shortened",
    "split": "split",
    "truncate_right": "cut",
    "drop": "too long",
    "error": "too long",
}


def _pieces(example: Example, limit: int) -> list[Example]:
    """Plain text in pieces of the limit."""
    edges = range(0, len(example.input_ids), limit)
    return [
        replace(example, input_ids=example.input_ids[a : a + limit], weights=example.weights[a : a + limit])
        for a in edges
    ]


def _exchanges(conversation: Conversation, last: int) -> tuple[list[int], list[int]]:
    """(places of the system turns at the head, places where exchanges begin: at user turns)."""
    roles = [message.role for message in conversation.messages[: last + 1]]
    head = next((i for i, role in enumerate(roles) if role not in SYSTEM_ROLES), len(roles))
    starts = [
        i for i, role in enumerate(roles) if i >= head and role == "user" and roles[i - 1 : i] != ["user"]
    ]
    return list(range(head)), sorted({head, *starts}) if head < len(roles) else []


def _part(example: Example, template: ChatTemplate, first: int, end: int) -> list[Example]:
    """The exchanges from ``first`` up to ``end``, behind the system turns, with what the example trains."""
    conversation = example.conversation
    assert conversation is not None
    head, _ = _exchanges(conversation, end - 1)
    kept: Sequence[int] = [*head, *range(max(first, len(head)), end)]
    only = [new for new, old in enumerate(kept) if old in example.turns]
    if not only:
        return []
    part = replace(conversation, messages=tuple(conversation.messages[i] for i in kept))
    return list(encode_turns(part, template, only))
