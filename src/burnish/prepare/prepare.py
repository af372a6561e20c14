"""Files of rows to token tables, with every row that is not trained as it stands accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from burnish.config import RunConfig
from burnish.curate.split import held_out_rows, prompt_hash
from burnish.data import Conversation, Message, Source
from burnish.data.conversation import Span
from burnish.data.read import BadRow, each_row, summarised
from burnish.errors import ConfigError, DataError
from burnish.numbers import plural
from burnish.prepare.cache_key import cache_key
from burnish.prepare.ledger import Ledger
from burnish.prepare.violations import Violations
from burnish.run.screen import Screen, Silence
from burnish.template import ChatTemplate
from burnish.tokens import Encoded, Example, Fitted, TokenTable, cache, encode_all, fit
from burnish.tokens.table import GrowingTable

SHOWN = 3
"""Training examples kept to be shown."""


Origins = list[tuple[str, list[int]]]
"""File by file, the row that each document of a token table was made of, in the table's order."""


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
    origins: Origins

    def source(self, row: int) -> Source:
        """Where a row of the table ``train`` comes from."""
        for path, rows in self.origins:
            if row < len(rows):
                return Source(path, rows[row])
            row -= len(rows)
        raise IndexError(row)

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
            f"{plural(counts['trained'], 'row')} to train on ({self.train.trained_tokens:,} of "
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
        return f"{plural(counts['read'], 'row')} read: {', '.join(parts)}.{lost}"


TABLES = ("train", "held_out")


def prepare(
    config: RunConfig, template: ChatTemplate, positions: int | None, screen: Screen | None = None
) -> Prepared:
    """Read, split and encode what ``config.data`` names, for a model with so many positions.

    The result is kept in the cache, and taken from there where all that goes into it is the same. Raises
    ``DataError`` for bad rows (unless they are skipped) and where nothing would be trained,
    ``TemplateError`` with all rows for which the template breaks a mask law.
    """
    if not config.data.train:
        raise ConfigError("data.train names no file", fix="Give --data rows.jsonl, or set data.train.")
    screen = screen or Silence()
    limit = length_limit(config, positions)
    files = [Path(path) for path in (*config.data.train, *config.data.held_out)]
    before = _stamps(files)
    key = cache_key(config, template, limit) if config.data.cache else None
    if key is None:
        return _in_memory(config, template, limit)
    folder = cache.place() / key
    try:
        if kept := cache.load(folder):
            return _prepared(kept)
    except cache.DamagedCache as error:
        screen.warn(f"The prepared data in {folder} is damaged and is made anew: {error}.")
    try:
        with cache.staged(folder) as stage:
            with cache.growing(stage, TABLES) as tables:
                rest = _encode(config, template, limit, tables)
            kept = cache.complete(stage, tables, _as_json(*rest))
            if _stamps(files) == before:  # else the rows are no longer those that the key is of
                cache.publish(stage, folder)
            return _prepared(kept)
    except OSError as error:
        screen.warn(f"The prepared data is not kept for the next run: {error}.")
    return _in_memory(config, template, limit)


def _in_memory(config: RunConfig, template: ChatTemplate, limit: int) -> Prepared:
    tables = {name: GrowingTable(BytesIO(), BytesIO()) for name in TABLES}
    prompts, examples, ledger, origins = _encode(config, template, limit, tables)
    train, held_out = (tables[name].in_memory() for name in TABLES)
    return Prepared(train, held_out, prompts, examples, ledger, origins)


def _stamps(files: Sequence[Path]) -> list[tuple[int, int]]:
    stats = [path.stat() for path in files if path.is_file()]
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats]


@dataclass
class _Side:
    """What becomes of the rows to train on, or of those held out."""

    table: GrowingTable
    rows: int = 0
    trained_tokens: int = 0
    asked: list[Conversation] = field(default_factory=list)
    origins: Origins = field(default_factory=list)

    def add(self, example: Example) -> None:
        path, row = example.source.path, example.source.row
        if not self.origins or self.origins[-1][0] != path:
            self.origins.append((path, []))
        self.origins[-1][1].append(row)
        self.table.add(example.input_ids, example.weights)
        self.trained_tokens += example.trained_tokens


def _encode(
    config: RunConfig, template: ChatTemplate, limit: int, tables: Mapping[str, GrowingTable]
) -> tuple[tuple[Conversation, ...], tuple[Example, ...], Ledger, Origins]:
    """Fill the tables. Gives what else is ``Prepared``: prompts, examples, ledger and origins.

    The files are read twice: bad rows, and which rows are held out, must be known before any is encoded;
    to keep the rows meanwhile would take ten times the memory of their tokens.
    """
    ledger = Ledger()
    held_out = _held_out(config, ledger)
    paths = (*config.data.train, *config.data.held_out)
    rows = (row for row in each_row(paths) if not isinstance(row, BadRow))
    broken = Violations(template, config.tokens.train_on)
    trained, held = (_Side(tables[name]) for name in TABLES)
    shown: list[Example] = []
    for number, encoded, fitted in fitted_rows(config, template, rows, limit, broken):
        ledger.note_fitted(fitted, encoded.conversation.source)
        if not fitted.examples:
            continue
        side = held if held_out[number] else trained
        side.rows += 1
        if len(side.asked) < config.evaluate.samples and encoded.conversation.asked.messages:
            side.asked.append(encoded.conversation)
        if side is trained:
            shown.extend(fitted.examples[: SHOWN - len(shown)])
        for example in fitted.examples:
            side.add(example)
    if broken.groups:
        raise broken.as_error(len(held_out))
    ledger.counts["trained"], ledger.counts["held out"] = trained.rows, held.rows
    if not trained.trained_tokens:
        fates = ", ".join(f"{count} {fate}" for fate, count in ledger.counts.items() if count)
        raise DataError(
            f"{', '.join(config.data.train)}: no token would be trained ({fates})",
            why="The run would change nothing.",
            fix="Give rows with assistant turns that are to be learnt and fit into tokens.max_length.",
        )
    prompts = tuple(held.asked if held.rows else trained.asked)
    return prompts, tuple(shown), ledger, trained.origins


def length_limit(config: RunConfig, positions: int | None) -> int:
    return min(config.tokens.max_length, positions or config.tokens.max_length)


def _held_out(config: RunConfig, ledger: Ledger) -> np.ndarray:
    """Whether each row that can be read is held out."""
    data, seed = config.data, config.train.seed
    prompts = [prompt_hash(conversation, seed) for conversation in _readable(config, data.train, ledger)]
    if not data.held_out:
        return held_out_rows(prompts, data.held_out_share)
    others = sum(1 for _ in _readable(config, data.held_out, ledger))
    return np.repeat([False, True], [len(prompts), others])


def _readable(config: RunConfig, paths: Sequence[str], ledger: Ledger) -> Iterator[Conversation]:
    """The rows that can be read. The others stop the run or stand in the ledger, as the config says."""
    bad = []
    for row in each_row(paths):
        ledger.counts["read"] += 1
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            yield row
    if bad and config.data.bad_rows == "error":
        raise summarised(bad)
    for row in bad:
        ledger.note("rejected", row.source, row.error.what)


def fitted_rows(
    config: RunConfig, template: ChatTemplate, rows: Iterable[Conversation], limit: int, broken: Violations
) -> Iterator[tuple[int, Encoded, Fitted]]:
    """Each row encoded and brought to the limit, with its number among ``rows``, from 0. Rows that break a
    law go to ``broken`` and no further."""
    for number, encoded in enumerate(encode_all(rows, template, train_on=config.tokens.train_on)):
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
        yield number, encoded, fitted


# Prepared, but for its tables, to JSON and back.


def _as_json(
    prompts: Sequence[Conversation], examples: Sequence[Example], ledger: Ledger, origins: Origins
) -> dict[str, Any]:
    return {
        "prompts": [_conversation_as_json(conversation) for conversation in prompts],
        "examples": [_example_as_json(example) for example in examples],
        "ledger": _as_fields(ledger),
        "origins": origins,
    }


def _prepared(kept: cache.Kept) -> Prepared:
    rest = kept.rest
    return Prepared(
        train=kept.tables["train"],
        held_out=kept.tables["held_out"],
        prompts=tuple(_conversation(row) for row in rest["prompts"]),
        examples=tuple(_example(row) for row in rest["examples"]),
        ledger=Ledger(**rest["ledger"] | {"counts": Counter(rest["ledger"]["counts"])}),
        origins=[(path, rows) for path, rows in rest["origins"]],
    )


def _as_fields(thing: Any) -> dict[str, Any]:
    """A dataclass as a dict of its fields, one level deep."""
    return {item.name: getattr(thing, item.name) for item in fields(thing)}


def _conversation_as_json(conversation: Conversation) -> dict[str, Any]:
    messages = [
        _as_fields(message) | {"spans": [asdict(span) for span in message.spans]}
        for message in conversation.messages
    ]
    return _as_fields(conversation) | {"messages": messages, "source": asdict(conversation.source)}


def _conversation(row: Mapping[str, Any]) -> Conversation:
    messages = tuple(
        Message(**message | {"spans": tuple(Span(**span) for span in message["spans"])})
        for message in row["messages"]
    )
    changed = {"messages": messages, "tools": tuple(row["tools"]), "source": Source(**row["source"])}
    return Conversation(**{**row, **changed})


def _example_as_json(example: Example) -> dict[str, Any]:
    whole = example.conversation and _conversation_as_json(example.conversation)
    return _as_fields(example) | {"source": asdict(example.source), "conversation": whole}


def _example(row: Mapping[str, Any]) -> Example:
    changed = {
        "source": Source(**row["source"]),
        "turns": tuple(row["turns"]),
        "places": tuple(row["places"]),
        "conversation": row["conversation"] and _conversation(row["conversation"]),
    }
    return Example(**{**row, **changed})
