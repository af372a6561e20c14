"""Turns to token ids, the ones to learn marked, by construction and not by search."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation, Source
from burnish.errors import TemplateError
from burnish.template import ChatTemplate, Turn
from burnish.tokens.example import Example


def encode(conversation: Conversation, template: ChatTemplate) -> list[Example]:
    """The examples of a conversation.

    A turn's prompt is encoded as inference encodes it, its completion by itself behind that: so no
    token straddles the border, and the prompt's ids are those that will be served. Turns whose texts
    and ids extend one another make one example; where a template rewrites history, each turn makes its
    own, as inference would see it. Raises ``TemplateError`` where a token would straddle the border.
    """
    examples: list[_Growing] = []
    for turn in template.turns(conversation):
        grown = _Growing.of(turn, template.tokenizer, conversation.source)
        if examples and grown.extends(examples[-1]):
            examples[-1] = grown.with_marks_of(examples[-1])
        else:
            examples.append(grown)
    return [Example(growing.ids, growing.mask, conversation.source) for growing in examples]


@dataclass(frozen=True)
class _Growing:
    """An example so far: its ids and mask, which later turns may extend."""

    ids: list[int]
    mask: list[bool]
    prompt_length: int

    @classmethod
    def of(cls, turn: Turn, tokenizer: PreTrainedTokenizerBase, source: Source) -> _Growing:
        prompt = token_ids(tokenizer, turn.prompt)
        completion = token_ids(tokenizer, turn.completion)
        said = _says(tokenizer, prompt + completion).removeprefix(_says(tokenizer, prompt))
        if said.startswith(" ") and not turn.completion.startswith(" "):
            # SentencePiece kinds put a space before any text they are given, and served with the prompt
            # the answer would not begin with one.
            whole = token_ids(tokenizer, turn.prompt + turn.completion)
            if whole[: len(prompt)] != prompt:
                raise TemplateError(
                    f"{source}: message {turn.index + 1}: law 'borders' fails: a token straddles the "
                    "start of the answer",
                    why="The model would be served other tokens than it was trained on.",
                    fix="Use a template that ends its generation prompt in a special token or a newline.",
                )
            completion = whole[len(prompt) :]
        ids = prompt + completion
        return cls(ids, [False] * len(prompt) + [True] * len(completion), len(prompt))

    def extends(self, earlier: _Growing) -> bool:
        """The earlier ids, answer included, are a beginning of what is served for this turn."""
        length = len(earlier.ids)
        return length <= self.prompt_length and self.ids[:length] == earlier.ids

    def with_marks_of(self, earlier: _Growing) -> _Growing:
        return _Growing(self.ids, earlier.mask + self.mask[len(earlier.mask) :], self.prompt_length)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of rendered text. The template has written every special token, so none is added."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _says(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text
