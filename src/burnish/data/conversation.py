"""What a person wrote, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.errors import DataError

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Source:
    """The file and the row (counted from 1) that something came from; row 0 means the file as a whole."""

    path: str = "<memory>"
    row: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.row}" if self.row else self.path


@dataclass(frozen=True)
class Message:
    """One message. ``extra`` holds what else the row said of it (tool calls, reasoning, a name)."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The message as transformers' chat templates want it."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the tools on offer, and where they were written."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    source: Source = Source()

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
        return cls(parsed, tuple(tools or ()), source)

    @property
    def asked(self) -> Conversation:
        """The part up to the last user turn (or tool result): what is put to a model. Without messages
        where there is none."""
        last = max((i for i, m in enumerate(self.messages) if m.role in ("user", "tool")), default=-1)
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
    role, content = raw["role"], raw.get("content")
    extra = {key: value for key, value in raw.items() if key not in ("role", "content") and value is not None}
    if role not in ROLES:
        raise DataError(
            f"{where} has the unknown role {role!r}",
            why="A chat template would drop it or render it as something else.",
            fix=f"Use one of {', '.join(ROLES)}.",
        )
    if content is None and extra.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise DataError(
            f"{where} ({role}) has no text: its content is {type(content).__name__}",
            fix="Give it a string as content.",
        )
    if role == "assistant" and not content.strip() and not extra.get("tool_calls"):
        raise DataError(
            f"{where} is an empty assistant turn",
            why="Training on it teaches the model to say nothing.",
            fix="Write the answer, remove the row, or set data.bad_rows: skip.",
        )
    return Message(role, content, extra)
