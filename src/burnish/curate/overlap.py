"""Rows that are held out and trained too: what is measured on them is memory, not learning."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from burnish.data import Conversation, Message, Source
from burnish.data.keys import REASONING


@dataclass(frozen=True)
class Twin:
    """A held-out row and a trained one that says the same: in the same characters (``exact``), or but for
    case, white space, forms of characters and remarks."""

    held_out: Source
    trained: Source
    exact: bool


@dataclass(frozen=True)
class Overlap:
    """How many rows there are on each side, and the ``twins`` of held-out rows by their numbers, from 0.

    ``same_prompt``: held-out rows without a twin whose messages up to the first answer are trained.
    """

    train: int
    held_out: int
    twins: dict[int, Twin]
    same_prompt: int


def overlap(train: Iterable[Conversation], held_out: Iterable[Conversation]) -> Overlap:
    """What two sides have in common. Hashes of the held-out rows are kept, which are read first; the rows to
    train go by."""
    whole: dict[bytes, list[int]] = defaultdict(list)
    prompts: dict[bytes, list[int]] = defaultdict(list)
    held: list[tuple[Source, bytes]] = []
    for number, conversation in enumerate(held_out):
        whole[content_hash(conversation)].append(number)
        if begins_with_a_prompt(conversation):
            prompts[prompt_hash(conversation)].append(number)
        held.append((conversation.source, _exact_hash(conversation)))
    twins: dict[int, Twin] = {}
    asked: set[int] = set()
    trained = 0
    for conversation in train:
        trained += 1
        for number in whole.get(content_hash(conversation), ()):
            source, characters = held[number]
            exact = _exact_hash(conversation) == characters
            if number not in twins or (exact and not twins[number].exact):
                twins[number] = Twin(source, conversation.source, exact)
        asked.update(prompts.get(prompt_hash(conversation), ()))
    return Overlap(trained, len(held), twins, len(asked - twins.keys()))


def normalised(text: str) -> str:
    """Text without case, without forms of a character that look alike, and with single spaces."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold().split())


def prompt_hash(conversation: Conversation, seed: int = 0) -> bytes:
    """SHA-256 of the messages up to the first answer, normalised, and of the seed."""
    parts = [str(seed), *([normalised(conversation.text)] if conversation.text else [])]
    for message in conversation.messages:
        if message.role == "assistant":
            break
        parts += [message.role, normalised(message.content)]
    return hashlib.sha256("\0".join(parts).encode()).digest()


def begins_with_a_prompt(conversation: Conversation) -> bool:
    return bool(conversation.messages) and conversation.messages[0].role != "assistant"


def content_hash(conversation: Conversation) -> bytes:
    """SHA-256 of all that messages say, or of the text, normalised."""
    parts = [normalised(conversation.text or "")]
    for message in conversation.messages:
        parts += [message.role, normalised(message.content), *_beside(message)]
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _beside(message: Message) -> Iterable[str]:
    """Reasoning and calls."""
    for key in REASONING:
        if message.extra.get(key):
            yield normalised(str(message.extra[key]))
            break
    for call in message.extra.get("tool_calls") or ():
        yield json.dumps(call.get("function"), sort_keys=True, default=str)


def _exact_hash(conversation: Conversation) -> bytes:
    messages = [(m.role, m.content, sorted(m.extra.items())) for m in conversation.messages]
    said = json.dumps([messages, conversation.tools, conversation.text], default=str)
    return hashlib.sha256(said.encode()).digest()
