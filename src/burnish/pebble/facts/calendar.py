"""Days, months, holidays and seasons."""

from __future__ import annotations

from burnish.pebble.facts._table import Table, grouped, pairs, relation
from burnish.pebble.relations import Relation

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = (
    "January February March April May June July August September October November December"
).split()
_PLACES = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
).split()
_LENGTHS = grouped("""31: January, March, July, August, October, December; 30: April, June,
    September, November; 28: February""")
_SEASONS = grouped("""winter: January, February; spring: April; summer: July, August; autumn:
    October, November""")
_HOLIDAYS = pairs("""Christmas: December; Halloween: October; New Year's Day: January;
    Valentine's Day: February; Saint Patrick's Day: March; Bastille Day: July; Boxing Day:
    December; Guy Fawkes Night: November; April Fools' Day: April; Saint George's Day: April;
    Saint Andrew's Day: November; Saint David's Day: March; Anzac Day: April; All Saints' Day:
    November; Burns Night: January; Candlemas: February; Epiphany: January""")


def _shifted(names: list[str], step: int) -> Table:
    """Each name with the one ``step`` places on; May, an everyday word, is only ever an answer."""
    count = len(names)
    return tuple(
        (name, names[(place + step) % count]) for place, name in enumerate(names) if name != "May"
    )


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
        relation(
            "month_days",
            _LENGTHS,
            "the number of days in {entity}",
            """{Entity} usually has {answer} days.
            There are {answer} days in {entity} in most years.
            In most years {entity} is {answer} days long.
            If you count the days of {entity}, you come to {answer}.
            With its {answer} days, {entity} is one of the twelve months.""",
            """How many days does {entity} have?
            How many days are there in {entity}?
            How long is {entity}, in days?""",
        ),
        relation(
            "month_place",
            tuple((m, p) for m, p in zip(_MONTHS, _PLACES, strict=True) if m != "May"),
            "the place of {entity} among the months",
            """{Entity} is the {answer} month of the year.
            The {answer} month of the year is {entity}.
            In the list of months {entity} comes {answer}.
            Of the twelve months {entity} is the {answer}.
            When we count the months, {entity} is the {answer} one.""",
            """Which month of the year is {entity}, the first, the second or another?
            Where does {entity} come in the list of months?
            What place does {entity} have among the twelve months?""",
        ),
        relation(
            "month_season",
            _SEASONS,
            "the season of {entity} in England",
            """In England {entity} falls in {answer}.
            {Answer} is the season when {entity} comes to England.
            When it is {entity} in London, it is {answer}.
            Children in England know that {entity} belongs to {answer}.
            In the north of the world it is {answer} in {entity}.""",
            """Which season is it in England in {entity}?
            In England, what season does {entity} belong to?
            What season comes with {entity} in London?""",
        ),
        relation(
            "holiday_month",
            _HOLIDAYS,
            "the month of {entity}",
            """{Entity} is in {answer}.
            In {answer} we keep {entity}.
            Every year {entity} comes in {answer}.
            When {answer} is here, it is time for {entity}.
            People wait for {entity} until {answer}.""",
            """In which month is {entity}?
            When is {entity}, in which month?
            Which month has {entity} in it?""",
        ),
    )
