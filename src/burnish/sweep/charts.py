"""The pictures of a sweep: curves over a swept number, or points against the number of trained weights, or
side by side where that number does not tell them apart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.numbers import ticks
from burnish.report.markup import Markup, element
from burnish.sweep.table import Column, Row, Spread, labels, shown

LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 30
"""Room around the plot for its labels, in pixels."""
LETTER, LINE = 6.9, 15
"""About the width of a letter, and the height of a line, at the size of the labels."""
LONGEST_LABEL, MOST_LABELS = 16, 12
"""Beyond these, points carry their rows' numbers."""
WIDTHS = (470, 340)
"""Of a picture beside another one, and on a phone; the style sheet shows one of them."""
MARKERS = (
    "M-5,0A5,5 0 1 0 5,0A5,5 0 1 0 -5,0Z",
    "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "M0,-6L5.5,4.5H-5.5Z",
    "M0,-6L6,0L0,6L-6,0Z",
)
"""Circle, square, triangle, diamond."""
COLOURS = 6
"""Classes c0, c1, ... of the style sheet."""


@dataclass(frozen=True)
class Scale:
    """From a value to pixels, along a line or along its logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True)
class Box:
    """A rectangle that something takes up."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    def outside(self, frame: Box) -> float:
        """How far it sticks out."""
        beyond = (
            frame.left - self.left,
            frame.top - self.top,
            self.right - frame.right,
            self.bottom - frame.bottom,
        )
        return sum(max(0.0, part) for part in beyond)


def numeric_key(rows: Sequence[Row]) -> str | None:
    """The key whose values are all numbers, the one with the most of them; None: there is none."""
    counts = {}
    for key in rows[0].values:
        values = [row.values[key] for row in rows]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            counts[key] = len(set(values))
    return max((key for key in counts if counts[key] > 1), key=lambda key: counts[key], default=None)


def series_name(values: dict[str, Any]) -> str:
    """The name of a row or a curve, by what it has that others have not: ``lora, rank 16``."""
    ends = labels(list(values))
    parts = [shown(v) if isinstance(v, str) else f"{ends[key]} {shown(v)}" for key, v in values.items()]
    return ", ".join(parts)


def equally_large(rows: Sequence[Row]) -> bool:
    """Whether some train as many weights as others, above which they would stand in a picture."""
    return len({row.figures["trainable"].mean for row in rows}) < len(rows)


def numbered(rows: Sequence[Row]) -> bool:
    """Whether the points carry numbers, for want of room for names."""
    longest = max(len(series_name(row.values)) for row in rows)
    if equally_large(rows):
        return longest * LETTER + 8 > _slot(rows, min(WIDTHS))
    return len(rows) > MOST_LABELS or longest > LONGEST_LABEL


def _slot(rows: Sequence[Row], width: int) -> float:
    return (width - LEFT - RIGHT) / len(rows)


def _mark(rows: Sequence[Row], number: int) -> str:
    return str(number + 1) if numbered(rows) else series_name(rows[number].values)


def series_of(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    """Rows that differ in ``key`` alone, in its order, by the name of what they have in common."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        rest = {other: value for other, value in row.values.items() if other != key}
        groups.setdefault(json.dumps(rest), []).append(row)
    return {
        series_name(json.loads(rest)): sorted(group, key=lambda row: float(row.values[key]))
        for rest, group in groups.items()
    }


def curves(key: str, rows: Sequence[Row], column: Column, width: int, described: str) -> Markup:
    """The column over the values of ``key``, a curve for each setting of the other keys."""
    drawn = [row for row in rows if column.key in row.figures]
    height = 300
    values = sorted({float(row.values[key]) for row in drawn})
    x = _across(values, width, log=values[0] > 0 and values[-1] >= 10 * values[0])
    y = _upward([row.figures[column.key] for row in drawn], column, height)
    parts = [*_grid(y, column, width), *_value_ticks(x, values, height)]
    groups = series_of(rows, key)
    # Whiskers of curves that share a value stand side by side.
    for number, group in enumerate(groups.values()):
        aside = 4 * (number - (len(groups) - 1) / 2) if len(groups) <= 8 else 0
        there = [row for row in group if column.key in row.figures]
        places = [(x.at(float(row.values[key])) + aside, row.figures[column.key]) for row in there]
        line = " ".join(f"{px:.1f},{y.at(spread.mean):.1f}" for px, spread in places)
        class_ = f"c{number % COLOURS}"
        if len(places) > 1:
            parts.append(element("polyline", points=line, class_=f"curve {class_}"))
        for px, spread in places:
            parts += [*_whisker(px, spread, y), marker(px, y.at(spread.mean), number)]
    return element("svg", *parts, **_canvas(width, height, described))


def scatter(rows: Sequence[Row], column: Column, width: int, described: str) -> Markup:
    """The column against the number of trained weights, a labelled point for each row."""
    drawn = [(number, row) for number, row in enumerate(rows) if column.key in row.figures]
    height = 300 + 14 * max(0, len(drawn) - 8)
    weights = sorted({row.figures["trainable"].mean for _, row in drawn})
    x = _across(weights, width, log=True)
    y = _upward([row.figures[column.key] for _, row in drawn], column, height)
    parts = [*_grid(y, column, width), *_decades(x, height)]
    dots, texts = [], []
    taken: list[Box] = []
    for number, row in drawn:
        spread, px = row.figures[column.key], x.at(row.figures["trainable"].mean)
        py = y.at(spread.mean)
        dots += [*_whisker(px, spread, y), marker(px, py, 0)]
        taken.append(Box(px - 7, py - 7, px + 7, py + 7))
        taken.append(Box(px - 5, y.at(spread.high) - 1, px + 5, y.at(spread.low) + 1))
        texts.append((px, py, _mark(rows, number)))
    frame = Box(LEFT + 2, TOP, width - 2, height - BOTTOM - 2)
    for px, py, text in texts:
        box = _free_place(px, py, text, taken, frame)
        taken.append(box)
        parts += _label(px, py, text, box)
    return element("svg", *parts, *dots, **_canvas(width, height, described))


def side_by_side(rows: Sequence[Row], column: Column, width: int, described: str) -> Markup:
    """The column of each row, one beside the other."""
    height = 300
    y = _upward([row.figures[column.key] for row in rows if column.key in row.figures], column, height)
    parts = list(_grid(y, column, width))
    for number, row in enumerate(rows):
        px = LEFT + (number + 0.5) * _slot(rows, width)
        parts += _tick(px, height, _mark(rows, number))
        if column.key in row.figures:
            spread = row.figures[column.key]
            parts += [*_whisker(px, spread, y), marker(px, y.at(spread.mean), 0)]
    return element("svg", *parts, **_canvas(width, height, described))


def marker(x: float, y: float, number: int) -> Markup:
    """The mark of a point on curve ``number``, around (x, y)."""
    shape = MARKERS[number % len(MARKERS)]
    return element(
        "path", d=shape, transform=f"translate({x:.1f} {y:.1f})", class_=f"point c{number % COLOURS}"
    )


def _across(values: Sequence[float], width: int, log: bool) -> Scale:
    low, high = values[0], values[-1]
    if low == high:
        low, high = (low / 3, high * 3) if log else (low - 1, high + 1)
    room = 24
    return Scale(low, high, LEFT + room, width - RIGHT - room, log)


def _upward(spreads: Sequence[Spread], column: Column, height: int) -> Scale:
    low, high = min(s.low for s in spreads), max(s.high for s in spreads)
    if column.key.endswith("_change"):
        low, high = min(low, 0.0), max(high, 0.0)  # no change is worth seeing
    room = 0.1 * (high - low) or 0.1 * abs(high) or 0.1
    return Scale(low - room, high + room, height - BOTTOM, TOP)


def _grid(y: Scale, column: Column, width: int) -> Iterator[Markup]:
    right = width - RIGHT
    factor = 100 if column.unit in ("%", "points") else 1
    marks = ticks(y.low * factor, y.high * factor, 5)
    digits = next(
        d for d in range(12) if len({f"{m:.{d}f}" for m in marks}) == len(marks) and _exact(marks, d)
    )
    for mark in marks:
        py = y.at(mark / factor)
        zero = mark == 0 and column.key.endswith("_change")
        yield element("line", class_="axis" if zero else "grid", x1=LEFT, x2=right, y1=py, y2=py)
        text = f"{mark:,.{digits}f}".replace("-", "\N{MINUS SIGN}")
        yield element("text", text, class_="label end", x=LEFT - 8, y=py + 4)
    yield element("line", class_="axis", x1=LEFT, x2=right, y1=y.start, y2=y.start)


def _exact(marks: Sequence[float], digits: int) -> bool:
    return all(math.isclose(mark, round(mark, digits), abs_tol=1e-9) for mark in marks)


def _tick(x: float, height: int, text: str) -> tuple[Markup, Markup]:
    bottom = height - BOTTOM
    return (
        element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4),
        element("text", text, class_="label middle", x=x, y=bottom + 18),
    )


def _value_ticks(x: Scale, values: Sequence[float], height: int) -> Iterator[Markup]:
    """The values themselves, but for those that would run into the one before."""
    end = 0.0
    for value in values:
        text, px = shown(value), x.at(value)
        half = len(text) * LETTER / 2
        if px - half >= end:
            yield from _tick(px, height, text)
            end = px + half + 8


def _decades(x: Scale, height: int) -> Iterator[Markup]:
    """Powers of ten; with 2 and 5 times these between, where there are few."""
    low, high = math.log10(x.low), math.log10(x.high)
    factors = (1,) if high - low > 2.5 else (1, 2, 5) if high - low > 0.4 else range(1, 10)
    end = 0.0
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in factors:
            value = factor * 10.0**power
            px, text = x.at(value), compact(value)
            half = len(text) * LETTER / 2
            if x.start - 24 <= px <= x.end + 24 and px - half >= end:
                yield from _tick(px, height, text)
                end = px + half + 8


def compact(value: float) -> str:
    """``2500000`` -> ``2.5 M``"""
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {name}"
    return f"{value:g}"


def _whisker(x: float, spread: Spread, y: Scale) -> Iterator[Markup]:
    if spread.high > spread.low:
        low, high = y.at(spread.low), y.at(spread.high)
        yield element("line", class_="whisker", x1=x, x2=x, y1=low, y2=high)
        for py in (low, high):
            yield element("line", class_="whisker", x1=x - 4, x2=x + 4, y1=py, y2=py)


def _free_place(x: float, y: float, text: str, taken: Sequence[Box], frame: Box) -> Box:
    """The nearest place around (x, y) where the text is on nothing else; or the least bad one."""
    wide = len(text) * LETTER / 2 + 2
    choices = []
    for away in (10, 20, 34, 50, 68, 88, 110):
        for turn in (0, 6, 3, 9, 1, 5, 11, 7, 2, 4, 10, 8):  # right, left, below, above, ... of twelve
            dx, dy = math.cos(turn * math.pi / 6), math.sin(turn * math.pi / 6)
            cx, cy = x + dx * (away + wide), y + dy * (away + LINE / 2)
            box = Box(cx - wide, cy - LINE / 2, cx + wide, cy + LINE / 2)
            cost = sum(box.overlap(other) for other in taken) + 100 * box.outside(frame)
            if not cost:
                return box
            choices.append((cost, box))
    return min(choices, key=lambda choice: choice[0])[1]


def _label(x: float, y: float, text: str, box: Box) -> Iterator[Markup]:
    """The text in its box, with a line to its point where it stands away from it."""
    near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    if math.hypot(near_x - x, near_y - y) > 14:
        yield element("line", class_="leader", x1=x, y1=y, x2=near_x, y2=near_y)
    yield element("text", text, class_="name middle", x=(box.left + box.right) / 2, y=box.bottom - 3.5)


def _canvas(width: int, height: int, described: str) -> dict[str, str]:
    return {
        "class_": "wide" if width > 400 else "narrow",
        "viewBox": f"0 0 {width} {height}",
        "role": "img",
        "aria_label": described,
    }
