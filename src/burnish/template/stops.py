"""What ends an answer in a template: found by rendering, not looked up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from burnish.errors import TemplateError
from burnish.template.renderer import Renderer

ASKED, ANSWER, NEXT = "burnishasked", "burnishanswer", "burnishnext"
CALLED = ("burnishcallone", "burnishcalltwo")
KEYS = ("burnishkeyone", "burnishkeytwo")

_USER = {"role": "user", "content": ASKED}
_ASKS = {"role": "user", "content": NEXT}
_SAYS = {"role": "assistant", "content": ANSWER}
_RESULT = {"role": "tool", "name": CALLED[0], "tool_call_id": "burnish01", "content": NEXT}
_TOOL = {
    "type": "function",
    "function": {
        "name": CALLED[0],
        "description": "z",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer", "description": "x"}}},
    },
}


def _values(name: str) -> tuple[str, str]:
    return f"{name}first", f"{name}last"


def _calls(count: int) -> dict[str, Any]:
    calls = [
        {
            "type": "function",
            "id": f"burnish0{number}",
            "function": {"name": name, "arguments": dict(zip(KEYS, _values(name), strict=True))},
        }
        for number, name in enumerate(CALLED[:count], 1)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


@dataclass(frozen=True)
class Endings:
    """The token that closes a plain ``answer`` and the one that closes a tool ``call``.

    Where the template closes none, what begins the next turn, up to its first token: of a ``question`` and of
    a tool ``result``, as GLM's ``<|user|>`` and ``<|observation|>``. None for what there is not. ``openers``:
    the tokens of the generation prompt, with which another turn begins.
    """

    answer: str | None
    call: str | None
    question: str | None
    result: str | None
    openers: tuple[str, ...]

    def stop_tokens(self, renderer: Renderer, at_next_turn: bool) -> tuple[str, ...]:
        """Tokens at which generation stops, the tokenizer's end of sequence among them. ``at_next_turn``:
        also at what begins the next turn."""
        found = [self.answer, self.call]
        if at_next_turn:
            found += [text.strip() for text in (self.question, self.result) if text]
        if renderer.tokenizer.eos_token:
            found.append(str(renderer.tokenizer.eos_token))
        return tuple(dict.fromkeys(token for token in found if token))


def find_endings(renderer: Renderer) -> Endings:
    """What follows an answer may go on behind its end: phi-3 closes the last turn with ``<|end|>`` and the
    conversation with ``<|endoftext|>``; Cohere ends an answer with two tokens. The end of the turn is the
    last token of what still stands there once another message follows; where nothing does (GPT-OSS ends a
    turn otherwise when it is past), the last token of what stands there now.
    """
    answer = _Ending(renderer, _SAYS, _ASKS, (ANSWER,))
    two, one = (
        _Ending(renderer, _calls(n), _RESULT, [value for name in CALLED[:n] for value in _values(name)])
        for n in (2, 1)
    )
    call = two if two.renders else one  # some templates take one call a turn
    return Endings(
        answer.closing(),
        call.closing(),
        None if answer.closing() else answer.next_turn(),
        None if call.closing() else call.next_turn(),
        tuple(renderer.added_in(generation_header(renderer))),
    )


def written_tokens(renderer: Renderer, among: Iterable[str]) -> tuple[str, ...]:
    """Those of ``among`` that the template writes in an ordinary conversation."""
    text = ""
    for system in ([{"role": "system", "content": "z"}], []):
        try:
            text = renderer.render([*system, _USER, _SAYS], add_generation_prompt=True)
            break
        except TemplateError:  # some templates know no system turn
            continue
    return tuple(token for token in among if token in text)


def answer_header(renderer: Renderer) -> str:
    """What the template writes between a question and its answer without being asked for a generation
    prompt; empty where that cannot be told."""
    try:
        asked = renderer.render([_USER], add_generation_prompt=True)
        answered = renderer.render([_USER, _SAYS], add_generation_prompt=False)
    except TemplateError:
        return ""
    before = answered.partition(ANSWER)[0]
    return before[len(asked) :] if before.startswith(asked) else ""


def generation_header(renderer: Renderer) -> str:
    """What a generation prompt adds to a question; empty where that cannot be told."""
    try:
        asked, bare = (renderer.render([_USER], add_generation_prompt=given) for given in (True, False))
    except TemplateError:
        return ""
    return asked[len(bare) :] if asked.startswith(bare) else ""


def shared_length(one: str, other: str) -> int:
    """The number of characters with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


class _Ending:
    """How one kind of answer ends. ``parts``: what it says. ``last``: what stands behind it where nothing
    follows, ``past``: where ``following`` does; None where the template refuses that."""

    def __init__(
        self, renderer: Renderer, answer: dict[str, Any], following: dict[str, Any], parts: Sequence[str]
    ) -> None:
        self.renderer, self.before, self.inside = renderer, "", set[str]()
        self.is_call = "tool_calls" in answer
        self.last, self.past = self._behind([answer], parts), self._behind([answer, following], parts)

    def _behind(self, messages: Sequence[dict[str, Any]], parts: Sequence[str]) -> str | None:
        tools = [_TOOL] if self.is_call else []
        try:
            text = self.renderer.render([_USER, *messages], tools, add_generation_prompt=False)
        except TemplateError:
            return None
        asked, _, rest = text.partition(ASKED)
        if not all(part in rest for part in parts):
            return None
        first = min(rest.find(part) for part in parts)
        end = max(rest.find(part) + len(part) for part in parts)
        self.asked, self.before = asked, rest[:first]
        # A call is not over at what stands between its parts, or between two calls.
        self.inside |= set(self.renderer.added_in(rest[first:end]))
        return rest[end:]

    @property
    def renders(self) -> bool:
        return self.last is not None or self.past is not None

    def closing(self) -> str | None:
        """The token that closes the answer."""
        if self.last is None:
            return None
        past = self.last if self.past is None else self.past
        stays = self._tokens(self.last[: shared_length(self.last, past)]) or self._tokens(self.last)
        # What ends a question ends an answer too, where both end alike. Else the last token, leaving out
        # those that open turns: they stay as well where the next header begins alike for all roles.
        ends_question = self.renderer.added_in(self.before)[:1]
        if ends_question and ends_question[0] in stays:
            return ends_question[0]
        opens = set(self.renderer.added_in(self.asked))
        # What begins questions and answers alike begins the next turn here: nothing behind it ends this one.
        begins = opens & set(self.renderer.added_in(self.before))
        stays = list(takewhile(lambda token: token not in begins, stays))
        closing = [token for token in stays if token not in opens] or stays
        return closing[-1] if closing else None

    def next_turn(self) -> str | None:
        """What the next turn adds to the answer up to its first token, where that token does not begin
        answers too."""
        if self.past is None:
            return None
        tokens = self._tokens(self.past.partition(NEXT)[0])
        if not tokens or tokens[0] in self.renderer.added_in(self.before):
            return None
        text = self.past[: self.past.find(tokens[0]) + len(tokens[0])]
        goes_on = self.last is not None and text.startswith(self.last)
        return text[len(self.last or "") :] if goes_on else tokens[0]

    def _tokens(self, text: str) -> list[str]:
        """Added tokens that can end the answer."""
        found = [token for token in self.renderer.added_in(text) if token not in self.inside]
        if not self.is_call:
            return found
        # Where a template takes one call only, nothing shows that its tag may be followed by another.
        eos = str(self.renderer.tokenizer.eos_token)
        return [token for token in found if token == eos or not token.startswith(("</", "[/"))]
