"""A plain prompt and response to an example, for base models that know no chat template."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from burnish.data import Source
from burnish.errors import DataError, TemplateError
from burnish.template import Turn
from burnish.tokens.example import Example
from burnish.tokens.ids import (
    as_text,
    completion_ids,
    decode,
    prefixes_space,
    require_same_text,
    text_ids,
    token_ids,
)


def encode_plain(
    prompt: str, response: str, tokenizer: PreTrainedTokenizerBase, *, source: Source = Source()
) -> Example:
    """The prompt given, the response and the token that ends texts (``eos_token``) to learn.

    No chat template is used and nothing is put between the two: a space or a newline that should stand there
    is part of one of them, of the response by rights, since tokenizers put a space at the start of a word.
    The prompt's ids are those that inference feeds, the token that begins texts in front where the tokenizer
    puts one. The response is encoded by itself behind it, so that no token straddles the border. Special
    tokens in either text are read as text.

    >>> example = encode_plain("1 + 1 =", " 2", tokenizer)
    >>> [tokenizer.decode(i) for i, trained in zip(example.input_ids, example.loss_mask) if trained]
    [' ', '2', '<|endoftext|>']

    Raises ``DataError`` for an empty text, and ``TemplateError`` where the tokenizer has no token that ends
    texts, does not write the response, or cannot keep the border.
    """
    for name, text in (("prompt", prompt), ("response", response)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{source}: its {name} is {text!r}",
                why="The model would learn to answer nothing, or from nothing.",
                fix="Write both. A text without a prompt is a row {'text': ...}, which is trained whole.",
            )
    if tokenizer.eos_token_id is None:
        raise TemplateError(
            f"{source}: the tokenizer has no token that ends texts",
            why="The model would never learn to stop.",
            fix="Set tokenizer.eos_token to the one that the base was pretrained with.",
            law="stops",
        )
    given = text_ids(tokenizer, prompt)[:-1]  # without the token that ends texts
    turn = Turn(prompt, response, 0, marked=(as_text(tokenizer, prompt), as_text(tokenizer, response)))
    if prefixes_space(tokenizer):
        rest = text_ids(tokenizer, prompt + response)[:-1]
    else:
        rest = token_ids(tokenizer, as_text(tokenizer, response))
    trained = completion_ids(tokenizer, turn, given, rest, str(source))
    require_same_text(turn, decode(tokenizer, trained), str(source))
    ids = [*given, *trained, tokenizer.eos_token_id]
    return Example(ids, [0.0] * len(given) + [1.0] * (len(trained) + 1), source)
