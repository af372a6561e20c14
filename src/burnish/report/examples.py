"""Training examples, token by token, with the trained ones marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from burnish.diagnose import Measured
from burnish.numbers import plural
from burnish.report.markup import Markup, element, joined

SPECIAL = re.compile(r"<[^<>\s]+>|\[/?\w+\]")
LONGEST_RUN, HEAD, TAIL = 240, 160, 40
"""A longer run of tokens of one kind is shown by its first and last ones."""


def examples_section(measured: Measured) -> Markup | None:
    rows = [row for row in measured.examples if row["tokens"]]
    if not rows:
        return None
    legend = element(
        "p",
        element("mark", "trained"),
        "tokens are what the model learns to say; ",
        element("em", "given"),
        " ones it only reads. ↵ is a line break; thin lines part the tokens.",
        class_="legend prose",
    )
    return element(
        "section",
        element("h2", "What is trained"),
        legend,
        *[_example(row) for row in rows],
        id="examples",
    )


def _example(row: dict[str, Any]) -> Markup:
    tokens = row["tokens"]
    trained = sum(token["trained"] for token in tokens)
    runs = [
        _run(list(run), bool(is_trained))
        for is_trained, run in groupby(tokens, key=lambda token: token["trained"])
    ]
    return element(
        "figure",
        element("div", *runs, class_="tokens", dir="auto"),
        element(
            "figcaption",
            element("span", f"{trained:,} of {plural(len(tokens), 'token')} trained", class_="number"),
            element("span", row["source"], class_="source"),
        ),
        class_="example",
    )


def _run(tokens: Sequence[dict[str, Any]], trained: bool) -> Markup:
    """Neighbouring tokens of one kind; the middle of a very long run is left out, and says so."""
    if len(tokens) > LONGEST_RUN:
        left_out = len(tokens) - HEAD - TAIL
        words = f" [{left_out:,} more such tokens] "
        shown = joined(
            *map(_token, tokens[:HEAD]),
            element("em", words, class_="left-out"),
            *map(_token, tokens[-TAIL:]),
        )
    else:
        shown = joined(*map(_token, tokens))
    return element("mark", shown) if trained else element("span", shown, class_="given")


def _token(token: dict[str, Any]) -> Markup:
    shown = token["text"].replace("\n", "↵\n")
    special = " special" if SPECIAL.fullmatch(token["text"].strip()) else ""
    return element("span", shown, class_=f"token{special}")
