"""HTML that is escaped unless it was made here.

``element("p", "1 < 2")`` gives ``<p>1 &lt; 2</p>``: every plain string is text, and only what
``element`` made is markup. So nothing that a model or a data file says can become part of the page.
"""

from __future__ import annotations

from html import escape


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


Child = str | None
VOID = {"meta", "br", "circle", "line", "rect", "polyline", "path"}
"""Elements without content; the SVG ones among them close themselves."""

# Control characters are shown, not obeyed: U+2400.. are their pictures. Tab and newline are layout.
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421}


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """``<tag attributes>children</tag>``; children and attributes that are None are left out.

    Attribute names are written as Python allows: ``class_`` for class, ``aria_label`` for aria-label.
    ``True`` gives an attribute without a value.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in VOID:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Markup:
    return Markup("".join(text(child) for child in children if child is not None))


def text(value: str) -> Markup:
    """The string as HTML: escaped, unless it is ``Markup``."""
    return value if isinstance(value, Markup) else Markup(escape(value.translate(_PICTURES)))


def _attribute(name: str, value: str | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f' {name}="{text(shown)}"'
