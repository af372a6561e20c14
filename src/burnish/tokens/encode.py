"""The examples of one conversation, or why there are none and what would help."""

from __future__ import annotations

from burnish.data import Conversation
from burnish.template import ChatTemplate
from burnish.tokens.advice import advised
from burnish.tokens.encoding import encode_all
from burnish.tokens.example import Example
from burnish.tokens.weights import TrainOn


def encode(conversation: Conversation, template: ChatTemplate, *, train_on: TrainOn = "all") -> list[Example]:
    """The examples of a conversation.

    A turn's prompt is encoded as inference encodes it, its completion by itself behind that: so no
    token straddles the border, and the prompt's ids are those that will be served. Turns whose texts
    and ids extend one another make one example; where a template rewrites history, each turn makes its
    own, as inference would see it. ``train_on`` says which turns are learnt where messages do not say it
    themselves. Raises ``TemplateError`` with the law that fails and the remedies that would work.
    """
    (encoded,) = encode_all([conversation], template, train_on=train_on)
    if encoded.error:
        raise advised(encoded.error, template, encoded.conversation) from encoded.error
    return list(encoded.examples)
