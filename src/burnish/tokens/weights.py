"""Which turns are learnt, and how much each token of them counts."""

from __future__ import annotations

from typing import Literal

from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation, Message
from burnish.errors import TemplateError
from burnish.template import Turn
from burnish.tokens.ids import token_texts

TrainOn = Literal["all", "last", "none-but-marked"]


def trained_messages(conversation: Conversation, train_on: TrainOn) -> set[int]:
    """The places of the assistant messages that are learnt.

    What a message says of itself (``train``, ``weight``, ``spans``) goes before ``train_on``: all of them,
    the last one, or none but those so marked.
    """
    answers = [i for i, message in enumerate(conversation.messages) if message.role == "assistant"]
    unmarked = {"all": answers, "last": answers[-1:], "none-but-marked": []}[train_on]
    found = set()
    for index in answers:
        message = conversation.messages[index]
        marked = message.weight is not None or bool(message.spans)
        if _counts(message) if marked else index in unmarked:
            found.add(index)
    return found


def completion_weights(
    conversation: Conversation, turn: Turn, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> list[float]:
    """A weight for each token of a completion.

    Outside its spans a message has one weight. What the template writes behind the content, the stop token
    with it, counts as the content's last character does. White space before a span may share a token with
    the span's first word; where anything else does, the law *borders* fails and ``TemplateError`` says so.
    """
    message = conversation.messages[turn.index]
    weight = 1.0 if message.weight is None else message.weight
    if not message.spans:
        return [weight] * len(ids)
    where = f"{conversation.source}: message {turn.index + 1}"
    texts = token_texts(tokenizer, ids)
    start = turn.completion.rfind(message.content)
    if start < 0 or "".join(texts).lstrip() != turn.completion.lstrip():
        raise TemplateError(
            f"{where}: law 'borders' fails: its spans cannot be found in the rendered turn",
            why="The template or the tokenizer writes the content otherwise than the row does.",
            fix="Take the spans out, and the white space at the edges of the content.",
            law="borders",
        )
    by_character = [weight] * len(turn.completion)
    for span in message.spans:
        by_character[start + span.start : start + span.end] = [span.weight] * (span.end - span.start)
    end = start + len(message.content)
    by_character[end:] = [by_character[end - 1]] * (len(turn.completion) - end)
    weights, place = [], len(turn.completion) - len("".join(texts))  # a first space that decoding trims
    for text in texts:
        characters = by_character[max(place, 0) : place + len(text)] or by_character[place : place + 1]
        lead = len(text) - len(text.lstrip())
        kinds = set(characters[lead:]) or set(characters[-1:])
        if len(kinds) > 1:
            raise TemplateError(
                f"{where}: law 'borders' fails: the token {text!r} straddles the edge of a span",
                why="A token is learnt or it is not.",
                fix="Move the span's edge to the edge of a word.",
                law="borders",
            )
        weights.append(kinds.pop())
        place += len(text)
    return weights


def _counts(message: Message) -> bool:
    rest = 1.0 if message.weight is None else message.weight
    return rest > 0 or any(span.weight > 0 for span in message.spans)
