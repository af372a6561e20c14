"""Files of rows to token tables, with every row that is not trained accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel

from burnish.config import RunConfig
from burnish.curate import split
from burnish.data import Conversation, Source
from burnish.data.read import read_rows, summarised
from burnish.errors import ConfigError, DataError
from burnish.template import ChatTemplate
from burnish.tokens import Example, TokenTable, encode


@dataclass
class Ledger:
    """What became of each row: a line for those that are not trained as they stand, and all counts."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, fate: str, source: Source, reason: str) -> None:
        self.counts[fate] += 1
        self.lines.append({"fate": fate, "path": source.path, "row": source.row, "reason": reason})


@dataclass(frozen=True)
class Prepared:
    """Everything that training and evaluation read."""

    train: TokenTable
    held_out: TokenTable
    prompts: tuple[Conversation, ...]
    """Held-out conversations (trained ones, where none are held out) to answer as samples."""
    examples: tuple[Example, ...]
    """A few training examples, to show."""
    ledger: Ledger

    def ledger_lines(self) -> list[dict[str, Any]]:
        summary = {
            "fate": "summary",
            "counts": dict(self.ledger.counts),
            "tokens": self.train.tokens,
            "trained_tokens": self.train.trained_tokens,
        }
        return [*self.ledger.lines, summary]

    def in_words(self) -> str:
        counts = self.ledger.counts
        parts = [
            f"{counts['trained']:,} rows to train on ({self.train.trained_tokens:,} of "
            f"{self.train.tokens:,} tokens trained)",
            f"{counts['held out']:,} held out",
        ]
        parts += [
            f"{count:,} {fate}"
            for fate, count in counts.items()
            if count and fate not in ("read", "trained", "held out")
        ]
        return f"{counts['read']:,} rows read: {', '.join(parts)}."


def prepare(config: RunConfig, template: ChatTemplate, model: PreTrainedModel) -> Prepared:
    """Read, split and encode what ``config.data`` names, for ``model``'s number of positions.

    Raises ``DataError`` for bad rows (unless they are skipped) and where nothing would be trained,
    ``TemplateError`` where the template breaks a mask law.
    """
    if not config.data.train:
        raise ConfigError("data.train names no file", fix="Give --data rows.jsonl, or set data.train.")
    ledger = Ledger()
    rows = _read(config, config.data.train, ledger)
    if config.data.held_out:
        train, held_out = rows, _read(config, config.data.held_out, ledger)
    else:
        train, held_out = split(rows, config.data.held_out_share, config.train.seed)
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = min(config.tokens.max_length, positions or config.tokens.max_length)
    trained = _encode(config, template, train, limit, ledger)
    kept = _encode(config, template, held_out, limit, ledger)
    ledger.counts["trained"] = len({str(example.source) for example in trained})
    ledger.counts["held out"] = len({str(example.source) for example in kept})
    table = TokenTable.from_examples(trained)
    if not table.trained_tokens:
        fates = ", ".join(f"{count} {fate}" for fate, count in ledger.counts.items() if count)
        raise DataError(
            f"{', '.join(config.data.train)}: no token would be trained ({fates})",
            why="The run would change nothing.",
            fix="Give rows with assistant turns that fit into tokens.max_length.",
        )
    whole = {str(example.source) for example in (kept or trained)}
    asked = [c for c in (held_out or train) if str(c.source) in whole and c.asked.messages]
    return Prepared(
        train=table,
        held_out=TokenTable.from_examples(kept),
        prompts=tuple(asked[: config.evaluate.samples]),
        examples=tuple(trained[:3]),
        ledger=ledger,
    )


def _read(config: RunConfig, paths: Sequence[str], ledger: Ledger) -> list[Conversation]:
    conversations, bad = read_rows(paths)
    ledger.counts["read"] += len(conversations) + len(bad)
    if bad and config.data.bad_rows == "error":
        raise summarised(bad)
    for row in bad:
        ledger.note("rejected", row.source, row.error.what)
    return conversations


def _encode(
    config: RunConfig,
    template: ChatTemplate,
    conversations: Sequence[Conversation],
    limit: int,
    ledger: Ledger,
) -> list[Example]:
    examples: list[Example] = []
    for conversation in conversations:
        found = encode(conversation, template)
        if not found:
            ledger.note("no assistant turn", conversation.source, "nothing in it is to be learnt")
        for example in found:
            length = len(example.input_ids)
            if length <= limit:
                examples.append(example)
                continue
            reason = f"{length} tokens, at most {limit} fit"
            if config.tokens.too_long == "error":
                raise DataError(
                    f"{example.source}: {reason}",
                    why="Cutting it would train an answer without its end.",
                    fix="Shorten the row, raise tokens.max_length, or set tokens.too_long: drop.",
                )
            ledger.note("too long", example.source, reason)
    return examples
