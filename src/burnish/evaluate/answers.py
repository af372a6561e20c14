"""Scorers of answers: whether one is right."""

from __future__ import annotations

import re
from collections.abc import Iterable


def accepted(answer: str, expected: str, rivals: Iterable[str]) -> bool:
    """The first sentence holds the expected answer and no rival one, so listing guesses gains nothing."""
    sentence = first_sentence(answer)
    return contains(sentence, expected) and not any(contains(sentence, rival) for rival in rivals)


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0]


def contains(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text as whole words, in any case."""
    text, phrase = text.lower(), phrase.lower()
    # Most phrases are not there at all, and that is quick to see.
    return phrase in text and bool(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text))
