"""The base's and the tuned model's answers to the same prompts, side by side."""

from __future__ import annotations

from burnish.diagnose import Measured
from burnish.diagnose.measured import Row
from burnish.numbers import plural
from burnish.report.markup import Markup, element, joined

OPEN = 6
"""Pairs that are shown at once; the others are folded."""
LONG = 800
"""Characters from which on an answer may scroll, so that a keyboard must reach it."""


def answers_section(measured: Measured) -> Markup | None:
    pairs = measured.pairs
    if not pairs:
        return None
    articles = [_pair(base, tuned) for base, tuned in pairs]
    rest = articles[OPEN:]
    more = element(
        "details",
        element("summary", f"{plural(len(rest), 'more prompt')}"),
        element("div", *rest, class_="pairs"),
    )
    return element(
        "section",
        element("h2", "Answers before and after"),
        element("p", _tally(measured), class_="about"),
        element("div", *articles[:OPEN], class_="pairs"),
        more if rest else None,
        id="answers",
    )


def _tally(measured: Measured) -> str:
    pairs, held_out = measured.pairs, measured.counts.get("held out")
    first = "The first prompts of the held-out rows, in their order; none was picked."
    if measured.counts and not held_out:
        first = "No row was held out: these prompts are of rows that were trained."
    judged = [(b["correct"], t["correct"]) for b, t in pairs if t["correct"] is not None]
    if not judged:
        return first
    before, after = sum(b is True for b, _ in judged), sum(t is True for _, t in judged)
    return f"{first} Right answers: {before} of {len(judged)} before, {after} after."


def _pair(base: Row, tuned: Row) -> Markup:
    *earlier, last = tuned["prompt"] or [{"role": "user", "content": ""}]
    reference = tuned.get("reference")
    return element(
        "article",
        *[_turn(message) for message in earlier],
        element("h3", element("span", last["content"], dir="auto"), class_="prompt"),
        element("div", _answer(base), _answer(tuned), class_="sides"),
        element(
            "p",
            element("span", "The data says", class_="who"),
            element("span", reference, dir="auto", class_="said"),
            class_="reference",
        )
        if reference
        else None,
        class_="pair",
    )


def _turn(message: dict[str, str]) -> Markup:
    """A message before the last one."""
    return element(
        "p",
        element("span", message["role"], class_="who"),
        element("span", message["content"], dir="auto", class_="said"),
        class_="earlier",
    )


def _answer(row: Row) -> Markup:
    marks = [
        element("span", "✓ right", class_="mark right") if row["correct"] is True else None,
        element("span", "✗ wrong", class_="mark wrong") if row["correct"] is False else None,
        None if row["stopped"] else element("span", "⋯ did not stop", class_="mark running"),
    ]
    said = row["answer"].strip() or element("em", "nothing")
    return element(
        "div",
        element("p", element("span", row["who"], class_="who"), joined(*marks), class_="head"),
        element("div", said, dir="auto", class_="said answer", tabindex=0 if len(said) > LONG else None),
        class_=f"side {row['who']}",
    )
