"""Files of rows to token tables, with every row that is not trained as it stands accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from burnish.config import RunConfig
from burnish.curate import split
from burnish.data import Conversation, Source
from burnish.data.read import read_rows, summarised
from burnish.errors import ConfigError, DataError
from burnish.recipes.broken import Broken
from burnish.template import ChatTemplate
from burnish.tokens import Encoded, Example, Fitted, TokenTable, encode_all, fit

SHOWN = 3
"""Training examples kept to be shown."""


@dataclass
class Ledger:
    """What became of each row: a line for those that are not trained as they stand, and all counts."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lost_tokens: int = 0
    lost_trained: int = 0

    def note(self, fate: str, source: Source, reason: str) -> None:
        self.counts[fate] += 1
        self.lines.append({"fate": fate, "path": source.path, "row": source.row, "reason": reason})

    def note_fitted(self, fitted: Fitted, source: Source) -> None:
        if fitted.fate:
            self.note(fitted.fate, source, fitted.reason)
            self.lost_tokens += max(fitted.lost_tokens, 0)
            self.lost_trained += max(fitted.lost_trained, 0)


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
            "lost_tokens": self.ledger.lost_tokens,
            "lost_trained_tokens": self.ledger.lost_trained,
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
        lost = ""
        if self.ledger.lost_tokens:
            lost = (
                f" Their length cost {self.ledger.lost_tokens:,} tokens, "
                f"{self.ledger.lost_trained:,} of them to be learnt."
            )
        return f"{counts['read']:,} rows read: {', '.join(parts)}.{lost}"


def prepare(config: RunConfig, template: ChatTemplate, positions: int | None) -> Prepared:
    """Read, split and encode what ``config.data`` names, for a model with so many positions.

    Raises ``DataError`` for bad rows (unless they are skipped) and where nothing would be trained,
    ``TemplateError`` with all rows for which the template breaks a mask law.
    """
    if not config.data.train:
        raise ConfigError("data.train names no file", fix="Give --data rows.jsonl, or set data.train.")
    ledger = Ledger()
    rows = read_counted(config, config.data.train, ledger)
    if config.data.held_out:
        train, held_out = rows, read_counted(config, config.data.held_out, ledger)
    else:
        train, held_out = split(rows, config.data.held_out_share, config.train.seed)
    limit = length_limit(config, positions)
    broken = Broken(template, config.tokens.train_on)
    trained, examples, kept_train = _table(config, template, train, limit, ledger, broken)
    kept, _, kept_held_out = _table(config, template, held_out, limit, ledger, broken)
    if broken.groups:
        raise broken.as_error(len(train) + len(held_out))
    ledger.counts["trained"], ledger.counts["held out"] = len(kept_train), len(kept_held_out)
    if not trained.trained_tokens:
        fates = ", ".join(f"{count} {fate}" for fate, count in ledger.counts.items() if count)
        raise DataError(
            f"{', '.join(config.data.train)}: no token would be trained ({fates})",
            why="The run would change nothing.",
            fix="Give rows with assistant turns that are to be learnt and fit into tokens.max_length.",
        )
    asked = [c for c in (kept_held_out or kept_train) if c.asked.messages]
    return Prepared(
        train=trained,
        held_out=kept,
        prompts=tuple(asked[: config.evaluate.samples]),
        examples=examples,
        ledger=ledger,
    )


def length_limit(config: RunConfig, positions: int | None) -> int:
    return min(config.tokens.max_length, positions or config.tokens.max_length)


def read_counted(config: RunConfig, paths: Sequence[str], ledger: Ledger) -> list[Conversation]:
    """The rows that can be read. The others stop the run or stand in the ledger, as the config says."""
    conversations, bad = read_rows(paths)
    ledger.counts["read"] += len(conversations) + len(bad)
    if bad and config.data.bad_rows == "error":
        raise summarised(bad)
    for row in bad:
        ledger.note("rejected", row.source, row.error.what)
    return conversations


def fitted_rows(
    config: RunConfig, template: ChatTemplate, rows: Iterable[Conversation], limit: int, broken: Broken
) -> Iterator[tuple[Encoded, Fitted]]:
    """Each row encoded and brought to the limit. Rows that break a law go to ``broken`` and no further."""
    for encoded in encode_all(rows, template, train_on=config.tokens.train_on):
        if encoded.error:
            broken.add(encoded.conversation, encoded.error)
            continue
        fitted = fit(encoded, template, limit, config.tokens.too_long)
        longest = max((len(example.input_ids) for example in encoded.examples), default=0)
        if longest > limit and config.tokens.too_long == "error":
            raise DataError(
                f"{encoded.conversation.source}: {longest} tokens, at most {limit} fit",
                why="Nothing is cut unless tokens.too_long says how.",
                fix="Shorten the row, raise tokens.max_length, or choose another tokens.too_long.",
            )
        yield encoded, fitted


def _table(
    config: RunConfig,
    template: ChatTemplate,
    rows: Sequence[Conversation],
    limit: int,
    ledger: Ledger,
    broken: Broken,
) -> tuple[TokenTable, tuple[Example, ...], list[Conversation]]:
    """The rows' tokens, a few examples to show, and the conversations that have any."""
    shown: list[Example] = []
    kept: list[Conversation] = []

    def examples() -> Iterator[Example]:
        for encoded, fitted in fitted_rows(config, template, rows, limit, broken):
            ledger.note_fitted(fitted, encoded.conversation.source)
            if fitted.examples:
                kept.append(encoded.conversation)
            shown.extend(fitted.examples[: SHOWN - len(shown)])
            yield from fitted.examples

    return TokenTable.from_examples(examples()), tuple(shown), kept
