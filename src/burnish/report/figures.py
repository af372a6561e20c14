"""The key figures, before and after, each with its interval drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from burnish.diagnose import Measured
from burnish.diagnose.finding import percent
from burnish.numbers import plural, signed
from burnish.report.markup import Markup, element

Kind = Literal["share", "nats", "tokens"]


@dataclass(frozen=True)
class Figure:
    """A number of ``evaluation.json`` and how to read it."""

    name: str
    title: str
    about: str
    kind: Kind
    better: Literal["higher", "lower", ""]
    of: tuple[str, str] = ("", "")
    """(the name of the count it is a share of, what is counted)."""


FIGURES = (
    Figure(
        "held_out_accuracy",
        "Unseen questions answered right",
        "Asked through the chat template; none of these rows was trained.",
        "share",
        "higher",
        ("held_out_questions", "question"),
    ),
    Figure(
        "stopped_share",
        "Answers that stop by themselves",
        "Share of the sample answers that end before the length limit.",
        "share",
        "higher",
        ("sample_answers", "sample answer"),
    ),
    Figure(
        "held_out_loss",
        "Loss on held-out answers",
        "How surprising the right answers are. Lower is better.",
        "nats",
        "lower",
    ),
    Figure(
        "cloze_accuracy",
        "Facts completed in plain text",
        "What the model knows, asked without a chat. It should not fall.",
        "share",
        "higher",
        ("cloze_facts", "fact"),
    ),
    Figure(
        "prose_loss",
        "Loss on other text",
        "General language, not the task. A rise means forgetting.",
        "nats",
        "lower",
        ("prose_tokens", "token"),
    ),
    Figure(
        "answer_tokens",
        "Length of an answer",
        "The mean over the sample answers.",
        "tokens",
        "",
    ),
)


def figures_section(measured: Measured) -> Markup | None:
    """A card for each figure that base or tuned model has."""
    cards = [_card(figure, measured) for figure in FIGURES if _known(figure, measured)]
    if not cards:
        return None
    legend = element(
        "p",
        *[element("span", element("span", class_=f"swatch {who}"), who) for who in ("base", "tuned")],
        element("span", element("span", class_="whisker-key"), "95 % interval"),
        class_="legend",
    )
    return element(
        "section",
        element("h2", "Key figures"),
        legend,
        element("div", *cards, class_="cards"),
        id="figures",
    )


def _known(figure: Figure, measured: Measured) -> bool:
    return figure.name in measured.base or figure.name in measured.tuned


def _card(figure: Figure, measured: Measured) -> Markup:
    shown = {
        who: _row(figure, figures)
        for who, figures in (("base", measured.base), ("tuned", measured.tuned))
        if figure.name in figures
    }
    top = 1.0 if figure.kind == "share" else max(_high(figure, f) for f in (measured.base, measured.tuned))
    bars = [
        element(
            "div",
            element("dt", who),
            element("dd", value, class_="number"),
            _bar(who, _span(figures, figure.name), top),
            class_="measure",
        )
        for who, (value, figures) in shown.items()
    ]
    count = measured.tuned.get(figure.of[0]) or measured.base.get(figure.of[0])
    about = figure.about + (f" {plural(count, figure.of[1])}{_source(figure, measured)}." if count else "")
    return element(
        "article",
        element("h3", figure.title),
        _change(figure, measured),
        element("dl", *bars),
        element("p", about, class_="about"),
        class_="card",
    )


def _source(figure: Figure, measured: Measured) -> str:
    """Of what text the loss is."""
    of = measured.base.get("prose_of") if figure.name == "prose_loss" else None
    return f" of {of}" if of else ""


def _row(figure: Figure, figures: dict[str, Any]) -> tuple[Markup, dict[str, Any]]:
    value = figures[figure.name]
    if figure.kind != "share":
        digits, unit = (3, "nats a token") if figure.kind == "nats" else (1, "tokens")
        return element("span", f"{value:.{digits}f} ", element("small", unit)), figures
    span = figures.get(f"{figure.name}_interval")
    interval = f" {100 * span[0]:.1f} to {100 * span[1]:.1f}" if span else None
    return element("span", percent(value), element("small", interval) if interval else None), figures


def _change(figure: Figure, measured: Measured) -> Markup | None:
    """The difference, and in words whether it is for the better."""
    both = measured.both(figure.name)
    if both is None:
        return None
    difference = both[1] - both[0]
    scale, digits, unit = {
        "share": (100, 1, "points"),
        "nats": (1, 3, "nats"),
        "tokens": (1, 1, "tokens"),
    }[figure.kind]
    shown = f"{signed(scale * difference, digits)} {unit}"
    word = _change_in_words(figure, measured, difference)
    return element(
        "p",
        element("span", shown, class_="number"),
        element("span", word, class_="judged") if word else None,
        class_=f"change {word.split()[0] if word else 'neutral'}",
    )


def _change_in_words(figure: Figure, measured: Measured, difference: float) -> str:
    if not figure.better:
        return ""
    spans = measured.both(f"{figure.name}_interval")
    if spans is not None and spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]:
        return "no sure change"
    if not float(f"{difference:.3f}"):
        return "no change"
    return "better" if (difference > 0) == (figure.better == "higher") else "worse"


def _high(figure: Figure, figures: dict[str, Any]) -> float:
    return figures.get(figure.name) or 0.0


def _span(figures: dict[str, Any], name: str) -> tuple[float, float, float]:
    """(value, low, high); low and high are the value itself where there is no interval."""
    value = figures[name]
    low, high = figures.get(f"{name}_interval") or (value, value)
    return value, low, high


def _bar(who: str, span: tuple[float, float, float], top: float) -> Markup:
    """A bar of the value on a scale from 0 to ``top``, with a whisker from low to high."""
    value, low, high = (100 * min(max(part / (top or 1), 0.0), 1.0) for part in span)
    parts = [
        element("rect", class_="track", x=0, y=3, width="100%", height=8, rx=4),
        element("rect", class_=f"bar {who}", x=0, y=3, width=f"{value:.2f}%", height=8, rx=4),
    ]
    if high > low:
        left, right = f"{low:.2f}%", f"{high:.2f}%"
        parts.append(element("line", class_="whisker", x1=left, x2=right, y1=7, y2=7))
        parts += [element("line", class_="whisker", x1=x, x2=x, y1=2, y2=12) for x in (left, right)]
    return element("svg", *parts, class_="interval", height=14, width="100%", aria_hidden="true")
