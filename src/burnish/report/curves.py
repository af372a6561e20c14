"""Loss and learning rate over the steps, drawn as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from burnish.numbers import ticks
from burnish.report.markup import Markup, element, joined

Point = tuple[float, float]
Row = dict[str, Any]

LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 30
"""Room around the plot for its labels, in pixels."""


@dataclass(frozen=True)
class Axes:
    """From (step, value) to pixels."""

    width: int
    height: int
    steps: tuple[float, float]
    values: tuple[float, float]

    def x(self, step: float) -> float:
        low, high = self.steps
        return LEFT + (step - low) / ((high - low) or 1) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.values
        share = (value - low) / ((high - low) or 1)
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)

    def line(self, points: Sequence[Point], class_: str) -> Markup | None:
        if len(points) < 2:
            return None
        shown = " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in points)
        return element("polyline", class_=class_, points=shown)

    def grid(self, about_values: int, number: str = "g") -> Markup:
        """Horizontal lines with their values, ticks with their steps, and the axes' names."""
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        for value in ticks(*self.values, about_values):
            y = self.y(value)
            parts.append(element("line", class_="grid", x1=LEFT, x2=right, y1=y, y2=y))
            label = format(value, number)
            parts.append(element("text", label, class_="label end", x=LEFT - 8, y=y + 4))
        for step in ticks(*self.steps, max(2, self.width // 110)):
            if step == int(step):
                x = self.x(step)
                parts.append(element("line", class_="axis", x1=x, x2=x, y1=bottom, y2=bottom + 4))
                parts.append(element("text", f"{step:,.0f}", class_="label middle", x=x, y=bottom + 18))
        parts.append(element("line", class_="axis", x1=LEFT, x2=right, y1=bottom, y2=bottom))
        return joined(*parts)


def loss_chart(train: Sequence[Row], held_out: Sequence[Row], width: int, described: str) -> Markup:
    """Training loss, raw (faint) and smoothed, and held-out losses as points on a line."""
    raw = [(row["step"], row["loss"]) for row in train]
    points = [(row["step"], row["loss"]) for row in held_out]
    losses = [loss for _, loss in raw + points]
    room = 0.04 * (max(losses) - min(losses)) or 0.1
    spread = (max(0.0, min(losses) - room), max(losses) + room)
    axes = Axes(width, 300, _steps(train, held_out), spread)
    dots = [
        element(
            "circle",
            class_="held-out-dot",
            cx=axes.x(step),
            cy=axes.y(loss),
            r=4,
        )
        for step, loss in points
    ]
    return element(
        "svg",
        axes.grid(6),
        axes.line(thinned(raw, 2 * width), "raw"),
        axes.line(thinned(smoothed(raw), 2 * width), "train"),
        axes.line(points, "held-out"),
        *dots,
        **_canvas(axes, described),
    )


def rate_chart(train: Sequence[Row], held_out: Sequence[Row], width: int, described: str) -> Markup:
    """The learning rate, small, over the same steps as the losses."""
    points = [(row["step"], row["learning_rate"]) for row in train]
    axes = Axes(width, 100, _steps(train, held_out), (0.0, max(rate for _, rate in points) or 1.0))
    line = axes.line(thinned(points, 2 * width), "rate")
    return element("svg", axes.grid(2, ".1g"), line, **_canvas(axes, described))


def window(count: int) -> int:
    """Steps that a smoothed value is the mean of: odd, about a twentieth of the run."""
    return max(1, count // 40 * 2 + 1) if count >= 20 else 1


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The centred mean over ``window`` steps; near both ends, over those of them that there are."""
    count, half = len(points), window(len(points)) // 2
    sums = [0.0, *accumulate(value for _, value in points)]
    result = []
    for i, (step, _) in enumerate(points):
        low, high = max(0, i - half), min(count, i + half + 1)
        result.append((step, (sums[high] - sums[low]) / (high - low)))
    return result


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most about ``limit`` points that look the same: the lowest and highest of each stretch."""
    if len(points) <= limit:
        return list(points)
    size = -(-len(points) * 2 // limit)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        extremes = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept


def _steps(train: Sequence[Row], held_out: Sequence[Row]) -> tuple[float, float]:
    steps = [row["step"] for row in (*train, *held_out)]
    return min(steps), max(steps)


def _canvas(axes: Axes, described: str) -> dict[str, str]:
    return {
        "class_": "wide" if axes.width > 500 else "narrow",
        "viewBox": f"0 0 {axes.width} {axes.height}",
        "role": "img",
        "aria_label": described,
    }
