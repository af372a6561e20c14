"""A page of tokens: which are trained, and on hover or focus what each one is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from burnish.files import writing
from burnish.numbers import plural
from burnish.report.document import document
from burnish.report.markup import Markup, element
from burnish.tokens.view import ViewedToken, by_message

SPECIAL = re.compile(r"<[^<>\s]+>|\[/?\w+\]")


def write_tokens_page(path: Path, examples: Sequence[tuple[str, Sequence[ViewedToken]]]) -> None:
    """Write one new file that needs nothing but a browser. ``examples``: file and row, and the tokens. Raises
    ``RunError`` where it cannot be written, or is there already."""
    with writing(str(path), why="There is no page.", fix="Give another name."), path.open("xb") as file:
        file.write(tokens_page(examples).encode("utf-8", "replace"))


def tokens_page(examples: Sequence[tuple[str, Sequence[ViewedToken]]]) -> str:
    trained = sum(token.trained for _, tokens in examples for token in tokens)
    total = sum(len(tokens) for _, tokens in examples)
    opening = element(
        "header",
        element("p", "burnish", class_="brand"),
        element("h1", "What is trained"),
        element(
            "p",
            f"{trained:,} of {plural(total, 'token')} in {plural(len(examples), 'example')}",
            class_="facts",
        ),
        element(
            "p",
            element("mark", "trained"),
            element("mark", "trained, with another weight", class_="weighted"),
            element("span", "given"),
            element("span", "↵ is a line break. Point at a token, or tab to it, to see what it is."),
            class_="legend",
        ),
    )
    body = element("body", opening, element("main", *[_example(*example) for example in examples]))
    return document("burnish: tokens", body)


def _example(source: str, tokens: Sequence[ViewedToken]) -> Markup:
    trained = sum(token.trained for token in tokens)
    return element(
        "figure",
        element("div", *[_message(part) for part in by_message(tokens)], class_="told"),
        element(
            "figcaption",
            element("span", f"{trained:,} of {plural(len(tokens), 'token')} trained", class_="number"),
            element("span", source, class_="source"),
        ),
        class_="example",
    )


def _message(tokens: Sequence[ViewedToken]) -> Markup:
    first = tokens[0]
    name = first.role if first.message is None else f"{first.role} {first.message + 1}"
    runs = [
        _run(list(run), trained, weight)
        for (trained, weight), run in groupby(tokens, key=lambda t: (t.trained, t.weight))
    ]
    return element(
        "div",
        element("div", name, class_="role"),
        element("div", *runs, class_="tokens", dir="auto"),
        class_=f"message {first.role}",
    )


def _run(tokens: Sequence[ViewedToken], trained: bool, weight: float) -> Markup:
    shown = [_token(token) for token in tokens]
    if not trained:
        return element("span", *shown, class_="given")
    return element("mark", *shown, class_=None if weight == 1 else "weighted")


def _token(token: ViewedToken) -> Markup:
    said = token.text.replace("\n", "↵")
    where = token.role if token.message is None else f"{token.role}, message {token.message + 1}"
    parts = [
        f"id {token.id}",
        repr(said)[1:-1] or "part of a character",
        where,
        f"weight {token.weight:g}",
        token.why,
    ]
    special = " special" if SPECIAL.fullmatch(token.text.strip()) else ""
    return element(
        "span",
        token.text.replace("\n", "↵\n") or "·",
        class_=f"token{special}",
        tabindex="0",
        data_tip=" · ".join(parts),
        aria_label=" · ".join(parts),
    )
