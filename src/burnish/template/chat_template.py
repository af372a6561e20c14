"""Rendering a conversation as inference would, and splitting it where the model takes over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import jinja2
from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation
from burnish.errors import TemplateError
from burnish.template import typed
from burnish.template.frame import Frame, frame_of
from burnish.template.proof import Proof
from burnish.template.remedies import known, prepared, require_free, wrapped
from burnish.template.shape import Shape, answer_header, shape_of
from burnish.template.stops import find_stop_tokens, written_tokens
from burnish.template.turn import Turn

Messages = Sequence[Mapping[str, Any]]

OFTEN = 8
"""Renderings of the same roles before a frame is looked for, which takes some milliseconds."""


class ChatTemplate:
    """A tokenizer's chat template with ``options`` as variables and the remedies chosen for it.

    ``source``: its Jinja text with both worked in, which is what a run saves (a dict of texts where the
    tokenizer carries several). ``source_text`` stands in for the tokenizer's own. ``typed_tokens``:
    whether a special token that a person typed is read as text or as the token. Raises ``TemplateError``
    where there is no template, ``ConfigError`` for an unknown remedy.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        remedies: Sequence[str] = (),
        typed_tokens: Literal["text", "special"] = "text",
        source_text: str | None = None,
        **options: Any,
    ) -> None:
        own = source_text or tokenizer.chat_template
        if not own:
            raise TemplateError(
                f"the tokenizer {tokenizer.name_or_path or ''} carries no chat template",
                fix="Set template.kind: chatml to give it ChatML-lite.",
            )
        self.tokenizer = tokenizer
        self.remedies, self.typed_tokens, self.options = known(remedies), typed_tokens, options
        require_free(options, (*tokenizer.special_tokens_map, "unk_token", "bos_token", "eos_token"))
        self._own = own
        self._shapes: dict[Any, Shape | None] = {}
        self._frames: dict[Any, Frame] = {}
        self._seen = Counter[Any]()
        self.source: str | dict[str, str] = own
        header = answer_header(self) if "add_generation_prompt" in self.remedies else ""
        bos = str(tokenizer.bos_token or "")

        def whole(text: str) -> str:
            return wrapped(text, self.remedies, options, header, bos)

        self.source = {n: whole(t) for n, t in own.items()} if isinstance(own, dict) else whole(own)

    def with_remedies(self, remedies: Sequence[str]) -> ChatTemplate:
        """The same template with other remedies."""
        return self._like(remedies, self.options)

    def with_options(self, options: Mapping[str, Any]) -> ChatTemplate:
        """The same template with further options."""
        return self._like(self.remedies, {**self.options, **options})

    def _like(self, remedies: Sequence[str], options: Mapping[str, Any]) -> ChatTemplate:
        text = self._own if isinstance(self._own, str) else None
        return ChatTemplate(
            self.tokenizer, remedies=remedies, typed_tokens=self.typed_tokens, source_text=text, **options
        )

    def render(self, messages: Messages, tools: Messages = (), *, add_generation_prompt: bool) -> str:
        """The text that inference feeds for ``messages``, through transformers' sandboxed Jinja, or from
        a frame that is proven to give the same."""
        key = (add_generation_prompt, *[message["role"] for message in messages])
        contents = [] if tools else [m["content"] for m in messages if len(m) == 2 and "content" in m]
        if len(contents) < len(messages):
            return self._rendered(messages, tools, add_generation_prompt)
        if frame := self._frames.get(key):
            filled = frame.filled(contents)
            if filled is not None:
                return filled
        text = self._rendered(messages, tools, add_generation_prompt)
        self._seen[key] += 1
        if self._seen[key] == OFTEN:
            frame = self._frame(key)
            if frame and frame.filled(contents) in (None, text):
                self._frames[key] = frame
        return text

    def _frame(self, key: tuple[Any, ...]) -> Frame | None:
        prompted, *roles = key
        variables = {"tools": None, "documents": None, "add_generation_prompt": prompted}
        return frame_of(self.text_for(), roles, **variables, **self.tokenizer.special_tokens_map)

    def _rendered(self, messages: Messages, tools: Messages, add_generation_prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                chat_template=self.text_for(tools),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except (jinja2.TemplateError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise TemplateError(f"the chat template refuses the messages: {error}") from error
        assert isinstance(text, str)
        return text

    def text_for(self, tools: Messages = ()) -> str:
        """The Jinja text that is rendered, of those that the tokenizer carries."""
        if isinstance(self.source, str):
            return self.source
        name = "tool_use" if tools and "tool_use" in self.source else "default"
        if name not in self.source:
            raise TemplateError(f"none of the tokenizer's templates is the default: {', '.join(self.source)}")
        return self.source[name]

    def prompt(self, conversation: Conversation) -> str:
        """What inference feeds for a conversation so far, special tokens that a person typed set apart
        (for ``tokens.token_ids``)."""
        conversation = prepared(conversation, self.remedies)
        messages, tools = self.apart(conversation)
        return self.render(messages, tools, add_generation_prompt=True)

    def prepared(self, conversation: Conversation) -> Conversation:
        """The conversation as the template gets it: with the remedies that change conversations."""
        return prepared(conversation, self.remedies) if self.remedies else conversation

    def apart(self, conversation: Conversation) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
        """Messages and tools, with special tokens that a person typed set apart from the template's."""
        messages, tools = conversation.as_dicts(), list(conversation.tools)
        if self.typed_tokens == "special":
            return messages, tools
        return typed.set_apart(messages, self._special), typed.set_apart(tools, self._special)

    def turns(self, conversation: Conversation) -> list[Turn]:
        """A turn for each assistant message but those that are not to be learnt, each proven.

        The prompt is ``render(messages[:i], add_generation_prompt=True)``; the completion is what
        ``render(messages[:i + 1])`` adds to it, up to and with the stop token. Raises
        ``TemplateError`` naming the law that fails, the message, and the remedies that would work.
        """
        try:
            return self.proven_turns(conversation)
        except TemplateError as error:
            from burnish.template.advice import advised

            raise advised(error, self, conversation) from error

    def proven_turns(self, conversation: Conversation) -> list[Turn]:
        """``turns`` without the search for remedies where a law fails."""
        conversation = self.prepared(conversation)
        messages, tools = self.apart(conversation)
        turns: list[Turn] = []
        for index, message in enumerate(conversation.messages):
            if message.is_learnt:
                where = f"{conversation.source}: message {index + 1}"
                turns.append(Proof(self, messages, tools, index, where).turn())
        return turns

    def shape(self, messages: Messages, tools: Messages, index: int) -> Shape | None:
        """What the template does with messages of these kinds, whatever they say; see ``Shape``."""
        key = tuple(_kind(message) for message in messages[: index + 1]), bool(tools)
        if key not in self._shapes:
            self._shapes[key] = shape_of(self, messages, tools, index)
        return self._shapes[key]

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """Tokens at which generation stops: those that end an answer in this template, and the
        tokenizer's end of sequence."""
        return find_stop_tokens(self)

    @property
    def stop_ids(self) -> list[int]:
        return [int(i) for i in self.tokenizer.convert_tokens_to_ids(list(self.stop_tokens))]

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Special tokens that the template writes around turns."""
        return written_tokens(self, self._special)

    @cached_property
    def added(self) -> tuple[str, ...]:
        """Tokens that are matched whole in any text, longest first, so that one that begins another is
        not taken for it."""
        return tuple(sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True))

    @cached_property
    def _special(self) -> tuple[str, ...]:
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(sorted((t.content for t in added if t.special), key=len, reverse=True))


def _kind(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a template may tell messages apart by, but for what they say."""
    content = message["content"]
    return (message["role"], bool(content), "</think>" in content, *message)
