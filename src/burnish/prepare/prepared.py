"""Prepared rows, and what of them stands beside their tokens in the cache, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from burnish.data import Conversation, Message, Source
from burnish.data.conversation import Span
from burnish.prepare.ledger import Ledger
from burnish.tokens import Example, TokenTable

TABLES = ("train", "held_out")

RowsByFile = list[tuple[str, list[int]]]
"""File by file, the row that each document of a token table was made of, in the table's order."""


@dataclass(frozen=True)
class Notes:
    """What is known of rows beside their tokens.

    ``prompts``: held-out conversations (trained ones, where none are held out) to answer as samples.
    ``examples``: a few training examples, to show. ``rows_by_file``: where the documents of ``train`` come
    from.
    """

    prompts: tuple[Conversation, ...]
    examples: tuple[Example, ...]
    ledger: Ledger
    rows_by_file: RowsByFile

    def as_json(self) -> dict[str, Any]:
        return {
            "prompts": [conversation_as_json(conversation) for conversation in self.prompts],
            "examples": [example_as_json(example) for example in self.examples],
            "ledger": _as_fields(self.ledger),
            "rows_by_file": self.rows_by_file,
        }

    @classmethod
    def of_json(cls, written: Mapping[str, Any]) -> Notes:
        ledger = written["ledger"]
        return cls(
            prompts=tuple(conversation_of(row) for row in written["prompts"]),
            examples=tuple(example_of(row) for row in written["examples"]),
            ledger=Ledger(**ledger | {name: Counter(ledger[name]) for name in ("counts", "unread")}),
            rows_by_file=[(path, rows) for path, rows in written["rows_by_file"]],
        )


@dataclass(frozen=True)
class Prepared:
    """Everything that training and evaluation read: token tables, and what is known of their rows."""

    train: TokenTable
    held_out: TokenTable
    notes: Notes

    @property
    def prompts(self) -> tuple[Conversation, ...]:
        return self.notes.prompts

    @property
    def examples(self) -> tuple[Example, ...]:
        return self.notes.examples

    @property
    def ledger(self) -> Ledger:
        return self.notes.ledger

    def source(self, row: int) -> Source:
        """Where a row of the table ``train`` comes from. Raises ``IndexError``."""
        for path, rows in self.notes.rows_by_file:
            if row < len(rows):
                return Source(path, rows[row])
            row -= len(rows)
        raise IndexError(row)


def _as_fields(thing: Any) -> dict[str, Any]:
    """The fields of a dataclass by their names, one level deep."""
    return {item.name: getattr(thing, item.name) for item in fields(thing)}


def conversation_as_json(conversation: Conversation) -> dict[str, Any]:
    messages = [
        _as_fields(message) | {"spans": [asdict(span) for span in message.spans]}
        for message in conversation.messages
    ]
    return _as_fields(conversation) | {"messages": messages, "source": asdict(conversation.source)}


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    messages = tuple(
        Message(**message | {"spans": tuple(Span(**span) for span in message["spans"])})
        for message in row["messages"]
    )
    changed = {name: tuple(row[name]) for name in ("tools", "unread")}
    return Conversation(**{**row, **changed, "messages": messages, "source": Source(**row["source"])})


def example_as_json(example: Example) -> dict[str, Any]:
    rendered = example.conversation and conversation_as_json(example.conversation)
    return _as_fields(example) | {"source": asdict(example.source), "conversation": rendered}


def example_of(row: Mapping[str, Any]) -> Example:
    changed = {
        "source": Source(**row["source"]),
        "turns": tuple(row["turns"]),
        "places": tuple(row["places"]),
        "conversation": row["conversation"] and conversation_of(row["conversation"]),
    }
    return Example(**{**row, **changed})
