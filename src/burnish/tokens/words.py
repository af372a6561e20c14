r"""The ids of many texts by those of their words, each of which is encoded once.

Between two characters that are no white space, most byte-level BPE tokenizers begin a new token at a single
space, and behind a single newline; and nothing on one side of such a border has a part in the tokens of the
other. There a text may be cut, its pieces encoded by themselves, and the ids of pieces that come again be
remembered::

    The cat sat.⏎I saw the cat.      ->      The| cat| sat.⏎|I| saw| the| cat.

That is a property of the tokenizer, which is proven before it is used; any other tokenizer gets whole texts.

Such a tokenizer first takes out the added tokens, then cuts the text by a regular expression and encodes
match by match. Each alternative in ``ALONE`` has three properties. No match goes on across a border: a space
is only ever the first of a match of others, a newline the last. A match that ends at a border is the same
without what follows: its classes stop there anyway, and where ``\s+(?!\S)`` then takes the newline, ``\s+``
took it before. Nothing looks back. And ``\s+``, which one of the expressions must have, takes the white space
that nothing else does. NFC leaves borders as they are: both characters are composed with nothing and never
moved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from transformers import PreTrainedTokenizerBase

_SPACE = re.compile(r" (?<=\S )(?=\S)")
_NEWLINE = re.compile(r"\n(?<=\S\n)(?=\S)")
"""Borders. What is looked for comes first in the pattern, which makes the search fast."""

ALONE = frozenset(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r"\p{N}+",
        r"\p{N}{1,3}",
        r" ?\p{L}+",
        r" ?\p{N}+",
        r" ?[^\s\p{L}\p{N}]+",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""Alternatives of GPT-2's expression, of GPT-4's and of those made after them."""

MOST, LONGEST = 200_000, 40
"""Words remembered, and characters of the longest of them: some 50 MB at most."""

Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class WordEncoder:
    """Encodes by words, with ``encode`` for those that are new.

    ``beginnings``: the ids of what lines begin with; ``words``: those of what follows a space, and of the
    space with it.
    """

    encode: Encode
    beginnings: dict[str, list[int]] = field(default_factory=dict)
    words: dict[str, list[int]] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        cut = [[_SPACE.split(line) for line in _lines(text)] for text in texts]
        lines = list(chain.from_iterable(cut))
        learnt = (
            (self.beginnings, self._learn(self.beginnings, {line[0] for line in lines}, "")),
            (self.words, self._learn(self.words, set(chain.from_iterable(line[1:] for line in lines)), " ")),
        )
        begin, go_on = self.beginnings.__getitem__, self.words.__getitem__
        found = []
        for text in cut:
            ids: list[int] = []
            for first, *rest in text:
                ids += begin(first)
                ids += chain.from_iterable(map(go_on, rest))
            found.append(ids)
        for known, new in learnt:
            for piece in new:
                if len(piece) > LONGEST:
                    del known[piece]
            if len(known) > MOST:
                known.clear()
        return found

    def _learn(self, known: dict[str, list[int]], pieces: set[str], before: str) -> list[str]:
        new = list(pieces.difference(known))
        known.update(zip(new, self.encode([before + piece for piece in new]), strict=True))
        return new


def _lines(text: str) -> list[str]:
    *lines, last = _NEWLINE.split(text)
    return [*[line + "\n" for line in lines], last]


def encodes_by_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text's ids are those of its pieces, cut as above."""
    if not tokenizer.is_fast:
        return False
    backend = tokenizer.backend_tokenizer
    normalizer, pre_tokenizer = (_described(part) for part in (backend.normalizer, backend.pre_tokenizer))
    # A token that takes white space with it, or holds some, may lie across a border.
    added = backend.get_added_tokens_decoder().values()
    whole = not any(t.lstrip or t.rstrip or t.single_word or re.search(r"\s", t.content) for t in added)
    plain = type(backend.model).__name__ == "BPE" and not backend.model.dropout
    return whole and plain and normalizer in (None, {"type": "NFC"}) and _cuts_at_spaces(pre_tokenizer)


def _described(part: Any) -> dict[str, Any] | None:
    """A part of a tokenizer as its file describes it; the whole file would take a third of a second."""
    return dict(json.loads(part.__getstate__())) if part else None


def _cuts_at_spaces(pre_tokenizer: dict[str, Any] | None) -> bool:
    steps = [pre_tokenizer or {"type": "None"}]
    if steps[0]["type"] == "Sequence":
        steps = steps[0]["pretokenizers"]
    *before, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return False
    alternatives = [r"\s+"] if last["use_regex"] else []  # GPT-2's, among others
    for step in before:
        if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            # Between alternatives, not within a group.
            alternatives += re.split(r"\|(?![^(]*\))", step["pattern"].get("Regex", ""))
        elif step["type"] != "Digits":
            return False
    return r"\s+" in alternatives and ALONE.issuperset(alternatives)
