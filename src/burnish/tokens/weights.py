"""Which turns are learnt, and how much each token of them counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation, Message
from burnish.errors import TemplateError
from burnish.template import Turn
from burnish.tokens.ids import token_texts

TrainOn = Literal["all", "last", "none-but-marked"]


def weighted(conversation: Conversation, train_on: TrainOn) -> Conversation:
    """The conversation with a weight for every assistant message.

    What a message says of itself (``train``, ``weight``) goes before ``train_on``: all of them, the last
    one, or none but those so marked. Of a message that is not to be learnt, its spans still are.
    """
    answers = [i for i, message in enumerate(conversation.messages) if message.role == "assistant"]
    unmarked = {"all": answers, "last": answers[-1:], "none-but-marked": []}[train_on]
    messages = tuple(
        replace(message, weight=float(index in unmarked))
        if message.role == "assistant" and message.weight is None
        else message
        for index, message in enumerate(conversation.messages)
    )
    return replace(conversation, messages=messages)


def completion_weights(
    conversation: Conversation, turn: Turn, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> list[float]:
    """A weight for each token of a completion.

    Outside its spans a message has one weight. What the template writes behind the content, the stop token
    with it, counts as the content's last character does. White space before a span may share a token with
    the span's first word; where anything else does, the law *borders* fails and ``TemplateError`` says so.
    """
    message = conversation.messages[turn.index]
    weight = message.weight or 0.0
    if not message.spans:
        return [weight] * len(ids)
    where = f"{conversation.source}: message {turn.index + 1}"
    texts = token_texts(tokenizer, ids)
    if turn.content_at is None or "".join(texts).lstrip() != turn.completion.lstrip():
        raise TemplateError(
            f"{where}: law 'borders' fails: its spans cannot be found in the rendered turn",
            why="The template or the tokenizer writes the content otherwise than the row does.",
            fix="Take the spans out.",
            law="borders",
        )
    by_character = _by_character(message, weight, turn)
    weights: list[float] = []
    place = len(turn.completion) - len("".join(texts))  # behind a first space that decoding trims
    for number, text in enumerate(texts, 1):
        if not text and number < len(texts):
            continue  # a part of the next token's character
        kinds = _kinds(by_character[max(place, 0) : place + len(text)], text)
        if len(kinds) > 1:
            raise TemplateError(
                f"{where}: law 'borders' fails: the token {text!r} straddles the edge of a span",
                why="A token is learnt or it is not.",
                fix="Move the span's edge to the edge of a word.",
                law="borders",
            )
        weights += [kinds.pop() if kinds else weight] * (number - len(weights))
        place += len(text)
    return weights


def _by_character(message: Message, weight: float, turn: Turn) -> list[float]:
    """A weight for each character of the completion. White space that the template trims has no place."""
    assert turn.content_at is not None
    by_character = [weight] * len(turn.completion)
    for span in message.spans:
        start, end = max(turn.content_at + span.start, 0), turn.content_at + span.end
        by_character[start:end] = [span.weight] * (min(end, len(by_character)) - start)
    end = turn.content_at + len(message.content.rstrip())
    by_character[end:] = [by_character[end - 1]] * (len(by_character) - end)
    return by_character


def _kinds(weights: list[float], text: str) -> set[float]:
    """The weights of a token's characters, white space at its start not counted where more follows."""
    lead = len(text) - len(text.lstrip())
    return set(weights[lead:]) or set(weights[-1:])
