"""Rows with their tokens, for ``burnish show``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from burnish.config import RunConfig
from burnish.data import Conversation
from burnish.data.memory import Rows
from burnish.data.read import read_rows, summarised
from burnish.errors import ConfigError, TemplateError
from burnish.prepare.in_memory import taken_from_memory, tokenizer_of
from burnish.prepare.rows import RowEncoder
from burnish.template import ChatTemplate
from burnish.template.build import build_template
from burnish.tokens import Example
from burnish.tokens.advice import advised
from burnish.tokens.view import ViewedToken, view


@dataclass(frozen=True)
class ShownExample:
    """An example with its tokens; ``source``: file and row."""

    source: str
    tokens: tuple[ViewedToken, ...]

    @classmethod
    def of(cls, example: Example, template: ChatTemplate) -> ShownExample:
        return cls(str(example.source), view(example, template))

    @property
    def trained(self) -> int:
        return sum(token.trained for token in self.tokens)

    def as_row(self) -> dict[str, Any]:
        """For programs."""
        keys = ("id", "text", "trained", "weight", "role", "message")
        return {
            "source": self.source,
            "tokens": [{key: getattr(token, key) for key in keys} for token in self.tokens],
        }


@dataclass(frozen=True)
class ShownRow:
    """A row's examples, what its template does, what its length cost; or the law that it breaks."""

    source: str
    examples: tuple[ShownExample, ...] = ()
    notes: tuple[str, ...] = ()
    fate: str = ""
    error: TemplateError | None = None


def show(
    config: RunConfig,
    rows: Sequence[int] = (),
    count: int = 3,
    *,
    data: Rows | None = None,
    model: PreTrainedModel | str | Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[list[ShownRow], ChatTemplate]:
    """The rows of those numbers in their files (from 1), else the first ``count``. ``data``, ``model`` and
    ``tokenizer`` as for ``sft``; a tokenizer alone is enough.

    Reads the tokenizer and no weights. Raises ``DataError`` for files without rows that can be read.
    """
    config, in_memory = taken_from_memory(
        config, data=data, model=model, tokenizer=tokenizer, needs_model=False
    )
    if not config.data.train:
        raise ConfigError("data.train names no file", fix="burnish show rows.jsonl --model NAME")
    conversations, bad = read_rows(in_memory.train or config.data.train)
    if rows:
        conversations = [c for c in conversations if c.source.row in rows]
        bad = [row for row in bad if row.source.row in rows]
        there = {c.source.row for c in conversations} | {row.source.row for row in bad}
        if missing := sorted(set(rows) - there):
            raise ConfigError(f"{', '.join(config.data.train)} has no row {', '.join(map(str, missing))}")
    if bad and (rows or not conversations):
        raise summarised(bad)
    loaded = tokenizer_of(config, in_memory)
    template, _ = build_template(loaded.tokenizer, config.template, loaded.stop_ids)
    encoder = RowEncoder.of(template, config.tokens, loaded.positions, config.adapter.before_text)
    chosen = conversations if rows else list(islice(conversations, count))
    return [_shown(conversation, encoder) for conversation in chosen], template


def _shown(row: Conversation, encoder: RowEncoder) -> ShownRow:
    (encoded,), template = encoder.encode([row]), encoder.template
    source = str(row.source)
    if encoded.error:
        return ShownRow(source, error=advised(encoded.error, template, encoded.conversation))
    fitted = encoder.fit(encoded)
    examples = tuple(ShownExample.of(example, template) for example in fitted.examples)
    fate = f"{fitted.fate}: {fitted.reason}" if fitted.fate else ""
    notes = (*encoded.notes, *[f"not read: {key}" for key in encoded.unread])
    return ShownRow(source, examples, notes, fate)
