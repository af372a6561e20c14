"""The viewer: each token of an example with its text, its message, and why it is learnt or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from burnish.data import Conversation, Message
from burnish.errors import TemplateError
from burnish.template import ChatTemplate, typed
from burnish.template.said import Piece, pieces
from burnish.template.stops import shared_length
from burnish.tokens.example import Example
from burnish.tokens.ids import token_texts


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


def view(example: Example, template: ChatTemplate) -> tuple[ViewedToken, ...]:
    """The tokens of an example as a person wants to read them.

    A message's header belongs to it, and so does what closes it; what the template writes before the first
    message (the token that begins texts, a system prompt that nobody wrote) belongs to none.
    """
    texts = token_texts(template.tokenizer, example.input_ids)
    edges = _edges(example, template, "".join(texts))
    tokens = zip(example.input_ids, texts, example.weights, accumulate(map(len, texts)), strict=True)
    stops = frozenset(template.stop_ids)
    viewed = []
    for number, (token, text, weight, end) in enumerate(tokens):
        place = next((n for n, edge in enumerate(edges) if end <= edge), len(edges)) - 1
        message = _message(example, place)
        trained = weight > 0 and number > 0
        role = message.role if message else "template" if example.conversation and example.turns else "text"
        why = (
            "nothing stands before it"
            if not number
            else _why(example, place, message, weight, token in stops)
        )
        row = example.places[place] if message and example.places else place
        viewed.append(ViewedToken(token, text, trained, weight, role, row if message else None, why))
    return tuple(viewed)


def _message(example: Example, place: int) -> Message | None:
    conversation = example.conversation
    return conversation.messages[place] if conversation and example.turns and place >= 0 else None


def _why(example: Example, place: int, message: Message | None, weight: float, stops: bool) -> str:
    if message is None:
        return (
            f"plain text, weight {weight:g}"
            if weight and not example.turns
            else "given: the template writes it"
        )
    counted = "" if weight in (0, 1) else f", weight {weight:g}"
    if weight:
        return f"learnt: {'the stop token' if stops else 'the answer'}{counted}"
    if place in example.turns and message.spans:
        return "given: a span of weight 0, or before the answer"
    if message.role == "assistant" and place not in example.turns:
        return "given: this answer is not to be learnt"
    return "given: the model reads it"


def _edges(example: Example, template: ChatTemplate, text: str) -> list[int]:
    """Where each region ends in ``text``: what belongs to no message, then message after message."""
    conversation = example.conversation
    if conversation is None or not example.turns:
        return [len(text)]
    last = example.turns[-1]
    ends = list(_ends(conversation, template, text, last))
    first = _start(conversation, template, text)
    edges = [first, *(max(first, end) for end in ends), len(text)]
    return list(accumulate(edges, max))


def _ends(conversation: Conversation, template: ChatTemplate, text: str, last: int) -> Iterator[int]:
    """The end of each message before the ``last``: as far as rendering it and those before it agrees with
    the text; where the template has rewritten it, behind what it says and the token that ends it."""
    messages, tools = template.apart(conversation)
    reached = 0
    for count in range(1, last + 1):
        said = [piece for piece in pieces(messages[count - 1]) if piece.name != "reasoning"]
        places = [place for piece in said if (place := _plain(piece).find(text, reached))]
        end = max((place[1] for place in places), default=reached)
        stops = [found + len(t) for t in template.stop_tokens if (found := text.find(t, end)) >= 0]
        try:
            part = typed.plain(template.render(messages[:count], tools, add_generation_prompt=False))
            agreed = shared_length(part, text)
        except TemplateError:
            agreed = 0  # a part that the template refuses
        if agreed < end and messages[count - 1]["role"] == "assistant" and stops:
            end = min(stops)
            end += len(text[end:]) - len(text[end:].lstrip())
        reached = max(reached, end, agreed)
        yield reached


def _plain(piece: Piece) -> Piece:
    return Piece(piece.name, tuple(map(typed.plain, piece.forms)))


def _start(conversation: Conversation, template: ChatTemplate, text: str) -> int:
    """Where the first message begins: at its header, as the template writes it in the middle of a talk."""
    first = conversation.messages[0]
    place = text.find(first.content.strip()) if first.content.strip() else 0
    before = text[: max(place, 0)]
    bos = str(template.tokenizer.bos_token or "")
    begins = len(bos) if bos and before.startswith(bos) else 0
    if first.role != "user":
        return begins
    talk = [{"role": "user", "content": "burnishone"}, {"role": "assistant", "content": "burnishtwo"}]
    again = {"role": "user", "content": "burnishthree"}
    try:
        closing = template.render(talk, add_generation_prompt=False).partition("burnishtwo")[2]
        whole = template.render([*talk, again], add_generation_prompt=False)
    except TemplateError:
        return begins
    between = whole.partition("burnishtwo")[2].partition("burnishthree")[0]
    header = between[shared_length(between, closing) :]
    return len(before) - len(header) if header and before.endswith(header) else begins


def by_message(tokens: Sequence[ViewedToken]) -> list[Sequence[ViewedToken]]:
    """Neighbouring tokens of one message together."""
    groups = groupby(tokens, key=lambda token: (token.message, token.role))
    return [tuple(group) for _, group in groups]
