"""What a template writes around contents, whatever they say: proven by running it without them.

A template is a program that may look at a content in any way. Here it runs with slots in place of contents. A
slot can be written out, alone or joined to other text; where the template asks what it says, the answer is
no, and the question becomes a condition (``lacks``); anything else that is done with a slot fails, and then
there is no frame. A run that ends has taken no decision that hangs on what contents say beyond those
conditions, so every conversation of these roles that meets them is rendered as the frame says::

    <|im_start|>user⏎  0  <|im_end|>⏎<|im_start|>assistant⏎

Filling it in takes a fiftieth of the time that rendering does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.compiler import CodeGenerator
from jinja2.compiler import Frame as Scope
from transformers.utils.chat_template_utils import _compile_jinja_template

VARYING = ("strftime_now", "random", "lipsum")
"""What makes a template write now this, now that."""

_PLACE = re.compile("\0burnish([0-9]+)\0")


@dataclass(frozen=True)
class Frame:
    """``pieces``: text, and numbers (from 0) of the messages whose contents stand between. It holds for
    contents that are not empty, neither begin nor end in white space and hold none of ``lacks``."""

    pieces: tuple[str | int, ...]
    lacks: tuple[str, ...]

    def filled(self, contents: Sequence[str]) -> str | None:
        """The text for these contents; None where the frame does not hold."""
        for content in contents:
            if not content or content.strip() != content:
                return None
            for text in self.lacks:
                if text in content:
                    return None
        return "".join([piece if isinstance(piece, str) else contents[piece] for piece in self.pieces])


def frame_of(source: str, roles: Sequence[str], **variables: Any) -> Frame | None:
    """The frame of messages with these roles, of a content and nothing else each; None where none can be
    proven. ``variables``: what the template gets besides."""
    try:
        template = _watching(source)
        if template is None:
            return None
        lacks: dict[str, None] = {}
        messages = [{"role": role, "content": Slot(n, lacks)} for n, role in enumerate(roles)]
        text = template.render(messages=messages, **variables)
    except (Exception, NotProven):  # whatever a slot is not made for
        return None
    pieces = [int(piece) if number % 2 else piece for number, piece in enumerate(_PLACE.split(text))]
    return Frame(tuple(pieces), tuple(lacks))


class NotProven(BaseException):
    """The template does with a content what no frame can say. No ``Exception``, since Jinja's tests take some
    for an answer: ``is sequence`` is false where ``len`` fails."""


class Slot:
    """Stands for a content, or for texts and contents joined together.

    It passes for a string where Python code asks for its class. It is none, so that functions written in C,
    which would look into it unseen, fail.
    """

    def __init__(self, place: int | None, lacks: dict[str, None], joined: tuple[Any, ...] = ()) -> None:
        self._place, self._lacks, self._joined = place, lacks, joined or (self,)

    __class__ = property(lambda _: str)

    def _written(self) -> str:
        return "".join(p if type(p) is str else f"\0burnish{p._place}\0" for p in self._joined)

    def _note_lack(self, text: Any) -> None:
        if type(text) is not str or not text or self._place is None:
            raise NotProven
        self._lacks[text] = None

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: Any) -> Slot:
        return _joined(self, other)

    def __radd__(self, other: Any) -> Slot:
        return _joined(other, self)

    def __contains__(self, text: Any) -> bool:
        self._note_lack(text)
        return False

    startswith = endswith = __contains__

    def __eq__(self, other: object) -> bool:
        return False if type(other) is str and not other else other in self

    def __ne__(self, other: object) -> bool:
        return not self == other

    def split(self, text: Any) -> list[Slot]:
        self._note_lack(text)
        return [self]

    def replace(self, text: Any, other: Any) -> Slot:
        self._note_lack(text)
        return self

    def strip(self, characters: Any = None) -> Slot:
        if self._place is None or not (characters is None or str.isspace(characters)):
            raise NotProven
        return self

    lstrip = rstrip = strip

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotProven

    __str__ = __repr__ = __format__ = __len__ = __iter__ = __getitem__ = __getattr__ = _refuse
    __hash__ = __int__ = __float__ = __index__ = __trunc__ = __complex__ = __bytes__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse


def _joined(one: Any, other: Any) -> Slot:
    parts: list[Any] = []
    lacks: dict[str, None] = {}
    for part in (one, other):
        if type(part) is Slot:
            parts += part._joined
            lacks = part._lacks
        elif type(part) is str:
            parts.append(part)
        else:
            raise NotProven
    return Slot(None, lacks, tuple(parts))


class _Concatenating(CodeGenerator):
    """``a ~ b`` as a call that knows slots."""

    def visit_Concat(self, node: nodes.Concat, frame: Scope) -> None:
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


@lru_cache(maxsize=16)
def _watching(source: str) -> Template | None:
    """The template compiled to write slots out as places. None where it could write one into a text that it
    goes on to read: those of macros and blocks are such texts."""
    if any(word in source for word in VARYING):
        return None
    environment = _compile_jinja_template(source).environment.overlay(finalize=_finalized)
    tree = environment.parse(source)
    texts = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock, nodes.Block)
    if next(tree.find_all(texts), None) or any(loop.recursive for loop in tree.find_all(nodes.For)):
        return None
    environment.code_generator_class = _Concatenating
    environment.concatenated = _concatenated
    template: Template = environment.from_string(source)
    return template


def _finalized(value: Any) -> Any:
    return value._written() if type(value) is Slot else value


def _concatenated(parts: Sequence[Any]) -> Any:
    return reduce(lambda one, other: one + other, (p if type(p) is Slot else str(p) for p in parts))
