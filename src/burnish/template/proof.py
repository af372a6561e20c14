"""The proof of one turn: what is served, what is to be learnt, and the laws that hold between them.

A template is a program, so a proof by reading it is out of reach; what can be had is a proof for the
conversation at hand, by rendering it. For ChatML and the second message of a conversation::

    prompt     <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎      as inference renders it
    rendered   <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello.<|im_end|>⏎
    added                                                           Hello.<|im_end|>⏎
    completion                                                      Hello.<|im_end|>
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burnish.errors import TemplateError
from burnish.template import typed
from burnish.template.said import Piece, pieces, reasoning_and_text
from burnish.template.stops import shared_length
from burnish.template.turn import Turn

if TYPE_CHECKING:
    from burnish.template.chat_template import ChatTemplate

Messages = Sequence[Mapping[str, Any]]

_ROLE_WORD = re.compile(
    r"(?<![a-z_])(assistant|chatbot|model|bot|gpt\d*|ai|response)(?![a-z_])", re.IGNORECASE
)
"""A word in what the template writes before an answer that shows it to be the header of the turn."""

_OPEN_THINK = re.compile(r"<think>\s*$")
_CLOSED_THINK = re.compile(r"</think>\s*$")
_EMPTY_THINK = re.compile(r"\s*<think>\s*</think>\s*")


@dataclass(frozen=True)
class Shape:
    """What a template does with messages of these roles and fields, seen with invented contents.

    ``lost``: numbers (from 0) of messages whose text it does not render. ``unserved``: characters at the
    end of the prompt that the rendered turn does not go on from; 0 where law *served* holds. ``before``,
    ``after``: what it writes around the text of the answer, None where the answer is more than text.
    """

    lost: frozenset[int]
    unserved: int
    before: str | None
    after: str | None


def shape_of(template: ChatTemplate, messages: Messages, tools: Messages, index: int) -> Shape | None:
    """The shape of the turn at ``index``; None where the template refuses the invented contents.

    A short content may be found in rendered text by chance, an invented one never.
    """
    invented = [_invented(message, number) for number, message in enumerate(messages[: index + 1])]
    if not index:
        return None
    try:
        prompt = template.render(invented[:index], tools, add_generation_prompt=True)
        rendered = template.render(invented, tools, add_generation_prompt=False)
    except TemplateError:
        return None
    lost = {n for n, m in enumerate(invented[:index]) if m["content"] and _name(n) not in prompt}
    if invented[index]["content"] and _name(index) not in rendered:
        lost.add(index)
    plain = set(invented[index]) == {"role", "content"} and rendered.startswith(prompt)
    before, found, after = rendered[len(prompt) :].partition(_name(index)) if plain else ("", "", "")
    unserved = len(prompt) - shared_length(prompt, rendered)
    return Shape(frozenset(lost), unserved, before if found else None, after if found else None)


def answer_header(template: ChatTemplate) -> str:
    """What the template writes between a question and its answer without being asked for a generation
    prompt; empty where that cannot be told."""
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _name(1)}]
    try:
        asked = template.render(messages[:1], add_generation_prompt=True)
        answered = template.render(messages, add_generation_prompt=False)
    except TemplateError:
        return ""
    before = answered.partition(_name(1))[0]
    return before[len(asked) :] if before.startswith(asked) else ""


class Proof:
    """The turn at ``index`` of ``messages``, typed special tokens set apart. ``where``: for errors."""

    def __init__(
        self, template: ChatTemplate, messages: Messages, tools: Messages, index: int, where: str
    ) -> None:
        self.template, self.messages, self.tools = template, messages, tools
        self.index, self.where, self.answer = index, where, messages[index]
        self.notes: list[str] = []

    def turn(self) -> Turn:
        """The proven turn. Raises ``TemplateError`` with the law that fails."""
        if not self.index:
            raise self._broken(
                "served",
                "nothing stands before the answer",
                "At inference there is always something to answer.",
            )
        prompt, rendered = self._render(self.index, True), self._render(self.index + 1, False)
        self._require_history(prompt)
        said = pieces(self.answer)
        added = self._added(prompt, rendered, said)
        added = self._with_reasoning(added, prompt)
        begin, end = self._require_answer(added, said)
        completion, stop = self._up_to_stop(added, end)
        self._require_only(completion[:begin], completion[end : len(completion) - len(stop)])
        self._require_closed_think(prompt, completion, said)
        apart = (prompt, completion) if typed.is_apart(prompt + completion) else None
        return Turn(
            typed.plain(prompt), typed.plain(completion), self.index, tuple(dict.fromkeys(self.notes)), apart
        )

    def _render(self, count: int, add_generation_prompt: bool) -> str:
        try:
            return self.template.render(
                self.messages[:count], self.tools, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise TemplateError(f"{self.where}: {error.what}") from error

    def _added(self, prompt: str, rendered: str, said: Sequence[Piece]) -> str:
        """What rendering the answer adds to the prompt: law *served*."""
        if rendered.startswith(prompt):
            return rendered[len(prompt) :]
        shape = self.template.shape(self.messages, self.tools, self.index)
        # By chance an answer may begin as the rest of the prompt does; an invented one does not.
        shared = len(prompt) - shape.unserved if shape else shared_length(prompt, rendered)
        places = [place[0] for piece in said if (place := piece.find(rendered, shared))]
        if "follow_generation_prompt" in self.template.remedies and places:
            reasons = bool(said) and said[0].name == "reasoning" and said[0].find(rendered, shared)
            return _followed(prompt, rendered, shared, min(places), bool(reasons))
        raise self._broken(
            "served",
            "the generation prompt is no beginning of the rendered turn",
            f"At inference the model would read ...{prompt[max(shared - 12, 0) :][:60]!r}, "
            f"in training ...{rendered[max(shared - 12, 0) :][:60]!r}.",
        )

    def _with_reasoning(self, added: str, prompt: str) -> str:
        """What ``keep_reasoning`` puts before the answer."""
        reasoning, _ = reasoning_and_text(self.answer)
        if not reasoning or reasoning in added or "keep_reasoning" not in self.template.remedies:
            return added
        if _CLOSED_THINK.search(prompt):
            return added  # too late to reason: law faithful will say so
        if not _OPEN_THINK.search(prompt):
            return f"<think>\n{reasoning}\n</think>\n\n{_EMPTY_THINK.sub('', added, count=1)}"
        closed = added.lstrip()
        rest = closed if closed.startswith("</think>") else f"</think>\n\n{added}"
        return f"{reasoning}\n{rest}" if prompt.endswith("\n") else f"\n{reasoning}\n{rest}"

    def _require_history(self, prompt: str) -> None:
        """Law *faithful* for what stands before the answer: texts and tools are there. Calls, results and
        reasoning of the past are the template's to show or to drop; that it drops reasoning is noted."""
        shape = self.template.shape(self.messages, self.tools, self.index)
        lost = []
        for number, message in enumerate(self.messages[: self.index]):
            reasoning, text = reasoning_and_text(message)
            if (shape and number in shape.lost) or (text and text not in prompt):
                lost.append(f"message {number + 1} ({message['role']})")
            elif any(piece.find(prompt) is None for piece in pieces(message)[bool(reasoning) :]):
                lost.append(f"the tool calls of message {number + 1}")
            if reasoning and reasoning not in prompt:
                self.notes.append("reasoning of earlier turns is left out, as it will be at inference")
        if lost:
            raise self._broken(
                "faithful",
                f"the rendered turn has not kept {', '.join(lost)}",
                "The model would be trained on something else than what was written.",
            )
        names = [str((tool.get("function") or tool).get("name", "")) for tool in self.tools]
        if any(name not in prompt for name in names):
            raise self._broken(
                "faithful",
                "the template does not render the tools",
                "The model would learn to call tools that it was never told of.",
            )

    def _require_answer(self, added: str, said: Sequence[Piece]) -> tuple[int, int]:
        """Law *faithful* for the answer; (start, end) of what the person wrote in ``added``."""
        shape = self.template.shape(self.messages, self.tools, self.index)
        content = str(self.answer.get("content") or "")
        if shape and shape.before is not None and added.startswith(shape.before):
            for text in (content, content.strip()):
                if added[len(shape.before) :] == text + str(shape.after):
                    self._note_trimmed(text, content)
                    return len(shape.before), len(shape.before) + len(text)
        lost = [piece.name for piece in said if piece.find(added) is None]
        if not said:
            lost.append("the answer")
        if lost:
            names = ", ".join("the answer" if name == "text" else name for name in lost)
            raise self._broken(
                "faithful",
                f"the rendered turn has not kept {names}",
                "The model would be trained on something else than what was written.",
            )
        places = [place for piece in said if (place := piece.find(added))]
        self._note_trimmed(content if content in added else content.strip(), content)
        return min(start for start, _ in places), max(end for _, end in places)

    def _note_trimmed(self, text: str, content: str) -> None:
        if len(text) < len(content):
            self.notes.append("white space at the edges of answers is trimmed")

    def _up_to_stop(self, added: str, end: int) -> tuple[str, str]:
        """The completion and the stop token that it ends in: law *stops*."""
        found = [
            (place, token) for token in self.template.stop_tokens if (place := added.find(token, end)) >= 0
        ]
        if found:
            place, stop = min(found)
            return added[: place + len(stop)], stop
        if "append_stop" in self.template.remedies and self.template.stop_tokens:
            stop = str(self.template.tokenizer.eos_token or self.template.stop_tokens[0])
            return added[:end] + added[end:].rstrip() + stop, stop
        stops = ", ".join(self.template.stop_tokens) or "nothing"
        raise self._broken(
            "stops",
            "no stop token follows the answer",
            f"The model would never learn to stop. The template ends the turn with {added[end:][-20:]!r}; "
            f"generation stops at {stops}.",
        )

    def _require_only(self, before: str, after: str) -> None:
        """Law *only*: what the template writes around an answer is said aloud, or refused."""
        if "tool_calls" in self.answer:
            return  # the tags of a call are what the model must write
        if _ROLE_WORD.search(before):
            raise self._broken(
                "only",
                f"the template adds {before.strip()!r} to the answer",
                "It is the header of the turn: the model would learn to say it, since the generation prompt "
                "does not.",
            )
        for text, place in ((before, "before"), (after, "behind")):
            if text.strip() and (place == "behind" or not reasoning_and_text(self.answer)[0]):
                self.notes.append(
                    f"the template writes {text.strip()!r} {place} answers, and it is trained"
                    + self._option(text)
                )

    def _option(self, text: str) -> str:
        """The option that moves an empty think block into the prompt, where the template reads it."""
        reads = "enable_thinking" in str(self.template.source)
        if _EMPTY_THINK.fullmatch(text) and reads and "enable_thinking" not in self.template.options:
            return "; template.options: {enable_thinking: false} would put it into the prompt"
        return ""

    def _require_closed_think(self, prompt: str, completion: str, said: Sequence[Piece]) -> None:
        """A think block that the prompt or the template opens is closed in the answer, no other is."""
        if any("think>" in form for piece in said for form in piece.forms):
            return  # the person wrote such tags, to whatever end
        opened = completion.count("<think>") + bool(_OPEN_THINK.search(prompt))
        if opened != completion.count("</think>"):
            raise self._broken(
                "served",
                "the answer does not close the think block that the generation prompt opens",
                "At inference the model would take its answer for reasoning, or reasoning for the answer.",
            )

    def _broken(self, law: str, what: str, why: str) -> TemplateError:
        return TemplateError(f"{self.where}: law '{law}' fails: {what}", why=why, law=law)


def _followed(prompt: str, rendered: str, shared: int, start: int, reasons: bool) -> str:
    """The answer, which begins at ``start`` of ``rendered``, as it must go on from ``prompt``.

    A think block that the prompt leaves open takes the answer's reasoning; without any it is closed: as
    the template closes it, else as DeepSeek-R1 closes an empty one. Where the prompt has closed its block,
    there is no place for reasoning.
    """
    if _CLOSED_THINK.search(prompt) and reasons:
        return rendered[rendered.find("</think>", start) + len("</think>") :].lstrip("\n")
    if _OPEN_THINK.search(prompt) and not reasons:
        close = rendered.rfind("</think>", shared, start)
        return rendered[close:] if close >= 0 else f"\n</think>\n\n{rendered[start:]}"
    if prompt[-1:].isspace() or _CLOSED_THINK.search(prompt) or _OPEN_THINK.search(prompt):
        return rendered[start:]
    lead = rendered[:start]
    return lead[len(lead.rstrip(" ")) :] + rendered[start:]


def _invented(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    invented = dict(message)
    if message.get("content"):
        reasoning, text = reasoning_and_text(message)
        inline = bool(reasoning) and "</think>" in str(message["content"])
        invented["content"] = f"<think>\nr\n</think>\n\n{_name(number)}" if inline and text else _name(number)
    return invented


def _name(number: int) -> str:
    """Letters only, which no template has a reason to change, and no name within another."""
    letters = "".join(chr(ord("a") + number // 26**place % 26) for place in (2, 1, 0))
    return f"burnish{letters}text"
