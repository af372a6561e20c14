"""What a template does with messages of certain kinds, seen with invented contents.

A short content may be found in rendered text by chance: an ``a`` stands in ``assistant``. An invented one is
found where it was rendered and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.errors import TemplateError
from burnish.template.said import reasoning_and_text

if TYPE_CHECKING:
    from burnish.template.chat_template import ChatTemplate

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Shape:
    """``lost``: numbers (from 0) of messages whose text it does not render. ``before``, ``after``: what it
    writes around the text of the answer, None where the answer is more than text.
    """

    lost: frozenset[int]
    before: str | None
    after: str | None


def shape_of(template: ChatTemplate, messages: Messages, tools: Messages, index: int) -> Shape | None:
    """The shape of the turn at ``index``; None where the template refuses the invented contents."""
    invented = [_invented(message, number) for number, message in enumerate(messages[: index + 1])]
    if not index:
        return None
    try:
        prompt = template.render(invented[:index], tools, add_generation_prompt=True)
        rendered = template.render(invented, tools, add_generation_prompt=False)
    except TemplateError:
        return None
    lost = {n for n, m in enumerate(invented[:index]) if m["content"] and invented_name(n) not in prompt}
    if invented[index]["content"] and invented_name(index) not in rendered:
        lost.add(index)
    plain = set(invented[index]) == {"role", "content"} and rendered.startswith(prompt)
    before, found, after = rendered[len(prompt) :].partition(invented_name(index)) if plain else ("", "", "")
    return Shape(frozenset(lost), before if found else None, after if found else None)


def answer_header(template: ChatTemplate) -> str:
    """What the template writes between a question and its answer without being asked for a generation
    prompt; empty where that cannot be told."""
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": invented_name(1)}]
    try:
        asked = template.render(messages[:1], add_generation_prompt=True)
        answered = template.render(messages, add_generation_prompt=False)
    except TemplateError:
        return ""
    before = answered.partition(invented_name(1))[0]
    return before[len(asked) :] if before.startswith(asked) else ""


def _invented(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    invented = dict(message)
    if message.get("content"):
        reasoning, text = reasoning_and_text(message)
        inline = bool(reasoning) and "</think>" in str(message["content"])
        invented["content"] = (
            f"<think>\nr\n</think>\n\n{invented_name(number)}" if inline and text else invented_name(number)
        )
    return invented


def invented_name(number: int) -> str:
    """A content that stands for that of message ``number``: letters only, which no template has a reason to
    change, and no name within another."""
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (2, 1, 0))
    return f"burnish{letters}text"
