"""The proof of one turn: what is served, what is to be learnt, and the laws that hold between them.

A template is a program, so a proof by reading it is out of reach; what can be had is a proof for the
conversation at hand, by rendering it. It has two steps. With invented parts the turn is rendered once for all
conversations of its shape; there it can be told for certain what the template does: what it keeps, in which
order, what it writes around, and how it ends (``Blueprint``). Then the real turn must be that one with the
real parts in the place of the invented ones, character for character. Where a template does something else
with what a row says, it shows here, and the row is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from burnish.data.conversation import SYSTEM_ROLES
from burnish.errors import TemplateError
from burnish.template import think, typed_tokens
from burnish.template.compose import Composed, composed
from burnish.template.header import header_of
from burnish.template.outline import Outline, Place
from burnish.template.parts import TOOLS, Invention, Part, reasoning_and_text, with_another_switch
from burnish.template.renderer import Renderer
from burnish.template.stops import Endings
from burnish.template.turn import Turn

Messages = Sequence[Mapping[str, Any]]

ORDER = ("reasoning", "text", "call")

TRAINED_AS_SAID = "The model would be trained on something else than what was written."


@dataclass(frozen=True)
class Rules:
    """What a turn is composed and judged by."""

    renderer: Renderer
    remedies: tuple[str, ...]
    endings: Endings
    stop_tokens: tuple[str, ...]


@dataclass(frozen=True)
class Blueprint:
    """The turn of invented parts. Its completion is ``added`` without the last ``dropped`` characters, and
    ``suffix`` behind that. ``text_name``: what stands for the answer's text."""

    composed: Composed
    prompt: Outline
    added: Outline
    dropped: int
    suffix: str
    notes: tuple[str, ...]
    text_name: str | None


def blueprint(rules: Rules, invention: Invention, index: int) -> Blueprint:
    """The proven turn at ``index`` of the invented conversation. Raises ``TemplateError`` with the law that
    fails."""
    return _Blueprint(rules, invention, index).proven()


def proven_turn(
    rules: Rules,
    plan: Blueprint,
    forms: Mapping[str, tuple[str, ...]],
    messages: Messages,
    tools: Messages,
    index: int,
) -> Turn | None:
    """The real turn at ``index``, proven to be ``plan`` with the real parts; None where it is not."""
    real = composed(rules.renderer, rules.remedies, messages, tools, index, plan.composed)
    in_prompt = plan.prompt.places(real.prompt, forms)
    in_added = plan.added.places(real.added, forms)
    if in_prompt is None or in_added is None:
        return None
    completion = real.added[: len(real.added) - plan.dropped] + plan.suffix
    _require_no_stop_within(rules, completion, in_added)
    _require_escaped(real.added, in_added, forms)
    marked = (real.prompt, completion) if typed_tokens.is_marked(real.prompt + completion) else None
    answer = messages[index]
    notes = list(plan.notes)
    content = str(answer.get("content") or "")
    if content.strip() and content != content.strip() and content not in completion:
        notes.append("white space at the edges of answers is trimmed")
    return Turn(
        typed_tokens.without_marks(real.prompt),
        typed_tokens.without_marks(completion),
        index,
        _content_at(plan, answer, completion, in_added),
        tuple(dict.fromkeys(notes)),
        marked,
    )


def _content_at(
    plan: Blueprint, answer: Mapping[str, Any], completion: str, places: Sequence[Place]
) -> int | None:
    """Where the content's first character stands in the completion."""
    content = str(answer.get("content") or "")
    lead = len(content) - len(content.lstrip())
    _, text = reasoning_and_text(answer)
    if text == content.strip():
        start = next((place.start for place in places if place.name == plan.text_name), None)
        if start is None and completion.count(text) == 1:  # a content in several pieces, between its tags
            start = completion.find(text)
    else:  # its reasoning stands in it: spans have a place where the template writes both as the row does
        start = completion.find(content.strip())
    if not text or start is None or start < 0:
        return None
    return len(typed_tokens.without_marks(completion[:start])) - lead


def _require_no_stop_within(rules: Rules, completion: str, places: Sequence[Place]) -> None:
    """Law *stops*: no stop token stands in what the person wrote, but for those that are read as text."""
    for place in places:
        text = completion[place.start : place.end]
        bare = typed_tokens.without_typed(text) if typed_tokens.is_marked(text) else text
        if early := next((token for token in rules.stop_tokens if token in bare), None):
            raise _broken(
                "stops", f"{early} stands within the answer", "At inference the answer would end there."
            )


def _require_escaped(text: str, places: Sequence[Place], forms: Mapping[str, tuple[str, ...]]) -> None:
    """Law *faithful*: between double quotes stands a value as JSON writes it, or no program reads the
    call."""
    for place in places:
        ways, raw = forms.get(place.name, ()), text[place.start : place.end]
        quoted = text[place.start - 1 : place.start] == text[place.end : place.end + 1] == '"'
        if quoted and len(ways) > 1 and raw == ways[0] and raw not in ways[1:]:
            raise _broken(
                "faithful",
                "the template puts a value between quotes without escaping it",
                "The model would learn to write tool calls that no program reads.",
            )


class _Blueprint:
    def __init__(self, rules: Rules, invention: Invention, index: int) -> None:
        self.rules, self.index = rules, index
        self.messages, self.tools = invention.messages[: index + 1], invention.tools
        self.answer = self.messages[index]
        self.parts = [part for part in invention.parts if part.message < index]
        self.answered = [part for part in invention.parts if part.message == index]
        self.notes: list[str] = []

    def proven(self) -> Blueprint:
        rules = self.rules
        asked = rules.renderer.render(self.messages[: self.index], self.tools, add_generation_prompt=True)
        prompt = Outline.of(asked)
        bos = str(rules.renderer.tokenizer.bos_token or "")
        if bos and asked.startswith(bos + bos):
            raise _broken(
                "served", f"the text begins with {bos} twice", "The base never saw such a beginning."
            )
        self._require_history(prompt)
        self._require_switches(asked)
        turn = composed(rules.renderer, rules.remedies, self.messages, self.tools, self.index)
        added = Outline.of(turn.added)
        self._require_no_header(turn)
        begin, end = self._require_answer(turn, added)
        dropped, suffix, stop = self._stop(added.text, begin, end)
        completion = added.text[: len(added.text) - dropped] + suffix
        self._require_only(completion[:begin], completion[end : len(completion) - len(stop)])
        self._require_closed_think(turn.prompt, completion)
        text = next((part.shown for part in self.answered if part.kind == "text"), None)
        return Blueprint(turn, prompt, added, dropped, suffix, tuple(self.notes), text)

    def _require_history(self, prompt: Outline) -> None:
        """Law *faithful* for what stands before the answer: texts, calls and tools are there. Reasoning of
        the past is the template's to show or to drop; that it drops it is noted."""
        lost: dict[str, None] = {}
        hidden = self._first_seen()
        for part in self.parts:
            if part.kind == "result name" or prompt.count(part):
                continue
            if part.message == TOOLS:
                continue
            role = self.messages[part.message]["role"]
            if part.message < hidden and role not in SYSTEM_ROLES:
                continue
            if part.kind == "reasoning":
                self.notes.append("reasoning of earlier turns is left out, as it will be at inference")
            elif part.kind == "text":
                lost[f"message {part.message + 1} ({role})"] = None
            else:
                lost[f"the tool calls of message {part.message + 1}"] = None
        said = [part for part in self.parts if part.kind in ("call", "argument") and part.message >= hidden]
        for number, calls in groupby(said, key=lambda part: part.message):
            if not lost and not _calls_in_order(prompt.text, [call for call in calls if prompt.count(call)]):
                lost[f"the tool calls of message {number + 1}"] = None
        if lost:
            raise _broken("faithful", f"the rendered turn has not kept {', '.join(lost)}", TRAINED_AS_SAID)
        tools = [part for part in self.parts if part.message == TOOLS and not prompt.count(part)]
        if tools:
            named = all(part.kind != "tool" for part in tools)
            raise _broken(
                "faithful",
                f"the template leaves out the {tools[0].label}"
                if named
                else "the template does not render the tools",
                "The model would learn to call tools that it was never told of.",
            )

    def _first_seen(self) -> int:
        """The place of the first message that the answer sees; only ``split_turns`` hides any."""
        if "split_turns" not in self.rules.remedies:
            return 0
        asked = [n for n, message in enumerate(self.messages[: self.index]) if message["role"] == "user"]
        return asked[-1] if asked else 0

    def _require_no_header(self, turn: Composed) -> None:
        """Law *only*: the header of the turn is no part of what is to be learnt."""
        rules, history = self.rules, self.messages[: self.index]
        remedies = [name for name in rules.remedies if name != "keep_reasoning"]
        if len(remedies) < len(rules.remedies) and not turn.shows_reasoning:
            # Reasoning that was put before a header would hide it.
            turn = composed(rules.renderer, remedies, self.messages, self.tools, self.index)
        places = [place for part in self.answered if (place := turn.added.find(part.shown)) >= 0]
        before = turn.added[: min(places)] if places else ""
        if not before.strip():
            return
        if header := header_of(rules.renderer, remedies, history, self.tools, before):
            raise _broken(
                "only",
                f"the template adds {header!r} to the answer",
                "It is the header of the turn: the model would learn to say it, since the generation prompt "
                "does not.",
            )

    def _require_switches(self, asked: str) -> None:
        """Law *faithful* for true, false and null in earlier calls."""
        for number, message in enumerate(self.messages[self._first_seen() : self.index], self._first_seen()):
            for other in with_another_switch(message):
                history = [*self.messages[:number], other, *self.messages[number + 1 : self.index]]
                if self.rules.renderer.render(history, self.tools, add_generation_prompt=True) == asked:
                    raise _broken(
                        "faithful",
                        f"the rendered turn has not kept the tool calls of message {number + 1}",
                        TRAINED_AS_SAID,
                    )

    def _require_answer(self, turn: Composed, added: Outline) -> tuple[int, int]:
        """Law *faithful* for the answer: each part is said once, in its order; (start, end) of them all."""
        written = added.template_text
        if "'type': 'text'" in written or '"type": "text"' in written:
            raise _broken(
                "faithful",
                "the template prints the list of parts",
                "The model would learn to say how its answer was stored.",
            )
        if escaped := next((form for form in ("&#34;", "&#39;", "&quot;") if form in written), None):
            raise _broken(
                "faithful",
                f"the template writes quotes as {escaped}",
                "The model would learn to write tool calls that no program reads.",
            )
        lost = dict.fromkeys(part.label for part in self.answered if not added.count(part))
        if lost or not self.answered:
            names = ", ".join("the answer" if name == "text" else name for name in lost) or "the answer"
            raise _broken("faithful", f"the rendered turn has not kept {names}", TRAINED_AS_SAID)
        # The name of a call may also stand where it is addressed (to=functions.add).
        once = (part for part in self.answered if part.kind != "call")
        if doubled := next((part for part in once if added.count(part) > 1), None):
            name = "the answer" if doubled.kind == "text" else doubled.label
            raise _broken("faithful", f"the rendered turn says {name} twice", TRAINED_AS_SAID)
        for other in with_another_switch(self.answer):
            messages = [*self.messages[: self.index], other]
            rules = self.rules
            if composed(rules.renderer, rules.remedies, messages, self.tools, self.index).added == turn.added:
                raise _broken(
                    "faithful",
                    "the rendered turn has not kept true, false or null in a tool call",
                    TRAINED_AS_SAID,
                )
        places = {part: added.text.find(part.shown) for part in self.answered}
        # Reasoning, text and calls: a model that calls first is stopped before it says the text.
        order = [places[part] for kind in ORDER for part in self.answered if part.kind == kind]
        if order != sorted(order) or not _calls_in_order(added.text, self.answered):
            raise _broken("faithful", "the rendered turn says it in another order", TRAINED_AS_SAID)
        first = min(places.values())
        return first, max(place + len(part.shown) for part, place in places.items())

    def _stop(self, added: str, begin: int, end: int) -> tuple[int, str, str]:
        """Law *stops*: how many characters behind the completion are dropped, what is put behind it, and the
        stop token that it ends in."""
        rules = self.rules
        # Some templates put instructions behind the last message, whatever it is: they are no part of it.
        limit = min((p for t in rules.endings.openers if (p := added.find(t, end)) >= 0), default=len(added))
        found = [(p, token) for token in rules.stop_tokens if (p := added.find(token, end, limit)) >= 0]
        place, stop = min(found, default=(limit, ""))
        if early := next((token for token in rules.stop_tokens if token in added[:place]), None):
            raise _broken(
                "stops",
                f"the template writes {early} within the answer",
                "At inference the answer would end there.",
            )
        if stop:
            return len(added) - place - len(stop), "", stop
        calls = "tool_calls" in self.answer
        following = rules.endings.result if calls else rules.endings.question
        if "stop_at_next_turn" in rules.remedies and following:
            return len(added) - limit, following, following.strip()
        if "append_stop" in rules.remedies and rules.stop_tokens:
            eos = rules.renderer.tokenizer.eos_token
            stop = str((rules.endings.answer if calls else None) or eos or rules.stop_tokens[0])
            return len(added) - end - len(added[end:limit].rstrip()), stop, stop
        stops = ", ".join(rules.stop_tokens) or "nothing"
        raise _broken(
            "stops",
            "no stop token follows the answer",
            f"The model would never learn to stop. The template ends the turn with {added[end:][-20:]!r}; "
            f"generation stops at {stops}.",
        )

    def _require_only(self, before: str, after: str) -> None:
        """Law *only*: what the template writes around an answer is said aloud."""
        if "tool_calls" in self.answer:
            return  # the tags of a call are what the model must write
        for text, place in ((before, "before"), (after, "behind")):
            if text.strip() and (place == "behind" or not reasoning_and_text(self.answer)[0]):
                self.notes.append(
                    f"the template writes {text.strip()!r} {place} answers, and it is trained"
                    + self._option(text)
                )

    def _option(self, text: str) -> str:
        """The option that moves an empty think block into the prompt, where the template reads it."""
        source = str(self.rules.renderer.source)
        empty = think.empty_block(text)
        # An option that was given stands at the head of the source.
        given = "enable_thinking is not defined %}{% set enable_thinking" in source
        if empty and empty[1] == len(text) and "enable_thinking" in source and not given:
            return "; template.options: {enable_thinking: false} would put it into the prompt"
        return ""

    def _require_closed_think(self, prompt: str, completion: str) -> None:
        """There is one block of reasoning at most, and what the prompt opens of it the answer closes."""
        if any(think.blocks(part.shown) != (0, 0) for part in self.answered):
            return  # the person wrote such tags, to whatever end
        opened, closed = think.blocks(completion)
        before = think.left_open(prompt) is not None
        if opened + before != closed or opened + before + (think.just_closed(prompt) is not None) > 1:
            raise _broken(
                "served",
                "the answer does not fit the think block of the generation prompt",
                "At inference the model would take its answer for reasoning, or reasoning for the answer.",
            )


def _calls_in_order(text: str, parts: Sequence[Part]) -> bool:
    """Whether each call is over, its arguments too, before the next one begins."""
    calls: list[list[int]] = []
    for part in parts:
        if part.kind == "call":
            calls.append([])
        if part.kind in ("call", "argument"):
            calls[-1].append(text.find(part.shown))
    return all(max(one) < min(other) for one, other in pairwise(calls))


def _broken(law: str, what: str, why: str, fix: str = "") -> TemplateError:
    return TemplateError(f"law '{law}' fails: {what}", why=why, fix=fix, law=law)
