"""The frame of every page: one file that needs nothing but a browser, and may load nothing."""

from __future__ import annotations

from importlib.resources import files

from burnish.report.markup import Markup, element

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded and no script runs, whatever should slip into a page."""


def document(title: str, body: Markup, *more_styles: str) -> str:
    """A whole page. ``more_styles``: CSS of our own, behind the style that all pages have."""
    # Read as CSS by the browser: it must not be escaped.
    styles = (files(__package__).joinpath("style.css").read_text("utf-8"), *more_styles)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup("".join(styles))),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"
