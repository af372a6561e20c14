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
from typing import TYPE_CHECKING, Any

from burnish.data.conversation import SYSTEM_ROLES
from burnish.errors import TemplateError
from burnish.template import think, typed
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


LONGEST_WORD = 16
"""Characters beside tokens that may stand between the header of a turn and its answer."""

_NOWHERE = "\ue000burnish"
"""An answer that begins as no other does."""


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
                'Mark the message with "train": false: it is then given and not learnt.',
            )
        prompt, rendered = self._render(self.index, True), self._render(self.index + 1, False)
        bos = str(self.template.tokenizer.bos_token or "")
        if bos and prompt.startswith(bos + bos):
            raise self._broken(
                "served", f"the text begins with {bos} twice", "The base never saw such a beginning."
            )
        self._require_history(prompt)
        said = pieces(self.answer)
        added = self._added(prompt, rendered, said)
        self._require_no_header(added, said)
        added = self._with_reasoning(added, prompt)
        begin, end = self._require_answer(added, said)
        completion, stop = self._up_to_stop(added, end)
        self._require_only(completion[:begin], completion[end : len(completion) - len(stop)])
        self._require_closed_think(prompt, completion, said)
        apart = (prompt, completion) if typed.is_apart(prompt + completion) else None
        return Turn(
            typed.plain(prompt),
            typed.plain(completion),
            self.index,
            self._content_at(typed.plain(completion), begin, bool(apart)),
            tuple(dict.fromkeys(self.notes)),
            apart,
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
        if "follow_generation_prompt" in self.template.remedies:
            return self._followed(prompt, rendered, said)
        shared = shared_length(prompt, rendered)
        raise self._broken(
            "served",
            "the generation prompt is no beginning of the rendered turn",
            f"At inference the model would read ...{prompt[max(shared - 12, 0) :][:60]!r}, "
            f"in training ...{rendered[max(shared - 12, 0) :][:60]!r}.",
        )

    def _followed(self, prompt: str, rendered: str, said: Sequence[Piece]) -> str:
        """The answer as it must go on from the prompt, taken from a rendering that begins otherwise.

        It begins behind the header of the turn, where that is the one that the prompt ends in; else where
        another answer would make a difference. A think block that the prompt leaves open takes the answer's
        reasoning; without any it is closed: as the template closes it, else as DeepSeek-R1 closes an empty
        one. Where the prompt has closed its block, there is no place for reasoning.
        """
        other = {"role": "assistant", "content": _NOWHERE}
        history = self.messages[: self.index]
        start = shared_length(
            rendered, self.template.render([*history, other], self.tools, add_generation_prompt=False)
        )
        asked = self.template.render(history, self.tools, add_generation_prompt=False)
        header = prompt[len(asked) :] if prompt.startswith(asked) else ""
        opened = think.left_open(prompt)
        if opened and header and header not in rendered:
            header = header[: header.rfind(opened.open)]
        place = rendered.rfind(header, 0, start) if header.strip() else -1
        behind_header = place >= 0 and self._is_structure(rendered[place + len(header) : start])
        answer = rendered[place + len(header) :] if behind_header else _spaced(prompt, rendered, start)
        reasons = bool(said) and said[0].name == "reasoning" and bool(said[0].find(answer))
        if closed := think.just_closed(prompt):
            if reasons:
                return answer.partition(closed.close)[2].lstrip("\n")
            empty = think.empty_block(answer)
            return answer[empty[1] :] if empty else answer
        if opened:
            if answer.lstrip().startswith(opened.open):
                return answer.partition(opened.open)[2].lstrip()
            if not reasons and not answer.lstrip().startswith(opened.close):
                return f"{opened.inside}{opened.close}{opened.behind}{answer}"
        return answer

    def _is_structure(self, text: str) -> bool:
        """Hardly more than tokens of the template, such as ``<|channel|>final<|message|>``."""
        for token in (*self.template.added, think.THINK.open, think.THINK.close):
            text = text.replace(token, "")
        said = (message["content"].strip() for message in self.messages[: self.index])
        return len(text.strip()) <= LONGEST_WORD and not any(words and words in text for words in said)

    def _with_reasoning(self, added: str, prompt: str) -> str:
        """What ``keep_reasoning`` puts before the answer."""
        reasoning, _ = reasoning_and_text(self.answer)
        if not reasoning or reasoning in added or "keep_reasoning" not in self.template.remedies:
            return added
        if think.just_closed(prompt):
            return added  # too late to reason: law faithful will say so
        if opened := think.left_open(prompt):
            rest = added.lstrip()
            if not rest.startswith(opened.close):
                rest = f"{opened.close}{opened.behind}{added}"
            first = "" if prompt[-1:].isspace() else opened.inside
            return f"{first}{reasoning}{opened.inside}{rest}"
        if empty := think.empty_block(added):
            tags, end = empty
            return tags.around(reasoning) + added[end:]
        return think.THINK.around(reasoning) + added

    def _require_history(self, prompt: str) -> None:
        """Law *faithful* for what stands before the answer: texts, calls and tools are there. Reasoning of
        the past is the template's to show or to drop; that it drops it is noted."""
        shape = self.template.shape(self.messages, self.tools, self.index)
        lost = []
        for number, message in enumerate(self.messages[: self.index]):
            if number < self._first_seen() and message["role"] not in SYSTEM_ROLES:
                continue
            missing = {piece.name for piece in pieces(message) if piece.find(prompt) is None}
            if (shape and number in shape.lost) or "text" in missing:
                lost.append(f"message {number + 1} ({message['role']})")
            elif missing - {"reasoning"}:
                lost.append(f"the tool calls of message {number + 1}")
            if "reasoning" in missing:
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

    def _first_seen(self) -> int:
        """The place of the first message that the answer sees; only ``split_turns`` hides any."""
        if "split_turns" not in self.template.remedies:
            return 0
        asked = [n for n, message in enumerate(self.messages[: self.index]) if message["role"] == "user"]
        return asked[-1] if asked else 0

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
        if not said or (shape and self.index in shape.lost and not lost):
            lost.append("the answer")
        printed = "'type': 'text'" in added or '"type": "text"' in added
        if printed and "content_parts" in self.template.remedies and not _says(said, "type"):
            raise self._broken(
                "faithful",
                "the template prints the list of parts",
                "The model would learn to say how its answer was stored.",
            )
        escaped = [form for form in ("&#34;", "&#39;", "&quot;") if form in added and not _says(said, form)]
        if escaped:
            raise self._broken(
                "faithful",
                f"the template writes quotes as {escaped[0]}",
                "The model would learn to write tool calls that no program reads.",
            )
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

    def _content_at(self, completion: str, begin: int, apart: bool) -> int | None:
        content = typed.plain(str(self.answer.get("content") or ""))
        text = content.strip()
        reasoning, said = reasoning_and_text(self.answer)
        if reasoning and said == text:  # of its own field, before the text
            first = max(completion.find(typed.plain(reasoning)), 0) + len(typed.plain(reasoning))
        else:
            first = 0 if apart or reasoning else begin
        place = completion.find(text, first)
        return place - (len(content) - len(content.lstrip())) if text and place >= 0 else None

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
            self._require_no_earlier_stop(added[:place])
            return added[: place + len(stop)], stop
        self._require_no_earlier_stop(added)
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

    def _require_no_header(self, added: str, said: Sequence[Piece]) -> None:
        """Law *only*: the header of the turn is no part of what is to be learnt."""
        shape = self.template.shape(self.messages, self.tools, self.index)
        places = [place[0] for piece in said if (place := piece.find(added))]
        before = added[: min(places)] if places else ""
        if shape and shape.before and added.startswith(shape.before):
            before = shape.before  # a short answer may stand in the header by chance
        if _ROLE_WORD.search(before):
            raise self._broken(
                "only",
                f"the template adds {before.strip()!r} to the answer",
                "It is the header of the turn: the model would learn to say it, since the generation prompt "
                "does not.",
            )

    def _require_no_earlier_stop(self, before: str) -> None:
        """No stop token stands within the answer, but for those that a person typed, which are text."""
        bare = typed.without(before) if typed.is_apart(before) else before
        if early := next((token for token in self.template.stop_tokens if token in bare), None):
            raise self._broken(
                "stops",
                f"the template writes {early} within the answer",
                "At inference the answer would end there.",
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
        reads = "enable_thinking" in str(self.template.source)
        empty = think.empty_block(text)
        if empty and empty[1] == len(text) and reads and "enable_thinking" not in self.template.options:
            return "; template.options: {enable_thinking: false} would put it into the prompt"
        return ""

    def _require_closed_think(self, prompt: str, completion: str, said: Sequence[Piece]) -> None:
        """There is one block of reasoning at most, and what the prompt opens of it the answer closes."""
        written = "".join(form for piece in said for form in piece.forms)
        if think.blocks(written) != (0, 0):
            return  # the person wrote such tags, to whatever end
        opened, closed = think.blocks(completion)
        before = think.left_open(prompt) is not None
        if opened + before != closed or opened + before + (think.just_closed(prompt) is not None) > 1:
            raise self._broken(
                "served",
                "the answer does not fit the think block of the generation prompt",
                "At inference the model would take its answer for reasoning, or reasoning for the answer.",
            )

    def _broken(self, law: str, what: str, why: str, fix: str = "") -> TemplateError:
        return TemplateError(f"{self.where}: law '{law}' fails: {what}", why=why, fix=fix, law=law)


def _spaced(prompt: str, rendered: str, start: int) -> str:
    """The rendered text from ``start``, with the spaces before it that the prompt does not end in."""
    lead = rendered[:start]
    if prompt[-1:].isspace() or think.left_open(prompt) or think.just_closed(prompt):
        return rendered[start:]
    return lead[len(lead.rstrip(" ")) :] + rendered[start:]


def _says(said: Sequence[Piece], text: str) -> bool:
    return any(text in form for piece in said for form in piece.forms)
