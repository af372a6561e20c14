"""Messages to text, as inference renders them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from burnish.errors import RunawayTemplateError, TemplateError
from burnish.limits import TakesTooLong, limited
from burnish.template.frame import Frame, frame_of

Messages = Sequence[Mapping[str, Any]]

OFTEN = 8
"""Renderings of the same roles before a frame is looked for, which takes some milliseconds."""


class Renderer:
    """A tokenizer with the Jinja ``source`` of a chat template (a dict of sources where the tokenizer carries
    several)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str | Mapping[str, str]) -> None:
        self.tokenizer, self.source = tokenizer, source
        self._frames: dict[Any, Frame] = {}
        self._seen = Counter[Any]()
        self._control: dict[str, tuple[str, ...]] = {}

    def render(self, messages: Messages, tools: Messages = (), *, add_generation_prompt: bool) -> str:
        """The text that inference feeds for ``messages``, through transformers' sandboxed Jinja, or from
        a frame that is proven to give the same. Raises ``TemplateError`` where the template refuses them."""
        key = (add_generation_prompt, *[message["role"] for message in messages])
        plain = not tools and all(len(m) == 2 and isinstance(m.get("content"), str) for m in messages)
        contents = [m["content"] for m in messages] if plain else []
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
        with _within_limits(self.text_for()):
            return frame_of(self.text_for(), roles, **variables, **self.tokenizer.special_tokens_map)

    def _rendered(self, messages: Messages, tools: Messages, add_generation_prompt: bool) -> str:
        source = self.text_for(tools)
        with _within_limits(source):
            text = self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                chat_template=source,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
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

    def control_tokens(self, tools: Messages = ()) -> tuple[str, ...]:
        """The tokens that are read as text where a person typed them: the special ones, and added ones that
        the template writes. transformers' own choice (``sanitize_control_tokens``), so that plain
        transformers can serve the same ids."""
        text = self.text_for(tools)
        if text not in self._control:
            with _within_limits(text):
                found = self.tokenizer._get_control_tokens(text)
            self._control[text] = tuple(sorted(found, key=len, reverse=True))
        return self._control[text]

    @cached_property
    def added(self) -> tuple[str, ...]:
        """Tokens that are matched whole in any text, longest first, so that one that begins another is
        not taken for it."""
        return tuple(sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True))

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The special ones of them."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(sorted((t.content for t in added if t.special), key=len, reverse=True))

    def added_in(self, text: str) -> list[str]:
        """The added tokens that stand in ``text``, in order, white space among them left out."""
        found, place = [], 0
        while place < len(text):
            token = next((token for token in self.added if text.startswith(token, place)), None)
            if token and token.strip():
                found.append(token)
            place += len(token) if token else 1
        return found


_ENDED = set[str]()
"""Templates that had to be ended: they are not run again."""


@contextmanager
def _within_limits(source: str) -> Iterator[None]:
    """What a template raises or takes within the block as a ``TemplateError``; it may be anybody's
    program."""
    try:
        if source in _ENDED:
            raise TakesTooLong("it does not end")
        with limited():
            yield
    except TemplateError:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"the chat template is no Jinja (line {error.lineno}: {error.message})",
            why="Nothing can be rendered from it.",
            fix="Mend it, or set template.kind: chatml to use ChatML-lite.",
        ) from error
    except (TakesTooLong, MemoryError, RecursionError) as error:
        _ENDED.add(source)
        raise RunawayTemplateError(
            f"the chat template was ended: {error or 'it asks for too much memory'}",
            why="It loops, calls itself or multiplies without an end.",
            fix="Mend it, or set template.kind: chatml to use ChatML-lite.",
        ) from error
    except Exception as error:  # a template can raise whatever Python does
        raise TemplateError(f"the chat template refuses the messages: {error}") from error
