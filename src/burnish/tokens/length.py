"""Rows longer than the limit: what becomes of them, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from burnish.data import Conversation
from burnish.data.conversation import SYSTEM_ROLES
from burnish.template import ChatTemplate
from burnish.tokens.encoding import Encoded, encode_weighted
from burnish.tokens.example import Example

TooLong = Literal["truncate_left", "split", "truncate_right", "drop", "error"]

NOTHING = "nothing to learn"
FATES = {"truncate_left": "shortened", "split": "split", "truncate_right": "cut"}
"""What a row is called of which some could be kept."""


@dataclass(frozen=True)
class Fitted:
    """A row's examples of at most the limit. ``fate``: empty where all of it is trained as it stands.

    ``lost_tokens``, ``lost_trained``: tokens, and trained ones, that the row had and its examples do not.
    """

    examples: tuple[Example, ...]
    fate: str = ""
    reason: str = ""
    lost_tokens: int = 0
    lost_trained: int = 0


def fit(encoded: Encoded, template: ChatTemplate, limit: int, too_long: TooLong) -> Fitted:
    """Bring a row's examples to ``limit`` tokens.

    - ``truncate_left``: the earliest whole exchanges are left out; system turns stay. An example of which
      not even the last exchange fits is dropped.
    - ``split``: several examples, each of whole exchanges behind the system turns.
    - ``truncate_right``: tokens behind the limit are cut off, in the middle of an answer if it comes so.
    - ``drop``, ``error``: left out; the caller makes the error.

    Plain text is cut into pieces (``truncate_left``, ``split``). Examples without a token to learn never
    get through.
    """
    examples: list[Example] = []
    lost = longest = 0
    for example in encoded.examples:
        length = len(example.input_ids)
        if not example.trained_tokens:
            continue
        if length <= limit:
            examples.append(example)
        else:
            longest = max(longest, length)
            found, gone = _shorter(example, template, limit, too_long)
            kept = [e for e in found if e.trained_tokens]
            examples += kept
            lost += gone + _tokens(found) - _tokens(kept)
    if len(examples) == len(encoded.examples) and not longest and examples:
        return Fitted(tuple(examples))
    if longest:
        fate = FATES.get(too_long, "shortened") if examples else "too long"
        if encoded.conversation.text is not None and fate == "shortened":
            fate = "split"
        reason = f"{longest} tokens, at most {limit} fit"
    else:
        fate, reason = NOTHING, "no turn of it is to be learnt"
    trained = sum(e.trained_tokens for e in encoded.examples) - sum(e.trained_tokens for e in examples)
    return Fitted(tuple(examples), fate, reason, max(lost, 0), trained)


def _shorter(
    example: Example, template: ChatTemplate, limit: int, too_long: TooLong
) -> tuple[list[Example], int]:
    """What is kept of an example, and the tokens that are not."""
    length = len(example.input_ids)
    if too_long == "truncate_right":
        ids, weights = example.input_ids[:limit], example.weights[:limit]
        return [replace(example, input_ids=ids, weights=weights)], length - limit
    if too_long in ("drop", "error"):
        return [], length
    if example.conversation is None or not example.turns:
        pieces = _pieces(example, limit)
        return pieces, 0 if pieces else length
    return (_left if too_long == "truncate_left" else _split)(example, template, limit)


def _left(example: Example, template: ChatTemplate, limit: int) -> tuple[list[Example], int]:
    assert example.conversation is not None
    end = example.turns[-1] + 1
    starts = _exchanges(example.conversation, end)
    _, last = _longest(len(starts) - 1, limit, lambda count: _part(example, template, starts[-count], end))
    return last, len(example.input_ids) - _tokens(last)


def _split(example: Example, template: ChatTemplate, limit: int) -> tuple[list[Example], int]:
    assert example.conversation is not None
    end = example.turns[-1] + 1
    edges = [*_exchanges(example.conversation, end), end]
    kept: list[list[Example]] = []
    left_out: list[list[Example]] = []
    place = 0

    def next_part(count: int) -> list[Example]:
        return _part(example, template, edges[place], edges[place + count])

    while place < len(edges) - 1:
        count, part = _longest(len(edges) - 1 - place, limit, next_part)
        if count:
            kept.append(part)
        else:
            left_out.append(next_part(1))
        place += max(count, 1)
    # Each part repeats the system turns, of s tokens: together the parts have (parts - 1) * s too many.
    if not kept:
        return [], len(example.input_ids)
    parts = [*kept, *left_out]
    repeated = sum(map(_tokens, parts)) - len(example.input_ids)
    system = repeated / (len(parts) - 1) if len(parts) > 1 else 0.0
    lost = sum(map(_tokens, left_out)) - system * len(left_out)
    return [e for part in kept for e in part], round(lost)


def _longest(exchanges: int, limit: int, part: Callable[[int], list[Example]]) -> tuple[int, list[Example]]:
    """The most of so many exchanges whose examples fit, and these; 0 where not one does. More exchanges have
    more tokens: the number is doubled, then halved between the last that fits and the first that does not,
    since a ``part`` of hundreds takes long to make."""
    fits, found, beyond = 0, list[Example](), exchanges + 1
    while beyond - fits > 1:
        count = min(2 * fits or 1, (fits + beyond) // 2)
        made = part(count)
        if all(len(example.input_ids) <= limit for example in made):
            fits, found = count, made
        else:
            beyond = count
    return fits, found


def _tokens(examples: Sequence[Example]) -> int:
    return sum(len(example.input_ids) for example in examples)


def _pieces(example: Example, limit: int) -> list[Example]:
    """Plain text in pieces. Each begins with the last token of the one before, given and not learnt, so that
    every token is predicted from something."""
    if limit < 2:
        return []
    pieces = []
    for start in range(0, len(example.input_ids) - 1, limit - 1):
        ids, weights = example.input_ids[start : start + limit], example.weights[start : start + limit]
        pieces.append(replace(example, input_ids=ids, weights=[0.0, *weights[1:]] if start else weights))
    return pieces


def _exchanges(conversation: Conversation, end: int) -> list[int]:
    """Where exchanges begin: at the first message behind the system turns, and at user turns."""
    roles = [message.role for message in conversation.messages[:end]]
    head = next((i for i, role in enumerate(roles) if role not in SYSTEM_ROLES), end)
    starts = (i for i in range(head + 1, end) if roles[i] == "user" and roles[i - 1] != "user")
    return [head, *starts]


def _part(example: Example, template: ChatTemplate, first: int, end: int) -> list[Example]:
    """The exchanges from ``first`` up to ``end``, behind all system turns so far, with what the example
    trains in them."""
    conversation = example.conversation
    assert conversation is not None
    messages = conversation.messages
    # The others are given, not learnt: they belong to other examples of the row.
    places = [i for i in range(end) if i >= first or messages[i].role in SYSTEM_ROLES]
    kept = tuple(
        messages[i]
        if i in example.turns or messages[i].role != "assistant"
        else replace(messages[i], weight=0.0, spans=())
        for i in places
    )
    found = encode_weighted(replace(conversation, messages=kept), template)
    return [replace(part, places=tuple(places)) for part in found]
