"""What a run refuses of its rows: the errors that ``prepare`` raises and ``check`` shows."""

from __future__ import annotations

from burnish.config import TrainConfig
from burnish.data import Source
from burnish.data.read import each_row, summarised
from burnish.errors import ConfigError, DataError
from burnish.prepare.ledger import ALSO_TRAINED, HELD_OUT, READ, Ledger
from burnish.prepare.source import DataSource, Survey
from burnish.run.state import keeps_best


def require_beginnings(source: DataSource) -> None:
    """Raises a ``BurnishError`` where no file is named, or one has no beginning that can be read: what
    ``prepare`` would say too, minutes later, once the model is loaded."""
    if not source.train:
        raise ConfigError("data.train names no file", fix="Give --data rows.jsonl, or set data.train.")
    for place in (*source.train, *source.held_out):
        next(each_row(place), None)


def refused_survey(source: DataSource, survey: Survey, ledger: Ledger) -> DataError | None:
    """What is known before any row is encoded: rows that cannot be read, and that none is left to measure."""
    if survey.bad and source.bad_rows == "error":
        return summarised(survey.bad)
    if source.held_out and not survey.measured.any():
        return nothing_held_out(source, ledger)
    return None


def too_long(source: Source, tokens: int, limit: int) -> DataError:
    return DataError(
        f"{source}: {tokens} tokens, at most {limit} fit",
        why="Nothing is cut unless tokens.too_long says how.",
        fix="Shorten the row, raise tokens.max_length, or choose another tokens.too_long.",
    )


def refused_sides(source: DataSource, ledger: Ledger, trained_tokens: int) -> DataError | None:
    """What is known once all rows are encoded, and counted: that nothing is left to train or to measure."""
    if not trained_tokens:
        return DataError(
            f"{', '.join(map(str, source.train))}: no token would be trained ({_fates(ledger)})",
            why="The run would change nothing.",
            fix="Give rows with assistant turns that are to be learnt and fit into tokens.max_length.",
        )
    if source.held_out and not ledger.counts[HELD_OUT]:
        return nothing_held_out(source, ledger)
    return None


def refused_settings(settings: TrainConfig, held_out: int) -> ConfigError | None:
    """What cannot be had with so many rows held out."""
    try:
        keeps_best(settings, held_out)
    except ConfigError as error:
        return error
    return None


def nothing_held_out(source: DataSource, ledger: Ledger) -> DataError:
    also = ledger.counts[ALSO_TRAINED]
    return DataError(
        f"{', '.join(map(str, source.held_out))}: no row is left to measure ({_fates(ledger)})",
        why="What is measured on rows that are trained too says nothing of others."
        if also
        else "data.held_out is there to be measured.",
        fix="Name a file of other rows, or take data.held_out out: then a share of the rows is set aside.",
    )


def _fates(ledger: Ledger) -> str:
    counts = sorted(ledger.counts.items(), key=lambda item: (item[0] != READ, item[0]))
    return ", ".join(f"{count} {fate}" for fate, count in counts if count) or "no row"
