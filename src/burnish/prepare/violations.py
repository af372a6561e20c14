"""Rows that break a mask law, grouped by what is wrong, each group with the remedies that would help."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from burnish.data import Conversation, Source
from burnish.errors import TemplateError
from burnish.template import ChatTemplate
from burnish.tokens.advice import advised
from burnish.tokens.weights import TrainOn, weighted

_SAID = r"""('[^']*'|"[^"]*"|[^,']*)"""
_VARYING = re.compile(rf"message \d+|tool call [^:,]+(: argument {_SAID})?(, )?|the token {_SAID}")
"""What in an error is the row's own."""


@dataclass
class Group:
    """Rows that break one law in one way. ``first``: the conversation that remedies are tried on."""

    law: str
    what: str
    why: str
    first: Conversation
    error: TemplateError
    rows: list[Source] = field(default_factory=list)


@dataclass
class Violations:
    """Collects rows with the law that each breaks."""

    template: ChatTemplate
    train_on: TrainOn
    groups: dict[str, Group] = field(default_factory=dict)

    def add(self, conversation: Conversation, error: TemplateError) -> None:
        what = error.what.removeprefix(f"{conversation.source}: ")
        key = _VARYING.sub("", what)
        group = self.groups.setdefault(key, Group(error.law, what, error.why, conversation, error))
        group.rows.append(conversation.source)

    @property
    def rows(self) -> int:
        return sum(len(group.rows) for group in self.groups.values())

    def largest_first(self) -> list[Group]:
        return sorted(self.groups.values(), key=lambda group: -len(group.rows))

    def advice(self, group: Group) -> TemplateError:
        """The group's error with the remedies that work for its first row."""
        return advised(group.error, self.template, weighted(group.first, self.train_on))

    def as_error(self, of: int) -> TemplateError:
        """One error for all of them, which are some ``of`` so many rows."""
        groups = self.largest_first()
        first = self.advice(groups[0])
        if self.rows == 1:
            return first
        lines = [f"{len(group.rows):>7,} x {group.what} (first: {group.rows[0]})" for group in groups[:10]]
        if len(groups) > 10:
            lines.append(f"... and {len(groups) - 10} more kinds")
        return TemplateError(
            f"{self.rows:,} of {of:,} rows break a mask law:\n" + "\n".join(lines),
            why=first.why,
            fix=f"{first.fix} burnish check shows all of them.",
            law=first.law,
            remedies=first.remedies,
        )
