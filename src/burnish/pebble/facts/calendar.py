"""Days and months: what comes before and what after."""

from __future__ import annotations

from burnish.pebble.facts._table import Table, relation
from burnish.pebble.relations import Relation

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = ("January February March April May June July August September October November December").split()


def _shifted(names: list[str], step: int) -> Table:
    """Each name with the one ``step`` places on; May, an everyday word, is only ever an answer."""
    count = len(names)
    return tuple((name, names[(place + step) % count]) for place, name in enumerate(names) if name != "May")


def relations() -> tuple[Relation, ...]:
    """The relations about the calendar."""
    return (
        relation(
            "day_after",
            _shifted(_DAYS, 1),
            "the day after {entity}",
            """After {entity} comes {answer}.
            If today is {entity}, then tomorrow is {answer}.
            {Answer} comes right after {entity}.
            When {entity} is over, it will be {answer}.
            We went to bed on {entity} and woke on {answer}.""",
            """Which day comes after {entity}?
            If today is {entity}, what day is tomorrow?
            Name the day after {entity}.""",
        ),
        relation(
            "day_before",
            _shifted(_DAYS, -1),
            "the day before {entity}",
            """Before {entity} comes {answer}.
            If today is {entity}, then yesterday was {answer}.
            {Answer} comes just before {entity}.
            It was {answer} yesterday, so it is {entity} today.
            One day earlier than {entity} it was {answer}.""",
            """Which day comes before {entity}?
            If today is {entity}, what day was yesterday?
            Name the day before {entity}.""",
        ),
        relation(
            "month_after",
            _shifted(_MONTHS, 1),
            "the month after {entity}",
            """After {entity} comes {answer}.
            {Answer} comes right after {entity}.
            When {entity} is over, {answer} begins.
            If it is {entity} now, next month will be {answer}.
            The next month after {entity} is {answer}.""",
            """Which month comes after {entity}?
            If it is {entity} now, what will next month be?
            Name the month after {entity}.""",
        ),
        relation(
            "month_before",
            _shifted(_MONTHS, -1),
            "the month before {entity}",
            """Before {entity} comes {answer}.
            {Answer} comes just before {entity}.
            When {answer} is over, {entity} begins.
            If it is {entity} now, last month was {answer}.
            One month earlier than {entity} it was {answer}.""",
            """Which month comes before {entity}?
            If it is {entity} now, what was last month?
            Name the month before {entity}.""",
        ),
    )
