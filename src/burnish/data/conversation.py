"""What a person wrote, and where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from burnish.data.calls import require_shallow, require_tools, tool_calls_of
from burnish.data.keys import (
    MEDIA,
    MESSAGE_KEYS,
    PART_KEYS,
    REASONING,
    require_known,
    unread,
)
from burnish.errors import DataError

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation")
SYSTEM_ROLES = ROLES[:2]
TOOL_ROLES = ROLES[4:]
"""The names under which templates know the result of a tool."""

PRIVATE = ("\U000f0000", "\U000f0001")
"""The characters with which transformers sets typed special tokens apart."""


@dataclass(frozen=True)
class Source:
    """The file and the row (counted from 1) that something came from; row 0 means the file as a whole."""

    path: str = "<memory>"
    row: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.row}" if self.row else self.path


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` (not included) of a content, counted from 0, and their weight."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Message:
    """One message. ``extra`` holds what else the row said of it (tool calls, reasoning, a name).

    ``weight``: how much its tokens count in the loss, 0 for none; None where the row does not say.
    ``spans``: parts of the content that count otherwise. ``parts``: the content as the row gives it, where
    that is a list of texts; ``content`` is these end to end, as templates write them.
    """

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    weight: float | None = None
    spans: tuple[Span, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)

    @property
    def is_learnt(self) -> bool:
        """An assistant message with a weight or a span that counts; one that says nothing of itself too."""
        counts = self.weight is None or self.weight > 0 or any(span.weight > 0 for span in self.spans)
        return self.role == "assistant" and counts

    def as_dict(self) -> dict[str, Any]:
        """The message as transformers' chat templates want it."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the tools on offer, and where they were written.

    ``text``: plain text to continue instead of messages; all of its tokens are learnt, no template is used.
    ``unread``: keys of the row that nothing reads, in words; what of its messages the template does not read,
    the template tells.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    source: Source = Source()
    text: str | None = None
    unread: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def from_messages(
        cls,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        source: Source = Source(),
    ) -> Conversation:
        """From dicts in the transformers manner. Raises ``DataError`` naming the message that is wrong."""
        if not isinstance(messages, (list, tuple)) or not messages:
            raise DataError(
                f"{source}: the row has no messages",
                why="A conversation needs at least one message to learn from.",
                fix='Write {"messages": [{"role": "user", "content": ...}, '
                '{"role": "assistant", "content": ...}]}.',
            )
        parsed = tuple(_message(raw, number, source) for number, raw in enumerate(messages, 1))
        require_tools(tools or (), str(source))
        return cls(parsed, tuple(tools or ()), source, unread=tuple(_unread_of_parts(messages)))

    @classmethod
    def from_prompt(
        cls, prompt: str, response: str, *, system: str | None = None, source: Source = Source()
    ) -> Conversation:
        """A user turn and the assistant's response to it, behind a system turn where one is given. Raises
        ``DataError`` as ``from_messages`` does."""
        turns = [("system", system), ("user", prompt), ("assistant", response)]
        messages = [{"role": role, "content": text} for role, text in turns if text is not None]
        return cls.from_messages(messages, source=source)

    @property
    def asked(self) -> Conversation:
        """The part up to the last user turn (or tool result): what is put to a model. Without messages
        where there is none."""
        last = max((i for i, m in enumerate(self.messages) if m.role in ("user", *TOOL_ROLES)), default=-1)
        return replace(self, messages=self.messages[: last + 1])

    @property
    def reference(self) -> str | None:
        """What the conversation says to that, where it goes on."""
        behind = self.messages[len(self.asked.messages) :]
        return behind[0].content if behind else None

    def as_dicts(self) -> list[dict[str, Any]]:
        return [message.as_dict() for message in self.messages]


def _message(raw: Any, number: int, source: Source) -> Message:
    where = f"{source}: message {number}"
    if not isinstance(raw, Mapping) or "role" not in raw:
        raise DataError(f"{where} has no role", fix=f"Give each message a role, one of {', '.join(ROLES)}.")
    require_known(raw, MESSAGE_KEYS, where)
    parts: tuple[Mapping[str, Any], ...] = ()
    if isinstance(raw.get("content"), list):
        if all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in raw["content"]):
            parts = tuple(raw["content"])
        raw = _joined_parts(raw, where)
    role, content = raw["role"], raw.get("content")
    if role not in ROLES:
        raise DataError(
            f"{where} has the unknown role {role!r}",
            why="A chat template would drop it or render it as something else.",
            fix=f"Use one of {', '.join(ROLES)}.",
        )
    known = ("role", "content", "train", "weight", "spans", "tool_calls", "function_call")
    extra = {key: value for key, value in raw.items() if key not in known and value is not None}
    if media := [key for key in MEDIA if extra.get(key)]:
        raise DataError(
            f"{where} holds {media[0]}", why="burnish trains on text only.", fix="Take the row out."
        )
    if calls := tool_calls_of(raw, where):
        extra["tool_calls"] = calls
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise DataError(
            f"{where} ({role}) has no text: its content is {type(content).__name__}",
            fix="Give it a string as content.",
        )
    if any(character in content for character in PRIVATE):
        raise DataError(
            f"{where} holds the private character U+F0000 or U+F0001",
            why="They set special tokens that a person typed apart from those of the template.",
            fix="Take them out; no font shows them.",
        )
    if role == "assistant" and not content.strip() and not calls:
        raise DataError(
            f"{where} is an empty assistant turn",
            why="Training on it teaches the model to say nothing.",
            fix="Write the answer, remove the row, or set data.bad_rows: skip.",
        )
    try:
        content.isascii() or content.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds half of a surrogate pair", why="It is no text.", fix="Repair or remove it."
        ) from error
    _require_reasoning(extra, where)
    require_shallow(extra, where)
    weight, spans = _weight(raw, where), _spans(raw, content, where)
    if role != "assistant" and (weight or spans):
        raise DataError(
            f"{where} ({role}) is marked to be trained",
            why="A chat model learns what the assistant says; the rest is given to it.",
            fix="Mark assistant messages only, or write the row as plain text, which is trained whole.",
        )
    return Message(role, content, extra, weight, spans, parts)


def _joined_parts(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A message whose content is a list of parts (text, reasoning, tool calls) as one with plain fields."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[Any] = list(raw.get("tool_calls") or [])
    for part in raw["content"]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind:
            require_known(part, PART_KEYS, f"{where}: a part of its content")
        said = part.get(_said_under(part)) if kind else None
        if kind in ("text", "reasoning", "thinking") and isinstance(said, str):
            texts["text" if kind == "text" else "reasoning"].append(said)
        elif kind == "tool_call":
            try:
                calls.append(json.loads(said) if isinstance(said, str) else part.get("function", said))
            except ValueError as error:
                raise DataError(f"{where}: a tool call is not JSON ({error})") from error
        else:
            raise DataError(
                f"{where} holds a part that is no text: {kind or part!r}",
                why="burnish trains on text only.",
                fix='Write parts such as {"type": "text", "text": ...}, or a string as content.',
            )
    joined = {**raw, "content": "".join(texts["text"])}
    if texts["reasoning"]:
        reasoning = "".join(texts["reasoning"])
        if raw.get("reasoning_content") not in (None, "", reasoning):
            raise DataError(
                f"{where}: its reasoning_content and the reasoning in its parts differ",
                why="Templates read one of them.",
                fix="Keep one of the two.",
            )
        joined["reasoning_content"] = reasoning
    return {**joined, "tool_calls": calls} if calls else joined


def _said_under(part: Mapping[str, Any]) -> str:
    """The key under which a part says what it says."""
    return next((key for key in ("text", "value", "thinking") if key in part), "text")


def _unread_of_parts(messages: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    found: dict[str, None] = {}
    for message in messages:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            found |= dict.fromkeys(unread(part, ("type", _said_under(part), "function"), "content parts"))
    return found


def _require_reasoning(extra: Mapping[str, Any], where: str) -> None:
    given = {key: extra[key] for key in REASONING if extra.get(key)}
    if any(not isinstance(value, str) for value in given.values()):
        raise DataError(
            f"{where}: its {next(iter(given))} is no text", fix="Write the reasoning as a string."
        )
    if len(set(given.values())) > 1:
        raise DataError(
            f"{where}: its {' and '.join(given)} differ",
            why="Templates read one of them.",
            fix="Keep one of the two.",
        )


def _weight(raw: Mapping[str, Any], where: str) -> float | None:
    train, weight = raw.get("train"), raw.get("weight")
    if train is not None and not isinstance(train, bool):
        raise DataError(f"{where}: train is {train!r}", fix="Write true or false.")
    if weight is not None and not _is_weight(weight):
        raise DataError(f"{where}: weight is {weight!r}", fix="Write a number, 0 or above, such as 0.3.")
    if train is not None and weight is not None and train != (weight > 0):
        raise DataError(f"{where}: train is {train}, but weight is {weight}", fix="Keep one of the two.")
    return float(weight) if weight is not None else None if train is None else float(train)


def _spans(raw: Mapping[str, Any], content: str, where: str) -> tuple[Span, ...]:
    given = raw.get("spans")
    if given is None:
        return ()
    spans = []
    for item in given if isinstance(given, list | tuple) else [given]:
        known = isinstance(item, Mapping) and set(item) <= {"start", "end", "weight", "train"}
        start, end = (item.get("start"), item.get("end")) if known else (None, None)
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(content):
            raise DataError(
                f"{where}: a span is {item!r}",
                fix='Write a list such as [{"start": 0, "end": 5, "weight": 0}]: characters of the content, '
                f"of which there are {len(content)}.",
            )
        weight = _weight(item, f"{where}: a span")
        spans.append(Span(start, end, 1.0 if weight is None else weight))
    spans.sort(key=lambda span: span.start)
    if any(one.end > two.start for one, two in pairwise(spans)):
        raise DataError(f"{where}: spans overlap", fix="Say once how much each part counts.")
    return tuple(spans)


def _is_weight(value: Any) -> bool:
    """A number that is 0 or one that fp32 can hold, which is what the loss is weighted in."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return value == 0 or 1e-30 <= value <= 1e30
