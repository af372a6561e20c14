"""Files of rows to token tables, with every row that is not trained as it stands accounted for.

    files -> rows -> encoded -> fitted to the limit -> table and ledger -> Prepared

Each row goes through once, one after the other, so that memory stays flat however many there are. In front
stands the cache: what was prepared before from the same files in the same way is taken from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

from burnish.config import RunConfig
from burnish.data import Conversation
from burnish.errors import ConfigError
from burnish.prepare.cache_key import cache_key
from burnish.prepare.in_memory import NOTHING, InMemory
from burnish.prepare.ledger import HELD_OUT, TRAINED, Ledger
from burnish.prepare.prepared import TABLES, Notes, Prepared, RowsByFile
from burnish.prepare.refusals import refused_sides, refused_survey
from burnish.prepare.rows import RowEncoder, fitted_rows, watched
from burnish.prepare.source import DataSource
from burnish.run.screen import Screen, SilentScreen
from burnish.template import ChatTemplate
from burnish.tokens import Example, Fitted, cache
from burnish.tokens.table import GrowingTable

SHOWN = 3
"""Training examples kept to be shown."""


def prepare(
    config: RunConfig,
    template: ChatTemplate,
    positions: int | None,
    screen: Screen | None = None,
    in_memory: InMemory = NOTHING,
) -> Prepared:
    """Read, split and encode what ``config.data`` names, or the rows ``in_memory`` that stand for it, for a
    model of so many ``positions``.

    The result is kept in the cache, and taken from there where all that goes into it is the same. Raises
    ``DataError`` for bad rows (unless they are skipped) and where nothing would be trained,
    ``TemplateError`` with all rows for which the template breaks a mask law.
    """
    if not config.data.train:
        raise ConfigError("data.train names no file", fix="Give --data rows.jsonl, or set data.train.")
    source = DataSource.of(config.data, config.train.seed, in_memory)
    encoder = RowEncoder.of(template, config.tokens, positions, config.adapter.before_text)
    samples, screen = config.evaluate.samples, screen or SilentScreen()
    before = source.stamps()
    key = cache_key(source, encoder, samples) if config.data.cache else None
    if key is None:
        return _in_memory(source, encoder, samples, screen)
    folder = cache.place() / key
    try:
        if kept := cache.load(folder):
            return _prepared(kept)
    except cache.DamagedCache as error:
        screen.warn(f"The prepared data in {folder} is damaged and is made anew: {error}.")
    try:
        with cache.staged(folder) as stage:
            with cache.growing(stage, TABLES) as tables:
                notes = _fill(tables, source, encoder, samples, screen)
            kept = cache.complete(stage, tables, notes.as_json())
            if source.stamps() == before:  # else the rows are no longer those that the key is of
                cache.publish(stage, folder)
            return _prepared(kept)
    except OSError as error:
        screen.warn(f"The prepared data is not kept for the next run: {error}.")
    return _in_memory(source, encoder, samples, screen)


def _prepared(kept: cache.Kept) -> Prepared:
    return Prepared(kept.tables["train"], kept.tables["held_out"], Notes.of_json(kept.rest))


def _in_memory(source: DataSource, encoder: RowEncoder, samples: int, screen: Screen) -> Prepared:
    tables = {name: GrowingTable(BytesIO(), BytesIO()) for name in TABLES}
    notes = _fill(tables, source, encoder, samples, screen)
    return Prepared(tables["train"].in_memory(), tables["held_out"].in_memory(), notes)


def _fill(
    tables: Mapping[str, GrowingTable],
    source: DataSource,
    encoder: RowEncoder,
    samples: int,
    screen: Screen,
) -> Notes:
    """Fill the tables, and return what else is known of the rows.

    The files are read once before, for which rows are bad and which are held out: that must be known before
    any is encoded, and to keep the rows meanwhile would take ten times the memory of their tokens.
    """
    ledger = Ledger()
    survey = source.survey(ledger)
    if error := refused_survey(source, survey, ledger):
        raise error
    violations = encoder.violations()
    trained, held = _Side(tables["train"], samples), _Side(tables["held_out"], samples)
    rows = watched(source.rows(), len(survey), "Encoding", screen)
    for number, encoded, fitted in fitted_rows(rows, encoder, violations):
        if survey.also_trained[number]:
            continue
        ledger.note_fitted(fitted, encoded)
        if fitted.examples:
            (held if survey.held_out[number] else trained).add(encoded.conversation, fitted)
    if violations.groups:
        raise violations.as_error(len(survey))
    ledger.counts[TRAINED], ledger.counts[HELD_OUT] = trained.rows, held.rows
    if error := refused_sides(source, ledger, trained.trained_tokens):
        raise error
    prompts = tuple(held.prompts if held.rows else trained.prompts)
    return Notes(prompts, tuple(trained.examples), ledger, trained.rows_by_file)


@dataclass
class _Side:
    """What becomes of the rows to train on, or of those held out: all of their tokens, ``samples`` of their
    prompts and the first examples."""

    table: GrowingTable
    samples: int
    rows: int = 0
    trained_tokens: int = 0
    prompts: list[Conversation] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    rows_by_file: RowsByFile = field(default_factory=list)

    def add(self, conversation: Conversation, fitted: Fitted) -> None:
        self.rows += 1
        if len(self.prompts) < self.samples and conversation.asked.messages:
            self.prompts.append(conversation)
        self.examples.extend(fitted.examples[: SHOWN - len(self.examples)])
        for example in fitted.examples:
            path, row = example.source.path, example.source.row
            if not self.rows_by_file or self.rows_by_file[-1][0] != path:
                self.rows_by_file.append((path, []))
            self.rows_by_file[-1][1].append(row)
            self.table.add(example.input_ids, example.weights)
            self.trained_tokens += example.trained_tokens
