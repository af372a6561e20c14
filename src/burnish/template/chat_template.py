"""Rendering a conversation as inference would, and splitting it where the model takes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from burnish.data import Conversation
from burnish.errors import TemplateError
from burnish.template import typed_tokens as typed
from burnish.template.frame import VARYING
from burnish.template.parts import Invention, invented
from burnish.template.proof import Blueprint, Rules, blueprint, proven_turn
from burnish.template.remedies import known, prepared, require_free, wrapped
from burnish.template.renderer import Messages, Renderer
from burnish.template.stops import Endings, answer_header, find_endings, shared_length, written_tokens
from burnish.template.turn import Turn
from burnish.template.unread import asked_keys, unread_keys

MOST_PLANS = 4096
"""Blueprints kept: one for each shape of conversation and turn that was met."""


class _Row:
    """A conversation's messages and tools, and what is invented in their place, made once where it is
    asked for: a conversation of hundreds of turns asks as often."""

    def __init__(self, messages: Messages, tools: Messages) -> None:
        self.messages, self.tools = messages, tools

    @cached_property
    def invented(self) -> Invention:
        return invented(self.messages, self.tools)

    @cached_property
    def with_tags(self) -> Invention:
        return invented(self.messages, self.tools, keep_tags=True)


class ChatTemplate:
    """A tokenizer's chat template with ``options`` as variables and the remedies chosen for it.

    ``source``: its Jinja text with both worked in, which is what a run saves (a dict of texts where the
    tokenizer carries several). ``source_text`` stands in for the tokenizer's own. ``typed_tokens``:
    whether a control token that a person typed is read as text or as the token. ``base_stop_ids``: where the
    base's own generation config stops, which is kept. Raises ``TemplateError`` where there is no template,
    ``ConfigError`` for an unknown remedy.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        remedies: Sequence[str] = (),
        typed_tokens: Literal["text", "special"] = "text",
        source_text: str | Mapping[str, str] | None = None,
        base_stop_ids: Sequence[int] = (),
        **options: Any,
    ) -> None:
        own = source_text or tokenizer.chat_template
        if not own:
            raise TemplateError(
                f"the tokenizer {tokenizer.name_or_path or ''} carries no chat template",
                fix="Set template.kind: chatml to give it ChatML-lite.",
            )
        self.tokenizer, self.base_stop_ids = tokenizer, tuple(base_stop_ids)
        self.remedies, self.typed_tokens, self.options = known(remedies), typed_tokens, options
        require_free(options, (*tokenizer.special_tokens_map, "unk_token", "bos_token", "eos_token"))
        self._own = own
        self._plans: dict[Any, Blueprint] = {}
        self._unread: dict[tuple[Any, ...], tuple[str, ...]] = {}
        header = answer_header(Renderer(tokenizer, own)) if "add_generation_prompt" in self.remedies else ""
        bos = str(tokenizer.bos_token or "")

        def with_remedies(text: str) -> str:
            return wrapped(text, self.remedies, options, header, bos)

        self.source: str | dict[str, str] = (
            with_remedies(own) if isinstance(own, str) else {n: with_remedies(t) for n, t in own.items()}
        )
        self.renderer = Renderer(tokenizer, self.source)

    def with_remedies(self, remedies: Sequence[str]) -> ChatTemplate:
        """The same template with other remedies."""
        return self._like(remedies, self.options)

    def with_options(self, options: Mapping[str, Any]) -> ChatTemplate:
        """The same template with further options."""
        return self._like(self.remedies, {**self.options, **options})

    def _like(self, remedies: Sequence[str], options: Mapping[str, Any]) -> ChatTemplate:
        return ChatTemplate(
            self.tokenizer,
            remedies=remedies,
            typed_tokens=self.typed_tokens,
            source_text=self._own,
            base_stop_ids=self.base_stop_ids,
            **options,
        )

    def render(self, messages: Messages, tools: Messages = (), *, add_generation_prompt: bool) -> str:
        """The text that inference feeds for ``messages``; see ``Renderer``."""
        return self.renderer.render(messages, tools, add_generation_prompt=add_generation_prompt)

    def text_for(self, tools: Messages = ()) -> str:
        """The Jinja text that is rendered, of those that the tokenizer carries."""
        return self.renderer.text_for(tools)

    def prompt(self, conversation: Conversation) -> str:
        """What inference feeds for a conversation so far, control tokens that a person typed marked
        (for ``tokens.token_ids``)."""
        conversation = prepared(conversation, self.remedies)
        messages, tools = self.marked(conversation)
        return self.render(messages, tools, add_generation_prompt=True)

    def prepared(self, conversation: Conversation) -> Conversation:
        """The conversation as the template gets it: with the remedies that change conversations."""
        return prepared(conversation, self.remedies) if self.remedies else conversation

    def marked(self, conversation: Conversation) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
        """Messages and tools, with the control tokens that a person typed marked. Raises
        ``TemplateError`` where one stands in the name of an argument, which cannot be marked."""
        messages, tools = conversation.as_dicts(), list(conversation.tools)
        if self.typed_tokens == "special":
            return messages, tools
        control = self.renderer.control_tokens(tools)
        calls = [message["tool_calls"] for message in messages if message.get("tool_calls")]
        if (calls or tools) and (name := typed.token_in_names([calls, tools], control)):
            raise TemplateError(
                f"{conversation.source}: the name {name!r} of an argument holds a token of the template",
                why="In names such a token cannot be read as text: it would be served as the token.",
                fix="Rename the argument, or set template.typed_tokens: special.",
                law="served",
            )
        return [
            typed.mark(message, control, keep_reasoning_tags=message["role"] == "assistant")
            for message in messages
        ], typed.mark(tools, control)

    def turns(self, conversation: Conversation) -> list[Turn]:
        """A turn for each assistant message but those that are not to be learnt, each proven.

        The prompt is ``render(messages[:i], add_generation_prompt=True)``; the completion is what
        ``render(messages[:i + 1])`` adds to it, up to and with the stop token. Raises
        ``TemplateError`` naming the law that fails and the message. ``tokens.encode`` also names the
        remedies that would work.
        """
        conversation = self.prepared(conversation)
        learnt = [n for n, message in enumerate(conversation.messages) if message.is_learnt]
        if not learnt:
            return []
        messages, tools = self.marked(conversation)
        self._require_same_as_parts(conversation, learnt[-1] + 1)
        row = _Row(messages, tools)
        return [self._turn(conversation, row, index) for index in learnt]

    def unread(self, conversation: Conversation) -> tuple[str, ...]:
        """The keys of messages, calls and tools that nothing would be otherwise without, in words. They are
        looked for once in conversations of one shape."""
        plain = not conversation.tools and not any(message.extra for message in conversation.messages)
        asked = () if plain else asked_keys(conversation.as_dicts(), conversation.tools)
        if not asked:
            return ()
        conversation = self.prepared(conversation)
        messages, tools = conversation.as_dicts(), conversation.tools
        shape = (asked, *[(message["role"], *sorted(message)) for message in messages], bool(tools))
        if shape not in self._unread:
            if len(self._unread) >= MOST_PLANS:
                self._unread.clear()
            self._unread[shape] = unread_keys(self._written, messages, tools, asked)
        return self._unread[shape]

    def _written(self, messages: Messages, tools: Messages) -> str:
        return self.render(messages, tools, add_generation_prompt=False)

    def _turn(self, conversation: Conversation, row: _Row, index: int) -> Turn:
        try:
            if not index:
                raise TemplateError(
                    "law 'served' fails: nothing stands before the answer",
                    why="At inference there is always something to answer.",
                    fix='Mark the message with "train": false: it is then given and not learnt.',
                    law="served",
                )
            fault = TemplateError(
                "law 'faithful' fails: the template changes what the row says",
                why="It does not do so with other texts of this kind: it rewrites, cuts or leaves out "
                "a part of this one.",
                law="faithful",
            )
            # With its tags, where the template looks for them in contents or refuses what is invented; and
            # once more from the beginning, where what a template writes is another by now: the date.
            for keep_tags, again in ((False, False), (True, False), (False, True)):
                if again and not self._reads_the_clock:
                    continue
                made = row.with_tags if keep_tags else row.invented
                try:
                    plan = self._plan(made, index, again)
                    turn = proven_turn(self.rules, plan, made.forms, row.messages, row.tools, index)
                except TemplateError as error:
                    fault = fault if keep_tags else error
                    continue
                if turn:
                    return turn
            raise fault
        except TemplateError as error:
            where = f"{conversation.source}: message {index + 1}"
            raise type(error)(
                f"{where}: {error.what}", why=error.why, fix=error.fix, law=error.law
            ) from error

    def _plan(self, made: Invention, index: int, again: bool) -> Blueprint:
        """The blueprint of such turns, made ``again`` or as it was kept. Raises ``TemplateError``."""
        key = (repr(made.messages[: index + 1]), repr(made.tools))
        if again or key not in self._plans:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[key] = blueprint(self.rules, made, index)
        return self._plans[key]

    @cached_property
    def _reads_the_clock(self) -> bool:
        return any(word in str(self.source) for word in VARYING)

    def _require_same_as_parts(self, conversation: Conversation, count: int) -> None:
        """Law *served* for contents that the row gives as lists of parts, which are trained as one text: a
        template that takes such lists must write the same of them, since they may be served as lists."""
        if not any(message.parts for message in conversation.messages[:count]):
            return
        texts = conversation.as_dicts()[:count]
        lists = [
            {**text, "content": list(message.parts)} if message.parts else text
            for text, message in zip(texts, conversation.messages, strict=False)
        ]
        try:
            one = self.render(texts, conversation.tools, add_generation_prompt=False)
            other = self.render(lists, conversation.tools, add_generation_prompt=False)
        except TemplateError:
            return  # it takes no lists, or no such messages
        # What a remedy hides of earlier turns is in neither.
        said = [str(part["text"]).strip() for m in conversation.messages for part in m.parts]
        takes_lists = "'type'" not in other and all(text in other for text in said if text in one)
        if takes_lists and one != other:
            place = shared_length(one, other)
            raise TemplateError(
                f"{conversation.source}: law 'served' fails: the template renders a content in parts "
                "otherwise than as one text",
                why=f"In parts it is served as ...{other[max(place - 12, 0) :][:40]!r}, as one text it is "
                f"trained as ...{one[max(place - 12, 0) :][:40]!r}.",
                fix="Write each content as one string, and serve it as one.",
                law="served",
            )

    @cached_property
    def rules(self) -> Rules:
        return Rules(self.renderer, self.remedies, self.endings, self.stop_tokens)

    @cached_property
    def endings(self) -> Endings:
        return find_endings(self.renderer)

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """Tokens at which generation stops: those that end an answer in this template, the tokenizer's end of
        sequence, and where the base stops by itself, but for ``dropped_stops``."""
        found = self.endings.stop_tokens(self.renderer, "stop_at_next_turn" in self.remedies)
        base = [token for token in self._base_stops if token not in self.dropped_stops]
        return tuple(dict.fromkeys([*found, *base]))

    @cached_property
    def dropped_stops(self) -> tuple[str, ...]:
        """Stop tokens of the base that are ordinary text here, in which an answer must not end."""
        return tuple(token for token in self._base_stops if token not in self.added)

    @property
    def _base_stops(self) -> list[str]:
        known = self.tokenizer.convert_ids_to_tokens(list(self.base_stop_ids))
        return [token for token in known if token is not None]

    @property
    def stops_at_next_turn(self) -> bool:
        """Whether the base's own stop tokens are those that begin the next turn, as GLM's are."""
        return bool(self.endings.question) and str(self.endings.question).strip() in self._base_stops

    @cached_property
    def stop_ids(self) -> list[int]:
        return [int(i) for i in self.tokenizer.convert_tokens_to_ids(list(self.stop_tokens))]

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Special tokens that the template writes around turns."""
        return written_tokens(self.renderer, self.renderer.special)

    @property
    def added(self) -> tuple[str, ...]:
        """Tokens that are matched whole in any text, the longest first."""
        return self.renderer.added
