"""Rendering a conversation as inference would, and splitting it where the model takes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation
from burnish.errors import TemplateError
from burnish.template.turn import Turn


class ChatTemplate:
    """A tokenizer's own chat template, with ``options`` handed to it as variables.

    Stateless but for the tokenizer. ``TemplateError`` where the tokenizer carries no template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, **options: Any) -> None:
        if not tokenizer.chat_template:
            raise TemplateError(
                f"the tokenizer {tokenizer.name_or_path or ''} carries no chat template",
                fix="Set template.kind: chatml to give it ChatML-lite.",
            )
        self.tokenizer = tokenizer
        self.options = options

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool,
    ) -> str:
        """The text that inference feeds for ``messages``, through transformers' sandboxed Jinja."""
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **self.options,
            )
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            raise TemplateError(f"the chat template refuses the messages: {error}") from error
        assert isinstance(text, str)
        return text

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """Tokens at which generation stops: the tokenizer's end of sequence, and the special token that
        the template writes behind an assistant's answer."""
        tokenizer = self.tokenizer
        marker = "burnish-answer"
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": marker}]
        try:
            text = self.render(messages, add_generation_prompt=False)
        except TemplateError:
            text = ""
        after = text.partition(marker)[2].lstrip()
        found = [token for token in self._special if after.startswith(token)]
        if tokenizer.eos_token:
            found.append(str(tokenizer.eos_token))
        return tuple(dict.fromkeys(found))

    @property
    def stop_ids(self) -> list[int]:
        return [int(i) for i in self.tokenizer.convert_tokens_to_ids(list(self.stop_tokens))]

    @cached_property
    def _special(self) -> tuple[str, ...]:
        """Special tokens, longest first, so that one that begins another is not taken for it."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(sorted((t.content for t in added if t.special), key=len, reverse=True))

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Special tokens that the template writes around turns."""
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
        text = ""
        for messages in ([{"role": "system", "content": "z"}, *turns], turns):
            try:
                text = self.render(messages, add_generation_prompt=True)
                break
            except TemplateError:  # some templates know no system turn
                continue
        return tuple(token for token in self._special if token in text)

    def turns(self, conversation: Conversation) -> list[Turn]:
        """A turn for each assistant message, by the laws *served*, *faithful* and *stops*.

        The prompt is ``render(messages[:i], add_generation_prompt=True)``; the completion is what
        ``render(messages[:i + 1])`` adds to it, up to and with the stop token. Raises
        ``TemplateError`` naming the law that fails and the message, never guesses.
        """
        messages = conversation.as_dicts()
        return [
            self._turn(conversation, messages, index)
            for index, message in enumerate(messages)
            if message["role"] == "assistant"
        ]

    def _turn(self, conversation: Conversation, messages: list[dict[str, Any]], index: int) -> Turn:
        where = f"{conversation.source}: message {index + 1}"
        try:
            prompt = self.render(messages[:index], conversation.tools, add_generation_prompt=True)
            served = self.render(messages[: index + 1], conversation.tools, add_generation_prompt=False)
        except TemplateError as error:
            raise TemplateError(f"{where}: {error.what}", fix=REMEDY) from error
        if not served.startswith(prompt):
            raise TemplateError(
                f"{where}: law 'served' fails: the generation prompt is no beginning of the rendered turn",
                why=f"At inference the model would read ...{prompt[-40:]!r}, "
                f"in training ...{served[: len(prompt)][-40:]!r}.",
                fix=REMEDY,
            )
        added = served[len(prompt) :]
        content = str(messages[index]["content"])
        self._require_faithful(where, added, prompt, messages[: index + 1])
        self._require_tools(where, prompt, conversation.tools)
        begin = added.find(content.strip())
        start = begin + len(content.strip())
        ends = [found + len(token) for token in self.stop_tokens if (found := added.find(token, start)) >= 0]
        if not ends:
            raise TemplateError(
                f"{where}: law 'stops' fails: no stop token follows the answer",
                why=f"The model would never learn to stop. The template ends the turn with {added[-20:]!r}; "
                f"generation stops at {', '.join(self.stop_tokens) or 'nothing'}.",
                fix=REMEDY,
            )
        end = min(ends)
        stop = next(token for token in self.stop_tokens if added[:end].endswith(token))
        unwritten = added[:begin].strip() or added[start : end - len(stop)].strip()
        if unwritten:
            raise TemplateError(
                f"{where}: law 'only' fails: the template adds {unwritten!r} to the answer",
                why="The model would learn to say what nobody wrote.",
                fix=REMEDY,
            )
        return Turn(prompt, added[:end], index)

    def _require_faithful(
        self, where: str, added: str, prompt: str, messages: Sequence[Mapping[str, Any]]
    ) -> None:
        *earlier, answer = messages
        lost = [] if str(answer["content"]).strip() in added else ["the answer"]
        place = 0
        for number, message in enumerate(earlier, 1):
            text = str(message["content"]).strip()
            found = prompt.find(text, place)
            if found < 0:
                lost.append(f"message {number} ({message['role']})")
            else:
                place = found + len(text)
        unrendered = sorted(set().union(*messages) - {"role", "content"})
        if unrendered:
            lost.append(f"what cannot be checked yet: {', '.join(unrendered)}")
        if lost:
            raise TemplateError(
                f"{where}: law 'faithful' fails: the rendered turn has not kept {', '.join(lost)}",
                why="The model would be trained on something else than what was written.",
                fix=REMEDY,
            )

    def _require_tools(self, where: str, prompt: str, tools: Sequence[Mapping[str, Any]]) -> None:
        names = [str((tool.get("function") or tool).get("name", "")) for tool in tools]
        if any(name not in prompt for name in names):
            raise TemplateError(
                f"{where}: law 'faithful' fails: the template does not render the tools",
                why="The model would learn to call tools that it was never told of.",
                fix="Use a template that renders tools, or take them out of the rows.",
            )


REMEDY = "Use a template that renders turns one after another, such as ChatML-lite (template.kind: chatml)."
