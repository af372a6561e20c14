"""The text of one turn: the prompt that is served, and what rendering the answer adds to it.

For ChatML and the second message of a conversation::

    prompt     <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎      as inference renders it
    rendered   <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello.<|im_end|>⏎
    added                                                           Hello.<|im_end|>⏎

Two remedies compose the added text otherwise: ``follow_generation_prompt`` and ``keep_reasoning``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import TemplateError
from burnish.template import think
from burnish.template.parts import reasoning_and_text
from burnish.template.renderer import Renderer
from burnish.template.stops import generation_header, shared_length

Messages = Sequence[Mapping[str, Any]]

LONGEST_WORD = 16
"""Characters beside tokens that may stand between the header of a turn and its answer."""

_TAG = re.compile(r"</?[A-Za-z][\w:.-]*>\s*$")
"""At the end of a prompt, the beginning or the end of a block."""

_OTHER = "\ue000burnish"
"""An answer that begins as no other does."""


@dataclass(frozen=True)
class Composed:
    """``added``: what the answer adds to ``prompt``. ``shows_reasoning``: whether the template itself writes
    the answer's reasoning; ``behind_header``: whether a followed answer begins behind the header of its
    turn."""

    prompt: str
    added: str
    shows_reasoning: bool
    behind_header: bool


def composed(
    renderer: Renderer,
    remedies: Sequence[str],
    messages: Messages,
    tools: Messages,
    index: int,
    like: Composed | None = None,
) -> Composed:
    """The turn at ``index``. ``like``: the same turn of invented parts, of which it can be told what the
    template does; of the real ones it is taken over. Raises ``TemplateError`` where the law *served* fails:
    the answer does not go on from the prompt."""
    prompt = renderer.render(messages[:index], tools, add_generation_prompt=True)
    rendered = renderer.render(messages[: index + 1], tools, add_generation_prompt=False)
    turn = _Turn(renderer, messages, tools, index, prompt, rendered, like)
    if rendered.startswith(prompt):
        added = rendered[len(prompt) :]
    elif "follow_generation_prompt" in remedies:
        added = turn.followed()
    else:
        shared = shared_length(prompt, rendered)
        raise TemplateError(
            "law 'served' fails: the generation prompt is no beginning of the rendered turn",
            why=f"At inference the model would read ...{prompt[max(shared - 12, 0) :][:60]!r}, "
            f"in training ...{rendered[max(shared - 12, 0) :][:60]!r}.",
            law="served",
        )
    shows = like.shows_reasoning if like else bool(turn.reasoning) and turn.reasoning in added
    if "keep_reasoning" in remedies and not shows:
        added = turn.with_reasoning(added)
    return Composed(prompt, added, shows, turn.behind_header)


class _Turn:
    def __init__(
        self,
        renderer: Renderer,
        messages: Messages,
        tools: Messages,
        index: int,
        prompt: str,
        rendered: str,
        like: Composed | None,
    ) -> None:
        self.renderer, self.history, self.tools = renderer, messages[:index], tools
        self.prompt, self.rendered, self.like, self.behind_header = prompt, rendered, like, False
        self.reasoning, _ = reasoning_and_text(messages[index])

    def followed(self) -> str:
        """The answer as it must go on from the prompt, taken from a rendering that begins otherwise.

        It begins behind the header of the turn, where that is the one that the prompt ends in; else where
        another answer would make a difference. A think block that the prompt leaves open takes the answer's
        reasoning; without any it is closed: as the template closes it, else as DeepSeek-R1 closes an empty
        one. Where the prompt has closed its block, there is no place for reasoning.
        """
        prompt, rendered = self.prompt, self.rendered
        other = {"role": "assistant", "content": _OTHER}
        start = shared_length(
            rendered, self.renderer.render([*self.history, other], self.tools, add_generation_prompt=False)
        )
        asked = self.renderer.render(self.history, self.tools, add_generation_prompt=False)
        header = prompt[len(asked) :] if prompt.startswith(asked) else generation_header(self.renderer)
        header = header if prompt.endswith(header) else ""
        opened = think.left_open(prompt)
        if opened and header and header not in rendered:
            header = header[: header.rfind(opened.open)]
        place = rendered.rfind(header, 0, start) if header.strip() else -1
        self.behind_header = place >= 0 and (
            self.like.behind_header
            if self.like
            else self._is_structure(rendered[place + len(header) : start])
        )
        unknown = not (opened or think.just_closed(prompt)) and _TAG.search(header)
        if unknown and not self.behind_header:
            tag = unknown[0].strip()
            raise TemplateError(
                f"law 'served' fails: the generation prompt ends in {tag}, and no finished turn does",
                why="Where an answer goes on from there, and what closes it, cannot be told.",
                law="served",
            )
        answer = rendered[place + len(header) :] if self.behind_header else self._with_space(start)
        reasons = (
            self.like.shows_reasoning if self.like else bool(self.reasoning) and self.reasoning in answer
        )
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
        for token in (*self.renderer.added, think.THINK.open, think.THINK.close):
            text = text.replace(token, "")
        contents = (str(message.get("content") or "").strip() for message in self.history)
        return len(text.strip()) <= LONGEST_WORD and not any(words and words in text for words in contents)

    def _with_space(self, start: int) -> str:
        """The rendered text from ``start``, with the spaces before it that the prompt does not end in."""
        lead = self.rendered[:start]
        prompt = self.prompt
        if prompt[-1:].isspace() or think.left_open(prompt) or think.just_closed(prompt):
            return self.rendered[start:]
        return lead[len(lead.rstrip(" ")) :] + self.rendered[start:]

    def with_reasoning(self, added: str) -> str:
        """The reasoning between think tags before the answer, where the template does not write it."""
        reasoning, prompt = self.reasoning, self.prompt
        if not reasoning or think.just_closed(prompt):
            return added  # behind a closed block it is too late to reason: law faithful will say so
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
