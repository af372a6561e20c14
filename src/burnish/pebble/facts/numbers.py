"""Small numbers: in words, before and after, and sums."""

from __future__ import annotations

from burnish.pebble.facts._table import relation
from burnish.pebble.relations import Relation

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = range(11, 61)
_DIGITS = range(2, 10)


def _in_words(number: int) -> str:
    if number < 20:
        return _UNITS[number]
    tens, units = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_UNITS[units]}" if units else "")


def relations() -> tuple[Relation, ...]:
    """The relations about numbers."""
    return (
        relation(
            "number_words",
            tuple((str(n), _in_words(n)) for n in _NUMBERS),
            "the word for the number {entity}",
            """The number {entity} is written {answer}.
            {Answer} is how we say the number {entity}.
            When you read {entity} aloud, you say {answer}.
            We write {entity} in words as {answer}.
            In words, {answer} is the same as {entity}.""",
            """How do you write {entity} in words?
            How is the number {entity} said?
            Write {entity} as a word.""",
        ),
        relation(
            "number_after",
            tuple((str(n), str(n + 1)) for n in _NUMBERS),
            "the number after {entity}",
            """After {entity} comes {answer}.
            {Answer} comes right after {entity}.
            When we count, we say {entity} and then {answer}.
            Count on from {entity} and you come to {answer}.
            The next number after {entity} is {answer}.""",
            """Which number comes after {entity}?
            What comes next after {entity} when we count?
            Name the number after {entity}.""",
        ),
        relation(
            "number_before",
            tuple((str(n), str(n - 1)) for n in _NUMBERS),
            "the number before {entity}",
            """Before {entity} comes {answer}.
            {Answer} comes just before {entity}.
            When we count back, we say {entity} and then {answer}.
            Take one away from {entity} and you have {answer}.
            Right in front of {entity} stands {answer}.""",
            """Which number comes before {entity}?
            What comes just before {entity} when we count?
            Name the number before {entity}.""",
        ),
        Relation(
            "sum",
            tuple((f"{a} plus {b}", str(a + b)) for a in _DIGITS for b in _DIGITS),
            (
                "{Entity} is {answer}.",
                "{Entity} makes {answer}.",
                "{Answer} is what you get from {entity}.",
                "We know that {entity} makes {answer}.",
                "If you work out {entity}, you find {answer}.",
                "The teacher asked for {entity}, and the child said {answer}.",
                "The sum {entity} comes to {answer}.",
            ),
            _SUMS,
            "{Entity} is {answer}.",
        ),
    )


_SUMS = (
    "What is {entity}?",
    "How much is {entity}?",
    "Can you tell me what {entity} makes?",
    "What do you get from {entity}?",
    "I would like to know how much {entity} is. What is it?",
    "Please work out {entity}.",
    "{entity}?",
)
