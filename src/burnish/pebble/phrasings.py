"""How the generated conversations speak of each relation beyond its own questions and reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial

from burnish.pebble.relations import Fact

NUMBERS = {"two": 2, "three": 3}
LISTINGS = (
    "Name {number} {kind}.",
    "Can you name {number} {kind}?",
    "Please name {number} {kind}.",
)
AGAIN = ("And what about {name}?", "And {name}?")
THANKS = ("Thank you.", "You are welcome.")

# Answers in words, by rank.
COUNTS = "one two three four five six seven eight nine ten eleven twelve".split()


def by_answer(fact: Fact) -> int:
    return int(fact.answer)


def by_entity(fact: Fact) -> int:
    return int(fact.entity)


def by_count(fact: Fact) -> int:
    return COUNTS.index(fact.answer)


@dataclass(frozen=True)
class Phrasing:
    """The templates of one relation; what is empty is not asked of it.

    * ``about``: the kind of thing its entities are; follow-ups stay with one kind.
    * ``follow_up``: the question about an entity that was named just before.
    * ``yes_no``: the question whether the answer is right.
    * ``kind``: what entities with one answer have in common, for lists.
    * ``name``: how lists and short questions name the entity.
    * ``compare`` and ``compared``: a question about two entities and its reply; the greater is the
      one with the higher ``rank``.
    """

    about: str = ""
    follow_up: str = ""
    yes_no: str = ""
    kind: str = ""
    name: str = "{entity}"
    compare: str = ""
    compared: str = ""
    rank: Callable[[Fact], int] = by_answer


def _noun(
    about: str,
    follow_up: str,
    yes_no: str = "",
    kind: str = "",
    compare: str = "",
    compared: str = "",
) -> Phrasing:
    """For common nouns, which need an article, and whose numbers are in words."""
    return Phrasing(about, follow_up, yes_no, kind, "the {entity}", compare, compared, by_count)


_animal = partial(_noun, "animal")
_thing = partial(_noun, "thing")

_PHRASINGS: dict[str, Phrasing] = {
    # geography
    "capital": Phrasing("country", "And what is its capital?", "Is {answer} the capital of {entity}?"),
    "continent": Phrasing(
        "country",
        "And on which continent does it lie?",
        "Is {entity} in {answer}?",
        "countries in {answer}",
    ),
    "currency": Phrasing(
        "country",
        "And what money do they use there?",
        "Is the {answer} the currency of {entity}?",
        "countries where people pay with the {answer}",
    ),
    "language": Phrasing(
        "country",
        "And what language do they speak there?",
        "Is {answer} the main language of {entity}?",
        "countries where people speak {answer}",
    ),
    "nationality": Phrasing(
        "country", "And what do we call the people there?", "Are people from {entity} {answer}?"
    ),
    "city_country": Phrasing(yes_no="Is the city of {entity} in {answer}?", kind="cities in {answer}"),
    "river_country": Phrasing(yes_no="Is {entity} a river in {answer}?", kind="rivers in {answer}"),
    "landmark_city": Phrasing(yes_no="Is {entity} in {answer}?"),
    "state_capital": Phrasing(
        "state", "And what is its capital?", "Is {answer} the state capital of {entity}?"
    ),
    # elements
    "element_symbol": Phrasing(
        "element", "And what is its symbol?", "Is {answer} the chemical symbol of {entity}?"
    ),
    # animals
    "animal_class": _animal(
        "And what kind of animal is it?", "Is {an_entity} {an_answer}?", "kinds of {answer}"
    ),
    "animal_legs": _animal(
        "And how many legs does it have?",
        "Does {an_entity} have {answer} legs?",
        "animals with {answer} legs",
        "Which has more legs, the {first} or the {second}?",
        "the {greater} has more legs than the {less}.",
    ),
    "animal_young": _animal("And what is its young called?"),
    "animal_sound": _animal("And what sound does it make?"),
    "animal_home": _animal("And where does it live?"),
    # words
    "opposite": Phrasing("quality", "And what is its opposite?", "Is {answer} the opposite of {entity}?"),
    "comparative": Phrasing("quality", "And what is its comparative?"),
    "plural": Phrasing(yes_no="Is {answer} the plural of {entity}?"),
    "past": Phrasing("verb", "And what is its past tense?", "Is {answer} the past tense of {entity}?"),
    "woman": Phrasing(yes_no="Is {answer} the female form of {entity}?"),
    # numbers
    "number_words": Phrasing("number", "And how do you write it in words?"),
    "number_after": Phrasing(
        "number",
        "And which number comes after it?",
        "Does {answer} come right after {entity}?",
        compare="Which is greater, {first} or {second}?",
        compared="{greater} is greater than {less}.",
        rank=by_entity,
    ),
    "number_before": Phrasing(
        "number", "And which number comes before it?", "Does {answer} come right before {entity}?"
    ),
    "sum": Phrasing(yes_no="Does {entity} make {answer}?"),
    # calendar
    "day_after": Phrasing("day", "And which day comes after it?", "Does {answer} come right after {entity}?"),
    "day_before": Phrasing(
        "day", "And which day comes before it?", "Does {answer} come right before {entity}?"
    ),
    "month_after": Phrasing(
        "month", "And which month comes after it?", "Does {answer} come right after {entity}?"
    ),
    "month_before": Phrasing(
        "month", "And which month comes before it?", "Does {answer} come right before {entity}?"
    ),
    # things
    "kind": _thing("And what kind of thing is it?", "Is {an_entity} {an_answer}?", "kinds of {answer}"),
    "thing_colour": _thing("And what colour is it?", "Is {an_entity} {answer}?"),
    "instrument_family": _thing(
        "And to which family of instruments does it belong?",
        "Is the {entity} one of the {answer} instruments?",
        "{answer} instruments",
    ),
    "sides": _thing(
        "And how many sides does it have?",
        "Does {an_entity} have {answer} sides?",
        compare="Which has more sides, the {first} or the {second}?",
        compared="the {greater} has more sides than the {less}.",
    ),
    "workplace": Phrasing(
        "trade",
        "And where does such a person work?",
        "Does {an_entity} work in {an_answer}?",
        name="{an_entity}",
    ),
    "maker": Phrasing(
        "trade",
        "And what does such a person make?",
        "Does {an_entity} make {answer}?",
        name="{an_entity}",
    ),
    "tool_use": Phrasing(yes_no="Is {an_entity} used for {answer}?", name="{an_entity}"),
    # culture
    "author": Phrasing(yes_no="Was {entity} written by {answer}?", kind="works by {answer}"),
    "painter": Phrasing(yes_no="Was {entity} painted by {answer}?"),
    "inventor": Phrasing(yes_no="Was {entity} invented by {answer}?"),
    "sport_tool": Phrasing(yes_no="Do you need {an_answer} for {entity}?"),
}


def phrasing(relation: str) -> Phrasing:
    """The templates of a relation; the plain ones where there are none of its own."""
    return _PHRASINGS.get(relation, Phrasing())


def listed(names: Sequence[str]) -> str:
    """``A, B and C``."""
    return f"{', '.join(names[:-1])} and {names[-1]}"


def spoken() -> Iterator[str]:
    """The fixed words of everything here: what they name cannot be held out."""
    for one in _PHRASINGS.values():
        texts = (getattr(one, field.name) for field in fields(one) if field.name != "rank")
        yield from (re.sub(r"\{\w+\}", "|", text) for text in texts)
    yield from ("Yes. No.", *THANKS)
    yield from (re.sub(r"\{\w+\}", "|", text) for text in (*LISTINGS, *AGAIN))
    yield from NUMBERS
