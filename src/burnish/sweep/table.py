"""The table of a sweep: what each run gave, gathered over its seeds, as text and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from burnish.files import read_json
from burnish.numbers import signed
from burnish.run.folder import RunFolder

SEED = "train.seed"
NOTHING = "\N{EN DASH}"
MARK = "*"


@dataclass(frozen=True)
class Result:
    """One combination of a sweep: what was set, how far it came, and its figures once it has finished.

    ``peak``: bytes of memory, the most that its process had at once; 0 where nobody looked.
    """

    name: str
    values: dict[str, Any]
    state: Literal["waiting", "unfinished", "failed", "finished"] = "waiting"
    error: str = ""
    peak: int = 0
    figures: dict[str, float] | None = None


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds of a combination."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Row:
    """A combination of the keys other than the seed. ``runs``: how many seeds it has."""

    values: dict[str, Any]
    runs: int
    finished: int
    failed: int
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Column:
    """A figure as the table shows it; ``better`` is empty where neither end is the good one."""

    key: str
    title: str
    unit: str
    better: Literal["lower", "higher", ""]
    shown: Callable[[float], str]


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _points(value: float) -> str:
    return signed(100 * value, 1)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


COLUMNS = (
    Column("held_out_loss", "held-out loss", "nats", "lower", lambda v: f"{v:.3f}"),
    Column("base_held_out_loss", "of the base", "nats", "", lambda v: f"{v:.3f}"),
    Column("held_out_accuracy", "accuracy", "%", "higher", _share),
    Column("prose_change", "prose loss", "nats", "lower", lambda v: signed(v, 3)),
    Column("cloze_change", "cloze", "points", "higher", _points),
    Column("trainable", "trained", "weights", "lower", lambda v: f"{v:,.0f}"),
    Column("trainable_share", "of all", "%", "", lambda v: f"{100 * v:.3g}"),
    Column("training_seconds", "training", "s", "lower", _amount),
    Column("tokens_per_second", "speed", "tokens/s", "higher", _amount),
    Column("peak_memory", "memory", "GB", "lower", lambda v: f"{v:.2f}"),
)
GIVEN, COST = COLUMNS[:5], COLUMNS[5:]
"""What a run gives or takes away, and what it costs."""


def figures_of(run: RunFolder, peak: int) -> dict[str, float]:
    """The figures of a finished run, by the keys of ``COLUMNS``; those that are no finite number are left
    out. ``peak``: bytes, 0 where nobody looked."""
    evaluation, origin = read_json(run.evaluation), read_json(run.provenance)
    base, tuned, parameters = evaluation["base"], evaluation["tuned"], origin["parameters"]
    figures = {
        "held_out_loss": tuned.get("held_out_loss"),
        "base_held_out_loss": base.get("held_out_loss"),
        "held_out_accuracy": tuned.get("held_out_accuracy"),
        "prose_change": _change(base, tuned, "prose_loss"),
        "cloze_change": _change(base, tuned, "cloze_accuracy"),
        "trainable": parameters["trainable"],
        "trainable_share": parameters["trainable"] / parameters["total"],
        "training_seconds": origin["training_seconds"],
        "tokens_per_second": origin["tokens_per_second"],
        "peak_memory": peak / 1e9 if peak else None,
    }
    return {key: value for key, value in figures.items() if value is not None and math.isfinite(value)}


def _change(base: dict[str, Any], tuned: dict[str, Any], name: str) -> float | None:
    return tuned[name] - base[name] if name in base and name in tuned else None


def gathered(results: Sequence[Result]) -> list[Row]:
    """Results that differ in their seed alone, as a row with the mean and the range of each figure."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        rest = {key: value for key, value in result.values.items() if key != SEED}
        groups.setdefault(json.dumps(rest), []).append(result)
    return [
        Row(
            values=json.loads(rest),
            runs=len(group),
            finished=sum(result.state == "finished" for result in group),
            failed=sum(result.state == "failed" for result in group),
            figures=_spreads([result.figures for result in group if result.figures]),
        )
        for rest, group in groups.items()
    ]


def _spreads(runs: Sequence[dict[str, float]]) -> dict[str, Spread]:
    spreads = {}
    for column in COLUMNS:
        values = [run[column.key] for run in runs if column.key in run]
        if values:
            mean = math.fsum(values) / len(values)
            spreads[column.key] = Spread(mean, min(values), max(values), len(values))
    return spreads


def labels(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, where no other key ends in the same: {"adapter.kind": "kind"}."""
    ends = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def shown(value: Any) -> str:
    """A value as a person would type it."""
    match value:
        case float():
            return f"{value:.12g}"
        case str():
            return value
        case list() if all(isinstance(item, str) for item in value):
            return "+".join(value)
    return json.dumps(value)


def present(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> list[Column]:
    """The columns that at least one row has a figure for."""
    return [column for column in columns if any(column.key in row.figures for row in rows)]


def best(rows: Sequence[Row], column: Column) -> list[bool]:
    """Which rows have the best mean, as shown; none where all are the same."""
    means = [row.figures[column.key].mean if column.key in row.figures else None for row in rows]
    known = [mean for mean in means if mean is not None]
    if not column.better or len({column.shown(mean) for mean in known}) < 2:
        return [False] * len(rows)
    top = column.shown(min(known) if column.better == "lower" else max(known))
    return [mean is not None and column.shown(mean) == top for mean in means]


def cell(row: Row, column: Column) -> tuple[str, str]:
    """(mean, range); the range is empty where there is one seed, or where all agree."""
    spread = row.figures.get(column.key)
    if spread is None:
        return NOTHING, ""
    low, high = column.shown(spread.low), column.shown(spread.high)
    return column.shown(spread.mean), f"{low} to {high}" if low != high else ""


def state(row: Row) -> str:
    """How many of its runs have finished: ``3``, or ``1 of 3, 2 failed``."""
    done = str(row.runs) if row.finished == row.runs else f"{row.finished} of {row.runs}"
    return f"{done}, {row.failed} failed" if row.failed else done


def text_table(rows: Sequence[Row], width: int | None = None) -> str:
    """The rows with aligned columns, the best of each marked. In several tables below each other, where one
    would be wider than ``width`` characters; None: no limit."""
    tables: list[list[str]] = []
    columns: list[Column] = []
    for column in present(rows):
        wider = _text(rows, [*columns, column])
        if columns and width is not None and len(wider[0]) > width:
            columns, wider = [column], _text(rows, [column])
            tables.append([])
        columns = columns if columns[-1:] == [column] else [*columns, column]
        tables[-1:] = [wider]
    if not tables:
        tables = [_text(rows, [])]
    if any(any(best(rows, column)) for column in present(rows)):
        tables.append([f"{MARK} the best of its column"])
    return "\n\n".join("\n".join(line.rstrip() for line in table) for table in tables)


def _text(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    named = labels(list(rows[0].values))
    sheet = [
        _aligned([label, "", *[shown(row.values[key]) for row in rows]], right=False)
        for key, label in named.items()
    ]
    sheet.append(_aligned(["runs", "", *map(state, rows)], right=False))
    for column in present(rows, columns):
        marks, cells = best(rows, column), [cell(row, column) for row in rows]
        room = " " if any(marks) else ""
        means = [mean + (MARK if mark else room) for (mean, _), mark in zip(cells, marks, strict=True)]
        ranges = [f" ({spread})" if spread else "" for _, spread in cells]
        body = [
            mean + spread for mean, spread in zip(_aligned(means), _aligned(ranges, right=False), strict=True)
        ]
        sheet.append(_aligned([column.title, column.unit, *body], right=not any(ranges)))
    lines = ["  ".join(line) for line in zip(*sheet, strict=True)]
    return [*lines[:2], "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * len(lines[0]), *lines[2:]]


def _aligned(texts: Sequence[str], right: bool = True) -> list[str]:
    width = max(map(len, texts))
    return [text.rjust(width) if right else text.ljust(width) for text in texts]


def as_csv(rows: Sequence[Row]) -> str:
    """A line a row: the swept keys, how many runs have finished and failed, and of each figure the mean, the
    least and the most. Shares are shares of one, not percent."""
    columns = present(rows)
    names = [f"{column.key}{end}" for column in columns for end in ("", "_min", "_max")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*rows[0].values, "runs", "finished", "failed", *names])
    for row in rows:
        spreads = [row.figures.get(column.key) for column in columns]
        figures = [(s.mean, s.low, s.high) if s else ("", "", "") for s in spreads]
        values = [shown(value) for value in row.values.values()]
        writer.writerow(
            [*values, row.runs, row.finished, row.failed, *[x for three in figures for x in three]]
        )
    return file.getvalue()
