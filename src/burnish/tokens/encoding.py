"""Turns to token ids, the ones to learn marked, by construction and not by search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation
from burnish.errors import TemplateError
from burnish.template import ChatTemplate, Turn
from burnish.tokens.example import Example
from burnish.tokens.ids import (
    batch_encode,
    batch_ids,
    completion_ids,
    decode_all,
    prefixes_space,
    require_same_text,
    require_stop,
    text_ids,
)
from burnish.tokens.weights import TrainOn, completion_weights, weighted
from burnish.tokens.words import WordEncoder, encodes_by_words

TOGETHER = 512
"""Conversations whose texts are encoded in one call."""


@dataclass(frozen=True)
class Encoded:
    """A conversation with its examples, or with the law that it breaks.

    ``notes``: what the template does with it that is no fault but should be known. ``unread``: the keys of
    the row and of what is in it that nothing reads, in words.
    """

    conversation: Conversation
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    error: TemplateError | None = None
    unread: tuple[str, ...] = ()


def encode_all(
    conversations: Iterable[Conversation], template: ChatTemplate, *, train_on: TrainOn = "all"
) -> Iterator[Encoded]:
    """Many conversations in their order. A broken law stands in ``error``, it is not raised.

    While some are being rendered, the texts of those before are encoded on the other cores. Where there are
    more than a few, they are encoded by words.
    """
    left, tokenizer = iter(conversations), template.tokenizer
    by_words: WordEncoder | None = None
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[list[Encoded]] | None = None
        while group := list(islice(left, TOGETHER)):
            drafts = [_draft(conversation, template, train_on) for conversation in group]
            finished = pool.submit(_finished, drafts, template, by_words)
            if waiting:
                yield from waiting.result()
            elif len(group) == TOGETHER and encodes_by_words(tokenizer):
                by_words = WordEncoder(partial(batch_encode, tokenizer))
            waiting = finished
        if waiting:
            yield from waiting.result()


def encode_weighted(conversation: Conversation, template: ChatTemplate) -> tuple[Example, ...]:
    """The examples of a conversation whose messages have their weights. Raises ``TemplateError``."""
    draft = _Draft(conversation, tuple(template.turns(conversation)))
    (encoded,) = _finished([draft], template)
    if encoded.error:
        raise encoded.error
    return encoded.examples


@dataclass(frozen=True)
class _Draft:
    """A conversation whose turns are proven and not yet encoded."""

    conversation: Conversation
    turns: tuple[Turn, ...] = ()
    error: TemplateError | None = None
    unread: tuple[str, ...] = ()

    def texts(self, whole: bool) -> list[str]:
        """Prompt and completion of each turn; with ``whole``, prompt and both together."""
        pairs = [turn.marked or (turn.prompt, turn.completion) for turn in self.turns]
        return [text for p, c in pairs for text in (p, p + c if whole else c)]

    def learnt(self, ids: Sequence[list[int]], template: ChatTemplate) -> list[_Learnt]:
        """Each turn with the ids of its prompt and of its completion: laws *borders* and *stops*."""
        found = []
        for turn, prompt, rest in zip(self.turns, ids[::2], ids[1::2], strict=True):
            where = f"{self.conversation.source}: message {turn.index + 1}"
            completion = completion_ids(template.tokenizer, turn, prompt, rest, where)
            require_stop(completion, template.stop_ids, turn, where)
            found.append(_Learnt(turn, prompt, completion, where))
        return found

    def encoded(self, learnt: Sequence[_Learnt], tokenizer: PreTrainedTokenizerBase) -> Encoded:
        examples: list[_Growing] = []
        notes = dict.fromkeys(note for turn in self.turns for note in turn.notes)
        for item in learnt:
            weights = completion_weights(self.conversation, item.turn, item.completion, tokenizer)
            before = len(item.prompt)
            ids = item.prompt + item.completion
            grown = _Growing(ids, [0.0] * before + weights, before, (item.turn.index,))
            if examples and grown.extends(examples[-1]):
                examples[-1] = grown.with_marks_of(examples[-1])
            else:
                if examples:
                    notes[REWRITES] = None
                examples.append(grown)
        made = [
            Example(e.ids, e.weights, self.conversation.source, e.turns, self.conversation) for e in examples
        ]
        return Encoded(self.conversation, tuple(made), tuple(notes), unread=self.unread)


@dataclass(frozen=True)
class _Learnt:
    """A turn as token ids."""

    turn: Turn
    prompt: list[int]
    completion: list[int]
    where: str


REWRITES = "earlier turns are rendered otherwise once later ones follow: an example a turn"


@dataclass(frozen=True)
class _Growing:
    """An example so far: its ids and weights, which later turns may extend."""

    ids: list[int]
    weights: list[float]
    prompt_length: int
    turns: tuple[int, ...]

    def extends(self, earlier: _Growing) -> bool:
        """The earlier ids, answer included, are a beginning of what is served for this turn."""
        length = len(earlier.ids)
        return length <= self.prompt_length and self.ids[:length] == earlier.ids

    def with_marks_of(self, earlier: _Growing) -> _Growing:
        weights = earlier.weights + self.weights[len(earlier.weights) :]
        return _Growing(self.ids, weights, self.prompt_length, earlier.turns + self.turns)


def _draft(conversation: Conversation, template: ChatTemplate, train_on: TrainOn) -> _Draft:
    if conversation.text is not None:
        return _Draft(conversation, unread=conversation.unread)
    try:
        unread = (*conversation.unread, *template.unread(conversation))
        conversation = weighted(template.prepared(conversation), train_on)
        return _Draft(conversation, tuple(template.turns(conversation)), unread=unread)
    except TemplateError as error:
        return _Draft(conversation, error=error)


def _finished(
    drafts: Sequence[_Draft], template: ChatTemplate, by_words: WordEncoder | None = None
) -> list[Encoded]:
    """Drafts to examples; their texts are encoded together, and decoded again to compare."""
    tokenizer = template.tokenizer
    whole = prefixes_space(tokenizer)
    parts = [draft.texts(whole) for draft in drafts]
    ids = iter(batch_ids(tokenizer, [text for part in parts for text in part], by_words))
    found: list[list[_Learnt] | Encoded] = []
    for draft, part in zip(drafts, parts, strict=True):
        mine = [next(ids) for _ in part]
        text, source = draft.conversation.text, draft.conversation.source
        if draft.error:
            found.append(Encoded(draft.conversation, error=draft.error))
        elif text is not None:
            read = text_ids(tokenizer, text)
            every = [1.0] * len(read)  # the first is never predicted; the batch sees to that
            found.append(Encoded(draft.conversation, (Example(read, every, source),), unread=draft.unread))
        else:
            try:
                found.append(draft.learnt(mine, template))
            except TemplateError as error:
                found.append(Encoded(draft.conversation, error=error))
    said = iter(decode_all(tokenizer, [item.completion for x in found if isinstance(x, list) for item in x]))
    finished = []
    for draft, learnt in zip(drafts, found, strict=True):
        if isinstance(learnt, Encoded):
            finished.append(learnt)
            continue
        decoded = [next(said) for _ in learnt]
        try:
            for item, text in zip(learnt, decoded, strict=True):
                require_same_text(item.turn, text, item.where)
            finished.append(draft.encoded(learnt, tokenizer))
        except TemplateError as error:
            finished.append(Encoded(draft.conversation, error=error))
    return finished
