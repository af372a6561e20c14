"""The viewer: each token of an example with its text, its message, and why it is learnt or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from burnish.data import Conversation, Message
from burnish.template import ChatTemplate
from burnish.tokens.example import Example
from burnish.tokens.ids import token_texts
from burnish.tokens.regions import Region, regions


@dataclass(frozen=True)
class ViewedToken:
    """``role``: that of the message it belongs to, "text" in plain text, "template" for what belongs to
    none. ``message``: the message's place in the row, from 0. ``why``: in words."""

    id: int
    text: str
    trained: bool
    weight: float
    role: str
    message: int | None
    why: str


def view(
    example: Example, template: ChatTemplate, row: Conversation | None = None
) -> tuple[ViewedToken, ...]:
    """The tokens of an example as a person wants to read them.

    A message's header belongs to it, and so does what closes it; what the template writes before the first
    message (the token that begins texts, a system prompt that nobody wrote) belongs to none. ``row``: what
    was read from the file, from which it can be told who decided that an answer is not learnt.
    """
    texts = token_texts(template.tokenizer, example.input_ids)
    stops = frozenset(template.stop_ids)
    found = regions(example, template, "".join(texts))
    viewed = []
    for number, (start, end) in enumerate(_extents(texts)):
        token, weight = example.input_ids[number], example.weights[number]
        region = next((r for r in found if r.start < end <= r.end), None)
        if example.conversation is None or not example.turns:
            role, place, why = "text", None, f"plain text, weight {weight:g}"
        elif region is None:
            role, place, why = "template", None, "given: the template writes it"
        else:
            place = region.place
            message = example.conversation.messages[place]
            role = message.role
            if weight:
                why = _learnt(region, texts[number], start, end, token in stops, weight)
            else:
                why = _given(region, start, end, message, example, row)
            place = example.places[place] if example.places else place
        why = why if number else "nothing stands before it"
        trained = weight > 0 and number > 0
        viewed.append(ViewedToken(token, texts[number], trained, weight, role, place, why))
    return tuple(viewed)


def by_message(tokens: Sequence[ViewedToken]) -> list[Sequence[ViewedToken]]:
    """Neighbouring tokens of one message together."""
    groups = groupby(tokens, key=lambda token: (token.message, token.role))
    return [tuple(group) for _, group in groups]


def _extents(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Where each token's text begins and ends. The parts of a character are all where the character is."""
    ends = list(accumulate(map(len, texts)))
    for number in range(len(texts) - 2, -1, -1):
        if not texts[number]:
            ends[number] = ends[number + 1]
    return [(end - max(len(text), 1), end) for text, end in zip(texts, ends, strict=True)]


def _learnt(region: Region, text: str, start: int, end: int, stops: bool, weight: float) -> str:
    counted = "" if weight == 1 else f", weight {weight:g}"
    around = end <= region.said[0] or start >= region.said[1]
    what = (
        "the stop token"
        if stops and around
        else "what the template writes around the answer"
        if around and text.strip()
        else "the answer"
    )
    return f"learnt: {what}{counted}"


def _given(
    region: Region, start: int, end: int, message: Message, example: Example, row: Conversation | None
) -> str:
    if message.role != "assistant" or end <= region.said[0]:
        return "given: the model reads it"
    if region.place in example.turns:
        behind = start >= region.said[1] and not message.spans
        return "given: it stands behind the answer" if behind else "given: a span of weight 0"
    if message.is_learnt:
        return "given: learnt in another example of this row"
    place = example.places[region.place] if example.places else region.place
    said = row.messages[place] if row and place < len(row.messages) else None
    if said is None or said.role != message.role or (example.places and said.is_learnt):
        return "given: not to be learnt here"
    return "given: tokens.train_on leaves it out" if said.is_learnt else "given: the row says not to learn it"
