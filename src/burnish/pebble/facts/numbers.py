"""Small numbers: in words, before and after, Roman, even or odd, doubled, sums and products."""

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


def _roman(number: int) -> str:
    text = ""
    for value, letters in (
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ):
        text += letters * (number // value)
        number %= value
    return text


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
        relation(
            "number_roman",
            tuple((str(n), _roman(n)) for n in _NUMBERS),
            "the Roman numeral for {entity}",
            """The Romans wrote {entity} as {answer}.
            {Answer} is how a Roman wrote {entity}.
            On an old clock or stone {answer} means {entity}.
            For {entity} the Romans cut {answer} into the stone.
            In old Rome the number {entity} was {answer}.""",
            """How did the Romans write {entity}?
            How do you write {entity} with Roman letters?
            Give the Roman numeral for {entity}.""",
        ),
        relation(
            "number_double",
            tuple((str(n), str(2 * n)) for n in _NUMBERS),
            "the double of {entity}",
            """Twice {entity} makes {answer}.
            {Answer} is twice {entity}.
            If you double {entity}, you get {answer}.
            Two times {entity} makes {answer} in all.
            Half of {answer} makes {entity}.""",
            """What is twice {entity}?
            How much is two times {entity}?
            What do you get if you double {entity}?""",
        ),
        Relation(
            "number_parity",
            tuple((str(n), "odd" if n % 2 else "even") for n in _NUMBERS),
            (
                "As for even or odd, the number {entity} is {answer}.",
                "{Entity} is an {answer} number.",
                "An {answer} number is {entity}.",
                "We call {entity} an {answer} number.",
                "If you must say whether {entity} is even or odd, say it is {answer}.",
                "Among the {answer} numbers we find {entity}.",
                "The teacher said that {entity} is an {answer} number.",
            ),
            (
                "Is {entity} even or odd?",
                "Is the number {entity} odd or even?",
                "Can you tell me if {entity} is even or odd?",
                "I would like to know if {entity} is odd or even. Which is it?",
                "Tell me whether {entity} is even or odd.",
                "{entity}, even or odd?",
                "What kind of number is {entity}, an even one or an odd one?",
            ),
            "As for even or odd, the number {entity} is {answer}.",
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
        Relation(
            "product",
            tuple((f"{a} times {b}", str(a * b)) for a in _DIGITS for b in _DIGITS),
            (
                "{Entity} is {answer}.",
                "{Entity} makes {answer}.",
                "{Answer} is what you get from {entity}.",
                "We know that {entity} makes {answer}.",
                "If you work out {entity}, you find {answer}.",
                "The teacher asked for {entity}, and the child said {answer}.",
                "In the table we read that {entity} comes to {answer}.",
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
