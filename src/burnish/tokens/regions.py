"""Which part of an example's text belongs to which message.

A template tells nobody where it writes what, so it is rendered with other contents: where those come out,
the message stands. What lies between two messages is split where the first one is closed::

    <|im_start|>user⏎ Hi <|im_end|>⏎<|im_start|>assistant⏎ Hello. <|im_end|>
    header            said   what lies between              said
    └─── message 0 ────────────────┘└─── message 1 ────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.errors import TemplateError
from burnish.template import ChatTemplate
from burnish.template import typed_tokens as typed
from burnish.template.parts import content_pieces, invented_name, reasoning_and_text
from burnish.template.stops import shared_length
from burnish.tokens.example import Example

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Region:
    """The characters ``start`` to ``end`` of the message at ``place`` in the example's conversation; those in
    ``said`` are what the message says, the rest the template writes."""

    place: int
    start: int
    said: tuple[int, int]
    end: int


def regions(example: Example, template: ChatTemplate, text: str) -> list[Region]:
    """The regions of ``text``, which is the example's, in its order. None for plain text. What a template
    leaves out has none; some templates put the system prompt before the last question."""
    conversation = example.conversation
    if conversation is None or not example.turns:
        return []
    last = example.turns[-1]
    messages, tools = template.marked(conversation)
    return _Finder(template, messages[: last + 1], tools, text, example.turns).regions()


class _Finder:
    def __init__(
        self, template: ChatTemplate, messages: Messages, tools: Messages, text: str, turns: Sequence[int]
    ) -> None:
        self.template, self.messages, self.tools, self.text = template, messages, tools, text
        self.turns = turns
        self.invented = [_invented(message, number) for number, message in enumerate(messages)]

    def regions(self) -> list[Region]:
        found: list[Region] = []
        cursor = 0
        for place, header in self._in_order():
            behind = cursor + len(header) if self.text.startswith(header, cursor) else cursor
            said = self._said(place, max(behind, self._prompt_length(place)))
            if found:
                between = self.text[cursor : said[0]] if said[1] > said[0] else self.text[cursor:]
                end = cursor + self._closing(found[-1].place, cursor, between)
                found[-1] = replace(found[-1], end=end)
                start = end
            else:
                start = self._first_header(place, said[0])
            said = (max(said[0], start), max(said[1], start))
            found.append(Region(place, start, said, len(self.text)))
            cursor = said[1]
        return found

    def _in_order(self) -> list[tuple[int, str]]:
        """The places of the messages in the order in which they are rendered, each with what stands between
        it and the one before; empty where that cannot be told."""
        last = len(self.messages) - 1
        natural = [(place, "") for place in range(last + 1)]
        prompt = self._render(self.invented[:last], True)
        if prompt is None:
            return natural
        places = {place: prompt.find(invented_name(place)) for place in range(last)}
        named = [place for place in range(last) if _is_named(self.invented[place], place)]
        order: list[tuple[int, int]] = []
        before = -1
        for place in range(last):
            if place not in named:
                order.append((before, place))  # nothing to be found by: behind the one before
            elif places[place] >= 0:
                before = places[place]
                order.append((before, place))
        ordered, cursor = [], 0
        for at, place in sorted(order):
            if place in named:
                ordered.append((place, prompt[cursor:at]))
                cursor = at + len(invented_name(place))
            else:
                ordered.append((place, ""))
        return [*ordered, (last, "")]

    def _prompt_length(self, place: int) -> int:
        """Where the last answer begins; 0 for other messages."""
        if place < len(self.messages) - 1:
            return 0
        prompt = self._render(self.messages[:place], True)
        return len(prompt) if prompt and self.text.startswith(prompt) else 0

    def _said(self, place: int, start: int) -> tuple[int, int]:
        """What the message says: from the first of its pieces to the last, looked for from ``start``."""
        return _extent(self.messages[place], self.text, start, reasoning=place in self.turns)

    def _closing(self, place: int, start: int, between: str) -> int:
        """How much of what stands behind a message, up to the next, closes it: as much as stands there too
        where nothing follows, but no further than the token that ends a turn, and no header."""
        alone = self._alone(place, start)
        agreed = self._whole_tokens(between, shared_length(alone or "", between))
        stops = self.template.stop_tokens
        ends = [at + len(s) for s in stops if (at := between.rfind(s, 0, agreed)) >= 0]
        if ends:
            return _with_space(between, max(ends))
        opens = self._opening()
        at = between.find(opens) if opens else -1
        if at > 0 and (not agreed or at < agreed):
            return at
        if agreed:
            return agreed
        first = min(((at, at + len(s)) for s in stops if (at := between.find(s)) >= 0), default=(0, 0))[1]
        if alone == "":  # nothing closes it, but the token that opens the next turn may end an answer
            return first if place in self.turns else 0
        return _with_space(between, first) if first else 0

    def _whole_tokens(self, text: str, length: int) -> int:
        """``length``, or where the token begins that it would cut: ``<|im_end|>`` and ``<|im_start|>``
        begin alike."""
        for token in self.template.added:
            at = text.find(token, max(length - len(token) + 1, 0))
            if 0 <= at < length < at + len(token):
                return at
        return length

    def _alone(self, place: int, start: int) -> str | None:
        """What is written behind a message with which the conversation ends; None where it is refused."""
        if not _is_named(self.invented[place], place) and not content_pieces(self.messages[place]):
            rendered = self._render(self.messages[: place + 1], False)
            return rendered[start:] if rendered and self.text[:start] == rendered[:start] else None
        rendered = self._render(self.invented[: place + 1], False)
        if rendered is None:
            return None
        earlier = [
            rendered.find(invented_name(n)) + len(invented_name(n))
            for n in range(place)
            if invented_name(n) in rendered
        ]
        _, end = _extent(self.invented[place], rendered, max(earlier, default=0), reasoning=False)
        return rendered[end:]

    def _opening(self) -> str:
        """The token that opens every text, behind that which begins it: headers begin with it."""
        bos = str(self.template.tokenizer.bos_token or "")
        text = self.text.removeprefix(bos) if bos else self.text
        return next((token for token in self.template.added if token.strip() and text.startswith(token)), "")

    def _first_header(self, place: int, said: int) -> int:
        """Where the first message begins: at its header, as the template writes it in the middle of a talk;
        system turns and what cannot be told, behind the token that begins texts."""
        before = self.text[:said]
        bos = str(self.template.tokenizer.bos_token or "")
        begins = len(bos) if bos and before.startswith(bos) else 0
        role = self.messages[place]["role"]
        if role not in ("user", "assistant"):
            return begins
        asks, says = {"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}
        talk = [asks, says, asks] if role == "user" else [asks, says]
        invented = [_invented(message, number) for number, message in enumerate(talk)]
        whole = self._render(invented, False, tools=())
        if whole is None:
            return begins
        other = _Finder(self.template, talk, (), whole, ())
        one, two = invented_name(len(talk) - 2), invented_name(len(talk) - 1)
        between = whole.partition(one)[2].partition(two)[0]
        header = between[other._closing(len(talk) - 2, whole.find(one) + len(one), between) :]
        return said - len(header) if header and before.endswith(header) else begins

    def _render(
        self, messages: Messages, add_generation_prompt: bool, tools: Messages | None = None
    ) -> str | None:
        """None where the template refuses the messages."""
        tools = self.tools if tools is None else tools
        try:
            text = self.template.render(messages, tools, add_generation_prompt=add_generation_prompt)
        except TemplateError:
            return None
        return typed.without_marks(text)


def _extent(message: Mapping[str, Any], text: str, start: int, *, reasoning: bool) -> tuple[int, int]:
    """From the first piece of the message to the last, in their order; nothing where there is none."""
    begin, at = -1, start
    for piece in content_pieces(message):
        if piece.kind == "reasoning" and not reasoning:
            continue  # templates leave out that of past turns
        plain = replace(piece, forms=tuple(map(typed.without_marks, piece.forms)))
        if place := plain.find(text, at):
            begin, at = place[0] if begin < 0 else begin, place[1]
    return (begin, at) if begin >= 0 else (start, start)


def _with_space(text: str, end: int) -> int:
    return end + len(text[end:]) - len(text[end:].lstrip())


def _invented(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The message with another text, white space and reasoning around it as they were."""
    content = str(message.get("content") or "")
    _, text = reasoning_and_text(message)
    before, found, after = content.rpartition(text) if text else (content, "", "")
    return {**message, "content": f"{before}{invented_name(number)}{after}" if found else content}


def _is_named(message: Mapping[str, Any], number: int) -> bool:
    return invented_name(number) in str(message.get("content") or "")
